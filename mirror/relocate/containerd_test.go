//go:build all

package relocate

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/testdata/pki"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
)

// TestContainerdReads lets containerd fetch, by the names of hosts that do not
// exist, what the tree says is below two prefixes of one registry.
func TestContainerdReads(t *testing.T) {
	ts := httptest.NewServer(olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}}))
	t.Cleanup(ts.Close)
	host := strings.TrimPrefix(ts.URL, "http://")
	m := &manifests.RelocationMap{Bundle: sum("0"), Target: host + "/airlock"}
	for source, place := range map[string]string{
		"quay.invalid/team/app:v1":      "airlock/team/app:v1",
		"quay.invalid/other/app:v1":     "elsewhere/deep/other/app:v1",
		"reg.invalid:5000/team/root:v1": "team/root:v1",
	} {
		if err := fixture.Push(t.Context(), host, place); err != nil {
			t.Fatal(err)
		}
		m.Entries = append(m.Entries, manifests.Relocation{Kind: "image", Source: source, SourceDigest: sum("1"), Target: host + "/" + place, Digest: sum("1")})
	}
	dir := t.TempDir()
	tree(t, dir, write(t, Containerd, m, Options{PlainHTTP: true}).Files)
	socket := daemon(t)
	for _, e := range m.Entries {
		out, err := exec.CommandContext(t.Context(), "ctr", "-a", socket, "content", "fetch", "--hosts-dir", dir, e.Source).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", e.Source, err, out)
		}
	}
	out, err := exec.CommandContext(t.Context(), "ctr", "-a", socket, "content", "fetch", "--hosts-dir", dir, "quay.invalid/team/absent:v1").CombinedOutput()
	if err == nil || strings.Contains(string(out), "no such host") {
		t.Errorf("a name that is not mirrored was looked for at its own host: %v\n%s", err, out)
	}
}

// TestContainerdReadsTarget lets containerd fetch by the name that an installation
// gives the image: it trusts the registry only by what the tree says.
func TestContainerdReadsTarget(t *testing.T) {
	root := pki.New(t, "Site A root")
	ts := httptest.NewUnstartedServer(olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}}))
	ts.TLS = &tls.Config{Certificates: []tls.Certificate{root.Server(t, []string{"127.0.0.1"})}}
	plain := httptest.NewServer(ts.Config.Handler)
	t.Cleanup(plain.Close)
	ts.StartTLS()
	t.Cleanup(ts.Close)
	if err := fixture.Push(t.Context(), strings.TrimPrefix(plain.URL, "http://"), "airlock/app:v1"); err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(ts.URL, "https://")
	m := &manifests.RelocationMap{Bundle: sum("0"), Target: host + "/airlock", Entries: []manifests.Relocation{
		{Kind: "image", Source: "quay.invalid/app:v1", SourceDigest: sum("1"), Target: host + "/airlock/app:v1", Digest: sum("1")},
	}}
	socket := daemon(t)
	for _, c := range []struct {
		options Options
		want    string // of an error; "" is none
	}{
		{Options{}, "failed to resolve reference"},
		{Options{CA: root.File(t)}, ""},
	} {
		dir := t.TempDir()
		tree(t, dir, write(t, Containerd, m, c.options).Files)
		out, err := exec.CommandContext(t.Context(), "ctr", "-a", socket, "content", "fetch", "--hosts-dir", dir, m.Entries[0].Target).CombinedOutput()
		if (err == nil) != (c.want == "") || !strings.Contains(string(out), c.want) {
			t.Errorf("%+v: %v, want %q:\n%s", c.options, err, c.want, out)
		}
	}
}

// tree writes files below a directory.
func tree(t *testing.T, dir string, files []File) {
	t.Helper()
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// daemon starts a containerd of its own and returns its socket.
func daemon(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctd") //nolint:usetesting // socket paths are short, a test's folder may not be
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "c.sock")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n", filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, "containerd", "-c", filepath.Join(dir, "config.toml"))
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		// It ends by our signal; one that ended before left a fetch without answer.
		if err := cmd.Wait(); t.Failed() {
			t.Logf("containerd: %v\n%s", err, log.String())
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for range 100 {
		if _, err := os.Stat(socket); err == nil {
			return socket
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("containerd made no socket")
	return ""
}
