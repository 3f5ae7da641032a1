//go:build all

package readers

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// contactPrograms is everything a machine without Airlock has, beside a shell.
var contactPrograms = []string{"cat", "cp", "mv", "mkdir", "chmod", "sha256sum", "openssl", "tar", "zstd"}

const contactBundle = "contact-v1.0.0.tar.zst"

var contactTool = "airlock-" + runtime.GOOS + "-" + runtime.GOARCH

// procedure returns the commands of the README's section "First contact",
// exactly as they stand there, and the section before them.
func procedure(t testing.TB) (settings, commands string) {
	t.Helper()
	readme := string(read(t, "..", "..", "README.md"))
	if n := strings.Count(readme, "<!-- first-contact -->"); n != 1 {
		t.Fatalf("README.md has %d marks <!-- first-contact -->, want 1", n)
	}
	before, rest, _ := strings.Cut(readme, "<!-- first-contact -->\n```sh\n")
	commands, _, ok := strings.Cut(rest, "```\n<!-- /first-contact -->\n")
	_, settings, found := strings.Cut(before, "## First contact\n")
	if !ok || !found {
		t.Fatal("README.md has no section \"First contact\" with a block of commands between its marks")
	}
	return settings, commands
}

// medium is what a release engineer hands over.
type medium struct {
	dir, key, fingerprint string
}

// newMedium makes a bundle that carries the real binary, and lays the public
// key beside it.
func newMedium(t testing.TB, dir string) medium {
	t.Helper()
	src := t.TempDir()
	write(t, filepath.Join(src, "airlock.yaml"), []byte("apiVersion: airlock/v1\nkind: Bundle\nproduct: contact\nversion: v1.0.0\nrelease: 1\nfiles: [{path: docs, name: docs}]\n"))
	write(t, filepath.Join(src, "docs", "a.txt"), []byte("a\n"))
	out := run(t, src, "airlock", "keygen", "--name", "release")
	fingerprint := regexp.MustCompile(`SHA256:[0-9a-f]{64}`).FindString(out)
	if fingerprint == "" {
		t.Fatalf("keygen shows no fingerprint: %s", out)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, src, "airlock", "bundle", "create", "--key", "release.key", "-o", filepath.Join(dir, contactBundle))
	copyFile(t, filepath.Join(src, "release.pub"), filepath.Join(dir, "release.pub"))
	return medium{dir: dir, key: filepath.Join(dir, "release.pub"), fingerprint: fingerprint}
}

// clone returns a copy of the medium that a test may change.
func (m medium) clone(t testing.TB) medium {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "medium")
	run(t, t.TempDir(), "cp", "-r", m.dir, dir)
	return medium{dir: dir, key: filepath.Join(dir, "release.pub"), fingerprint: m.fingerprint}
}

// contact runs the procedure in the directory dir with nothing in PATH but
// contactPrograms.
func (m medium) contact(t testing.TB, dir string) (code int, output string) {
	t.Helper()
	_, commands := procedure(t)
	bin := t.TempDir()
	for _, p := range contactPrograms {
		path, err := exec.LookPath(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, p)); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", commands)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	cmd.Env = []string{"PATH=" + bin, "MEDIA=" + m.dir, "BUNDLE=" + contactBundle, "TOOL=" + contactTool, "KEY=" + m.key, "FINGERPRINT=" + m.fingerprint}
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatal(err)
		}
		code = exit.ExitCode()
	}
	return code, out.String()
}

// The README's commands, on a machine with coreutils, openssl, tar and zstd,
// end with a trusted binary that has verified the bundle.
func TestFirstContact(t *testing.T) {
	m := newMedium(t, filepath.Join(t.TempDir(), "my medium"))
	t.Run("as delivered", func(t *testing.T) {
		code, out := m.contact(t, t.TempDir())
		for _, want := range []string{"Verified OK", contactBundle + ": OK", contactTool + ": OK", m.fingerprint, "every byte verified"} {
			if code != 0 || !strings.Contains(out, want) {
				t.Fatalf("exit code %d, want 0 and %q:\n%s", code, want, out)
			}
		}
	})
	for name, c := range tampered() {
		t.Run(name, func(t *testing.T) {
			m, dir := m.clone(t), t.TempDir()
			c.change(t, &m)
			code, out := m.contact(t, dir)
			if code == 0 || !strings.Contains(out, c.says) || !strings.HasSuffix(out, "STOP: do not use anything on this medium\n") {
				t.Errorf("exit code %d, want a failure that says %q and STOP:\n%s", code, c.says, out)
			}
			if strings.Contains(out, "PAYLOAD") || strings.Contains(out, "every byte verified") {
				t.Errorf("something ran or was accepted:\n%s", out)
			}
			if left := shell(t, dir, `find first-contact -type f -perm /111`); !c.runs && left != "" {
				t.Errorf("left executable: %s", left)
			}
		})
	}
}

// payload is what an attacker wants to run.
var payload = []byte("#!/bin/sh\necho PAYLOAD\n")

type tampering struct {
	change func(testing.TB, *medium)
	says   string
	runs   bool // the genuine binary runs and refuses
}

func tampered() map[string]tampering {
	tool := func(m *medium) string { return filepath.Join(m.dir, contactTool) }
	sums := func(t testing.TB, m *medium) {
		shell(t, m.dir, `sha256sum "$1" "$2" >"$1.sha256"`, contactBundle, contactTool)
	}
	return map[string]tampering{
		"binary": {says: "Verification failure", change: func(t testing.TB, m *medium) {
			flip(t, tool(m))
			sums(t, m)
		}},
		"other binary, its bytes signed by nobody": {says: "Verification failure", change: func(t testing.TB, m *medium) {
			write(t, tool(m), payload)
			sums(t, m)
		}},
		"no signature": {says: contactTool + ".sig", change: func(t testing.TB, m *medium) {
			if err := os.Remove(tool(m) + ".sig"); err != nil {
				t.Fatal(err)
			}
		}},
		"signature of the index": {says: "Verification failure", change: func(t testing.TB, m *medium) {
			dir := auditor(t, filepath.Join(m.dir, contactBundle))
			shell(t, dir, opensslVerify, m.key)
			copyFile(t, filepath.Join(dir, "sig"), tool(m)+".sig")
		}},
		// Whoever can write the medium can sign all of it with a key of their own.
		"key, and everything signed with it": {says: "", change: func(t testing.TB, m *medium) {
			dir := t.TempDir()
			run(t, dir, "openssl", "ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", "evil.pem")
			run(t, dir, "openssl", "pkey", "-in", "evil.pem", "-pubout", "-out", m.key)
			write(t, tool(m), payload)
			run(t, dir, "openssl", "dgst", "-sha256", "-sign", "evil.pem", "-out", tool(m)+".sig", tool(m))
			run(t, dir, "openssl", "dgst", "-sha256", "-verify", m.key, "-signature", tool(m)+".sig", tool(m))
			sums(t, m)
		}},
		"key that is none": {says: "", change: func(t testing.TB, m *medium) { write(t, m.key, []byte("no key\n")) }},
		"fingerprint read out differs": {says: "", change: func(_ testing.TB, m *medium) {
			m.fingerprint = strings.Replace(m.fingerprint, m.fingerprint[7:15], "00000000", 1)
		}},
		"no fingerprint": {says: "", change: func(_ testing.TB, m *medium) { m.fingerprint = "" }},
		"bundle damaged on its way": {says: contactBundle + ": FAILED", change: func(t testing.TB, m *medium) {
			flip(t, filepath.Join(m.dir, contactBundle))
		}},
		"bundle and its checksum": {says: "airlock:", runs: true, change: func(t testing.TB, m *medium) {
			flip(t, filepath.Join(m.dir, contactBundle))
			sums(t, m)
		}},
	}
}

// flip changes one bit in the middle of a file.
func flip(t testing.TB, path string) {
	t.Helper()
	data := read(t, path)
	data[len(data)/2] ^= 1
	write(t, path, data)
}

// The section tells a reader to set every variable that its commands use.
func TestFirstContactSaysWhatToSet(t *testing.T) {
	settings, commands := procedure(t)
	var names []string
	for _, m := range regexp.MustCompile(`\$\{?([A-Z]+)`).FindAllStringSubmatch(commands, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) == 0 {
		t.Fatal("the commands use no variables")
	}
	for _, n := range names {
		if !strings.Contains(settings, "\n"+n+"=") {
			t.Errorf("the section does not say what %s is", n)
		}
	}
}
