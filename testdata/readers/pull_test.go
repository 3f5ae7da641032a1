//go:build all

package readers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/sirupsen/logrus"
)

// TestMirrorThenPull mirrors a bundle with every kind of item into each
// registry, and takes every item out again with the program that its users
// have. olareg has the referrers API, the others do not: what looks for
// signatures then goes by the tags of cosign and of the distribution-spec.
func TestMirrorThenPull(t *testing.T) {
	for name, start := range map[string]func(testing.TB) string{
		"olareg": registry, "distribution": distribution, "docker-registry": dockerRegistry,
	} {
		t.Run(name, func(t *testing.T) {
			host := start(t)
			run(t, t.TempDir(), "airlock", "mirror", lab.bundle, "--to", host, "--plain-http", host, "--key", lab.pub)
			checkImages(t, host)
			checkChart(t, host)
			checkImageSignatures(t, host)
			checkDiscovery(t, host)
			checkArtifacts(t, host)
		})
	}
}

// checkImages copies every image by tag and by digest with skopeo.
func checkImages(t *testing.T, host string) {
	t.Helper()
	for _, ref := range []string{lab.images.app, lab.images.multi, lab.images.odd, lab.images.pinned} {
		want, at := lab.images.digests[ref], place(host, ref)
		repository, _, _ := strings.Cut(at, "@")
		if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
			repository = repository[:i]
		}
		for _, at := range []string{at, repository + "@" + want} {
			dir := filepath.Join(t.TempDir(), "dir")
			skopeo(t, "copy", "-q", "--all", "--preserve-digests", "--src-tls-verify=false", "docker://"+at, "dir:"+dir)
			if got := manifestDigest(t, dir); got != want {
				t.Errorf("skopeo copied %s from %s, want %s", got, at, want)
			}
		}
	}
}

// discovered is what oras discover says.
type discovered struct {
	Referrers []struct {
		ArtifactType string `json:"artifactType"`
		Digest       string `json:"digest"`
	} `json:"referrers"`
	Manifests []struct {
		ArtifactType string `json:"artifactType"`
		Digest       string `json:"digest"`
	} `json:"manifests"`
}

// checkDiscovery looks for signatures as users do: cosign tree and oras discover.
func checkDiscovery(t *testing.T, host string) {
	t.Helper()
	app, multi := place(host, lab.images.app), place(host, lab.images.multi)
	tree := run(t, t.TempDir(), "cosign", "tree", "--allow-http-registry", app)
	if want := strings.Replace(lab.images.digests[lab.images.app], ":", "-", 1) + ".sig"; !strings.Contains(tree, want) {
		t.Errorf("cosign tree %s does not show %s:\n%s", app, want, tree)
	}
	var d discovered
	out := run(t, t.TempDir(), "oras", "discover", "--plain-http", "--format", "json", multi)
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatalf("oras discover: %v\n%s", err, out)
	}
	found := append(d.Referrers, d.Manifests...)
	if len(found) != 1 || !strings.HasPrefix(found[0].ArtifactType, "application/vnd.dev.sigstore.bundle") {
		t.Fatalf("oras discovers %+v, want one sigstore bundle\n%s", found, out)
	}
	repository := strings.TrimSuffix(multi, ":v2")
	manifest := run(t, t.TempDir(), "oras", "manifest", "fetch", "--plain-http", repository+"@"+found[0].Digest)
	if !strings.Contains(manifest, lab.images.digests[lab.images.multi]) {
		t.Errorf("the referrer does not name its subject:\n%s", manifest)
	}
}

// checkArtifacts pulls files and modules with oras: as an archive each, under
// the name that a bundle gives them.
func checkArtifacts(t *testing.T, host string) {
	t.Helper()
	var list struct {
		Relocations struct {
			Entries []struct{ Kind, Source, Target, Digest string }
		}
	}
	out := run(t, t.TempDir(), "airlock", "mirror", lab.bundle, "--to", host, "--plain-http", host, "--key", lab.pub, "--output", "json")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	pulled := map[string]bool{}
	for _, e := range list.Relocations.Entries {
		if e.Kind != "file" && e.Kind != "module" {
			continue // charts are helm's, and what else there is has no name to be pulled under
		}
		dir := t.TempDir()
		run(t, dir, "oras", "pull", "--plain-http", "-o", ".", e.Target)
		if got := strings.TrimSpace(run(t, dir, "oras", "resolve", "--plain-http", e.Target)); got != e.Digest {
			t.Errorf("%s is %s, want %s", e.Target, got, e.Digest)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) == 0 {
			t.Errorf("oras pulls nothing of %s %s: %v", e.Kind, e.Target, err)
			continue
		}
		pulled[e.Kind] = true
	}
	for _, kind := range []string{"file", "module"} {
		if !pulled[kind] {
			t.Errorf("no item of kind %q was pulled: %v", kind, pulled)
		}
	}
}

func listen(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// distribution runs distribution v3 in this process.
func distribution(t testing.TB) string {
	t.Helper()
	logrus.SetOutput(io.Discard) // distribution logs there and nowhere else
	c := &configuration.Configuration{Storage: configuration.Storage{
		"inmemory":    configuration.Parameters{},
		"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
	}}
	c.Log.AccessLog.Disabled = true
	c.Catalog.MaxEntries = 100
	return listen(t, handlers.NewApp(context.WithoutCancel(t.Context()), c))
}

// dockerRegistry runs Debian's docker-registry.
func dockerRegistry(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	name := filepath.Join(dir, "config.yml")
	write(t, name, fmt.Appendf(nil, "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", filepath.Join(dir, "data"), addr))
	cmd := exec.CommandContext(t.Context(), "docker-registry", "serve", name)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // the test's context has killed it
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return addr
		}
		if time.Since(start) > 20*time.Second {
			t.Fatalf("docker-registry does not listen: %v", err)
		}
	}
}
