//go:build all

package readers

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
)

// skopeo runs skopeo. What it copies is compared by digest, so its own policy
// of signatures has no say.
func skopeo(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, t.TempDir(), "skopeo", append([]string{"--insecure-policy"}, args...)...)
}

// manifestDigest is the digest of the manifest in a directory of skopeo's dir:
// transport.
func manifestDigest(t testing.TB, dir string) string {
	t.Helper()
	return strings.TrimSpace(shell(t, dir, `echo "sha256:$(sha256sum <manifest.json | cut -d' ' -f1)"`))
}

// registry starts an empty registry and returns its host:port.
func registry(t testing.TB) string {
	t.Helper()
	reg := olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}})
	s := httptest.NewServer(reg)
	t.Cleanup(func() {
		s.Close()
		if err := reg.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.Listener.Addr().String()
}

// place is where a reference of the definition lies in a registry.
func place(host, ref string) string { return host + strings.TrimPrefix(ref, lab.host) }

// skopeo finds every image of the unpacked bundle by the reference it was
// written with, where image-spec allows that reference as a name, and copies
// it out unchanged, to a directory and to a registry.
func TestSkopeoReadsTheLayout(t *testing.T) {
	layout, host := unpack(t), registry(t)
	named := map[string]bool{}
	for _, d := range decode[ocispec.Index](t, read(t, layout, "index.json")).Manifests {
		if ref, ok := d.Annotations[ocispec.AnnotationRefName]; ok {
			named[ref] = true
		}
	}
	for _, ref := range []string{lab.images.app, lab.images.multi, lab.images.pinned} {
		t.Run(filepath.Base(ref), func(t *testing.T) {
			if !named[ref] {
				t.Fatalf("no descriptor is named %s: %v", ref, named)
			}
			want, from := lab.images.digests[ref], "oci:"+layout+":"+ref
			if ref == lab.images.app {
				if got := skopeo(t, "inspect", "--format", "{{.Digest}}", from); strings.TrimSpace(got) != want {
					t.Errorf("inspect finds %s, want %s", got, want)
				}
			}
			dir := filepath.Join(t.TempDir(), "dir")
			skopeo(t, "copy", "-q", "--all", "--preserve-digests", from, "dir:"+dir)
			if got := manifestDigest(t, dir); got != want {
				t.Errorf("copied %s, want %s", got, want)
			}
			repository, _, _ := strings.Cut(place(host, ref), "@")
			to := "docker://" + repository
			skopeo(t, "copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false", from, to)
			if got := crane(t, "digest", strings.TrimPrefix(to, "docker://")); got != want {
				t.Errorf("the registry got %s, want %s", got, want)
			}
		})
	}
	if named[lab.images.odd] {
		t.Errorf("%s is a ref.name, which image-spec does not allow", lab.images.odd)
	}
	refused := refuse(t, 1, layout, "skopeo", "--insecure-policy", "inspect", "oci:"+layout+":"+lab.host+"/team/none:v1")
	if !strings.Contains(refused, "no descriptor found") {
		t.Errorf("for a reference that is not there skopeo says %q", refused)
	}
}

// crane runs crane, which takes 127.0.0.1 to speak plain HTTP, and returns its
// output without the line end.
func crane(t testing.TB, args ...string) string {
	t.Helper()
	return strings.TrimSpace(run(t, t.TempDir(), "crane", args...))
}

// Every image can be pulled from airlock serve, by tag and by digest, under its
// name and under its name with the host it came from.
func TestPullFromServe(t *testing.T) { checkPulls(t, serve(t, lab.bundle)) }

// The same pulls from a registry that airlock mirror filled.
func TestPullFromMirror(t *testing.T) {
	host := registry(t)
	run(t, t.TempDir(), "airlock", "mirror", lab.bundle, "--to", host, "--plain-http", host, "--key", lab.pub)
	checkPulls(t, host)
}

// serve also reads a bundle that tar unpacked.
func TestPullFromServedDirectory(t *testing.T) { checkPulls(t, serve(t, unpack(t))) }

func checkPulls(t *testing.T, host string) {
	for _, ref := range []string{lab.images.app, lab.images.multi, lab.images.odd, lab.images.pinned} {
		t.Run(filepath.Base(ref), func(t *testing.T) {
			want := lab.images.digests[ref]
			byDigest := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(place(host, ref), ":v1"), ":v2"), "@"+want) + "@" + want
			for _, at := range []string{place(host, ref), byDigest} {
				if got := crane(t, "digest", at); got != want {
					t.Errorf("crane finds %s at %s, want %s", got, at, want)
				}
				if got, original := crane(t, "manifest", at), crane(t, "manifest", lab.host+strings.TrimPrefix(byDigest, host)); got != original {
					t.Errorf("manifest at %s: %s", at, cmp.Diff(original, got))
				}
				dir := filepath.Join(t.TempDir(), "dir")
				skopeo(t, "copy", "-q", "--all", "--preserve-digests", "--src-tls-verify=false", "docker://"+at, "dir:"+dir)
				if got := manifestDigest(t, dir); got != want {
					t.Errorf("skopeo copied %s from %s, want %s", got, at, want)
				}
			}
		})
	}
	dir := t.TempDir()
	app := place(host, lab.images.app)
	for _, format := range []string{"oci", "tarball"} {
		run(t, dir, "crane", "pull", "--format", format, app, format)
	}
	if got := decode[ocispec.Index](t, read(t, dir, "oci", "index.json")).Manifests[0].Digest.String(); got != lab.images.digests[lab.images.app] {
		t.Errorf("crane pulled %s", got)
	}
	if got := crane(t, "ls", host+"/team/multi"); got != "chosen\nv2" {
		t.Errorf("crane ls says %q, want chosen and v2", got)
	}
	run(t, dir, "crane", "pull", "--platform", "linux/arm64", place(host, lab.images.multi), "arm64.tar")
	config := decode[ocispec.Image](t, []byte(crane(t, "config", "--platform", "linux/arm64", place(host, lab.images.multi))))
	if config.Architecture != "arm64" {
		t.Errorf("for arm64 crane gets %s", config.Architecture)
	}
	refuse(t, 1, dir, "crane", "digest", host+"/team/app:none")
	checkChosen(t, host)
	checkChart(t, host)
	checkImageSignatures(t, host)
}

// checkChosen pulls an index of which one platform was carried: it lists that
// platform only, as it was, and names the index it was made from.
func checkChosen(t *testing.T, host string) {
	t.Helper()
	at := place(host, lab.images.chosen)
	idx := decode[ocispec.Index](t, []byte(crane(t, "manifest", at)))
	if got, want := idx.Annotations["dev.airlock.derived-from"], lab.images.digests[lab.images.chosen]; got != want {
		t.Errorf("%s is derived from %q, want %s", at, got, want)
	}
	original := decode[ocispec.Index](t, []byte(crane(t, "manifest", lab.images.chosen)))
	if diff := cmp.Diff(original.Manifests[1:], idx.Manifests); diff != "" {
		t.Errorf("children (-want +got):\n%s", diff)
	}
	skopeo(t, "copy", "-q", "--all", "--src-tls-verify=false", "docker://"+at, "dir:"+filepath.Join(t.TempDir(), "dir"))
	skopeo(t, "copy", "-q", "--override-arch=arm64", "--src-tls-verify=false", "docker://"+at, "dir:"+filepath.Join(t.TempDir(), "dir"))
}

// checkImageSignatures checks, with cosign, signatures that came along with
// images: one under cosign's tag, one as a referrer.
func checkImageSignatures(t *testing.T, host string) {
	t.Helper()
	dir := auditor(t, lab.bundle)
	cosign := []string{"verify", "--key", lab.pub, "--allow-http-registry", "--private-infrastructure"}
	run(t, dir, "cosign", append(cosign, place(host, lab.images.app))...)
	referrer := append(cosign, "--new-bundle-format", "--trusted-root", "trusted_root.json")
	run(t, dir, "cosign", append(referrer, place(host, lab.images.multi))...)
	refuse(t, 10, dir, "cosign", append(cosign, place(host, lab.images.odd))...)
}

// checkChart pulls the chart with helm and renders it.
func checkChart(t *testing.T, host string) {
	t.Helper()
	dir := t.TempDir()
	run(t, dir, "helm", "pull", "oci://"+host+"/charts/demo", "--version", "1.2.3+build.4", "--plain-http")
	archives, err := filepath.Glob(filepath.Join(dir, "demo-*.tgz"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("helm pulled %v, %v", archives, err)
	}
	if out := run(t, dir, "helm", "template", "x", archives[0]); !strings.Contains(out, `image: "`+lab.images.app+`"`) {
		t.Errorf("helm renders\n%s", out)
	}
	if out := run(t, dir, "helm", "show", "chart", archives[0]); !strings.Contains(out, "version: 1.2.3+build.4") {
		t.Errorf("helm shows\n%s", out)
	}
}

// One item taken out by airlock extract is what stock programs read too.
func TestExtractedItems(t *testing.T) {
	dir := t.TempDir()
	run(t, dir, "airlock", "bundle", "extract", "--key", lab.pub, lab.bundle, lab.images.app, "-o", "app")
	copied := filepath.Join(dir, "copy")
	skopeo(t, "copy", "-q", "--preserve-digests", "oci:"+filepath.Join(dir, "app")+":"+lab.images.app, "dir:"+copied)
	if got, want := manifestDigest(t, copied), lab.images.digests[lab.images.app]; got != want {
		t.Errorf("extracted image is %s, want %s", got, want)
	}
	run(t, dir, "airlock", "bundle", "extract", "--key", lab.pub, lab.bundle, "demo", "-o", "chart")
	archives, err := filepath.Glob(filepath.Join(dir, "chart", "*.tgz"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("extracted %v, %v", archives, err)
	}
	run(t, dir, "helm", "template", "x", archives[0])
	run(t, dir, "airlock", "bundle", "extract", "--key", lab.pub, lab.bundle, "docs", "-o", "docs")
	found := shell(t, filepath.Join(dir, "docs"), `find . -name runbook.md -exec cat {} \;`)
	if found != "# Runbook\n" {
		t.Errorf("extracted directory holds %q", found)
	}
	if _, err := os.Stat(filepath.Join(dir, "docs.partial")); err == nil {
		t.Error("extract leaves a partial directory")
	}
}
