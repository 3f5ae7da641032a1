package relocate

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/airlock-project/airlock/manifests"
	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
)

var update = flag.Bool("update", false, "write the golden files")

func sum(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// sample has a host without a prefix's surprises, Docker Hub, a name without a
// host, a host with a port, chosen platforms, a digest only, two tags of one
// name, a path that changed and what is not an image.
func sample() *manifests.RelocationMap {
	const to = "harbor.site.internal/airlock/"
	image := func(source, target, digest string) manifests.Relocation {
		return manifests.Relocation{Kind: "image", Source: source, SourceDigest: sum(digest), Target: target, Digest: sum(digest)}
	}
	derived := image("quay.io/prometheus/node:v1", to+"prometheus/node:v1", "d")
	derived.SourceDigest = sum("e")
	chart := image("charts/cert-manager:v1.19.2", to+"charts/cert-manager:v1.19.2", "c")
	chart.Kind = "chart"
	return &manifests.RelocationMap{
		APIVersion: manifests.APIVersion, Kind: manifests.KindRelocationMap, Bundle: sum("0"), Target: "harbor.site.internal/airlock",
		Entries: []manifests.Relocation{
			image("quay.io/jetstack/controller:v1.19.2", to+"jetstack/controller:v1.19.2", "1"),
			image("quay.io/jetstack/webhook@"+sum("2"), to+"jetstack/webhook:sha256-222222222222", "2"),
			image("docker.io/library/postgres:16", to+"library/postgres:16", "3"),
			image("busybox:1.36", "harbor.site.internal/other/library/busybox:1.36", "4"),
			image("docker.io/library/busybox:1.37", "harbor.site.internal/other/library/busybox:1.37", "5"),
			image("spacelift-backend:v3.0.0", to+"spacelift-backend:v3.0.0", "6"),
			image("reg.vendor.test:5000/team/app:1.0", to+"team/app:1.0", "7"),
			image("ghcr.io/org/flat:1", to+"flat-12ab34cd:1", "8"),
			derived, chart,
		},
	}
}

const values = `
controller:
  image:
    registry: quay.io
    repository: jetstack/controller
    tag: ""
postgres: {repository: postgres, tag: 16, pullPolicy: Always}
pinned: {repository: reg.vendor.test:5000/team/app, tag: "1.0", digest: ""}
wrong: {repository: quay.io/prometheus/node, tag: v2}
twice: {repository: busybox}
float: {repository: busybox, tag: 1.36}
sidecars:
  - {name: a, image: "busybox:1.36"}
  - {name: b, image: "other:1"}
plain: ghcr.io/org/flat:1
old: {image: quay.io/prometheus/node, tag: v1}
busybox: a word, not an image
`

var formats = []struct {
	name string
	kind Kind
	o    Options
}{
	{"containerd", Containerd, Options{CA: "/etc/containerd/certs.d/ca.pem"}},
	{"containerd-plain", Containerd, Options{PlainHTTP: true}},
	{"kustomize", Kustomize, Options{}},
	{"helm-images", Helm, Options{}},
	{"helm-values", Helm, Options{Values: []byte(values)}},
	{"openshift", OpenShift, Options{}},
	{"imgpkg", Imgpkg, Options{}},
	{"shell", Shell, Options{}},
}

func write(t *testing.T, kind Kind, m *manifests.RelocationMap, o Options) Output {
	t.Helper()
	out, err := Write(kind, m, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// flat puts an Output into one text.
func flat(o Output) string {
	var b strings.Builder
	for _, f := range o.Files {
		b.WriteString("== " + f.Path + "\n" + string(f.Data))
	}
	b.WriteString("== notes\n")
	for _, n := range o.Notes {
		b.WriteString(n + "\n")
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			got := flat(write(t, f.kind, sample(), f.o))
			file := filepath.Join("testdata", f.name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			reversed := sample()
			slices.Reverse(reversed.Entries)
			if diff := cmp.Diff(got, flat(write(t, f.kind, reversed, f.o))); diff != "" {
				t.Errorf("the order of entries matters (-want +got):\n%s", diff)
			}
		})
	}
}

// hostsFile is what containerd's docs/hosts.md says of a hosts.toml.
type hostsFile struct {
	Server string `toml:"server"`
	host
	Host map[string]host `toml:"host"`
}

type host struct {
	Capabilities []string `toml:"capabilities"`
	OverridePath bool     `toml:"override_path"`
	CA           string   `toml:"ca"`
}

func TestHostsTOML(t *testing.T) {
	m := sample()
	m.Entries = append(m.Entries, manifests.Relocation{Kind: "image", Source: "quay.io/a/b:1", SourceDigest: sum("a"), Target: "harbor.site.internal/a/b:1", Digest: sum("a")})
	out := write(t, Containerd, m, Options{CA: `/etc/a "quoted" \ path.pem`})
	got := map[string]hostsFile{}
	for _, f := range out.Files {
		var h hostsFile
		meta, err := toml.Decode(string(f.Data), &h)
		if err != nil {
			t.Fatalf("%s: %v\n%s", f.Path, err, f.Data)
		}
		if undecoded := meta.Undecoded(); len(undecoded) > 0 {
			t.Errorf("%s: keys that containerd does not know: %v", f.Path, undecoded)
		}
		got[f.Path] = h
	}
	plain := host{Capabilities: []string{"pull", "resolve"}, CA: `/etc/a "quoted" \ path.pem`}
	prefixed := plain
	prefixed.OverridePath = true
	want := map[string]hostsFile{
		"quay.io/hosts.toml":               {Server: "https://harbor.site.internal/v2/airlock", host: prefixed, Host: map[string]host{"https://harbor.site.internal": plain}},
		"harbor.site.internal/hosts.toml":  {Server: "https://harbor.site.internal", host: plain, Host: map[string]host{"https://harbor.site.internal": plain}},
		"docker.io/hosts.toml":             {Server: "https://harbor.site.internal/v2/other", host: prefixed, Host: map[string]host{"https://harbor.site.internal/v2/airlock": prefixed}},
		"reg.vendor.test_5000_/hosts.toml": {Server: "https://harbor.site.internal/v2/airlock", host: prefixed, Host: map[string]host{"https://harbor.site.internal/v2/airlock": prefixed}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(hostsFile{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPullsAreByDigest reads back what consumers are told to pull.
func TestPullsAreByDigest(t *testing.T) {
	var lock struct {
		APIVersion, Kind string
		Images           []struct {
			Image       string
			Annotations map[string]string
		}
	}
	if err := yaml.Unmarshal(write(t, Imgpkg, sample(), Options{}).Files[0].Data, &lock); err != nil {
		t.Fatal(err)
	}
	if len(lock.Images) != 9 {
		t.Errorf("%d images, want 9", len(lock.Images))
	}
	for _, i := range lock.Images {
		d, err := name.NewDigest(i.Image)
		if err != nil || !strings.Contains(i.Image, ":") || d.RegistryStr() != "harbor.site.internal" {
			t.Errorf("imgpkg reads %q as %v, %v", i.Image, d, err)
		}
		if i.Annotations["kbld.carvel.dev/id"] == "" {
			t.Errorf("%s: no annotation for kbld", i.Image)
		}
	}
	for line := range strings.SplitSeq(strings.TrimSpace(string(write(t, Shell, sample(), Options{}).Files[0].Data)), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		variable, ref, _ := strings.Cut(line, "=")
		if !strings.HasPrefix(variable, "IMAGE_") && !strings.HasPrefix(variable, "CHART_") {
			t.Errorf("variable %q does not begin with a kind", variable)
		}
		if _, err := name.NewDigest(strings.Trim(ref, "'")); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestShellNamesDiffer(t *testing.T) {
	m := sample()
	m.Entries = m.Entries[:0]
	for i, s := range []string{"a.b/c:1", "a-b.x/c:1", "a.b/c-1:1", "a.b/c.1:1"} {
		m.Entries = append(m.Entries, manifests.Relocation{Kind: "image", Source: s, SourceDigest: sum("a"), Target: "r.test/" + strings.Repeat("x", i+1) + ":1", Digest: sum("a")})
	}
	seen := map[string]bool{}
	for line := range strings.SplitSeq(string(write(t, Shell, m, Options{}).Files[0].Data), "\n") {
		if v, _, ok := strings.Cut(line, "='"); ok {
			if seen[v] {
				t.Errorf("%s is assigned twice", v)
			}
			seen[v] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d variables, want 4", len(seen))
	}
}

func TestWriteRefuses(t *testing.T) {
	if _, err := Write("toml", sample(), Options{}); err == nil {
		t.Error("an unknown kind was accepted")
	} else if _, ok := errors.AsType[*KindError](err); !ok {
		t.Errorf("got %v, want *KindError", err)
	}
	for name, tc := range map[string]struct {
		change func(*manifests.RelocationMap)
		o      Options
		want   string
	}{
		"target with a quote": {func(m *manifests.RelocationMap) { m.Entries[0].Target = `r.test/a'$(id):1` }, Options{}, "entry 1: target"},
		"target without tag":  {func(m *manifests.RelocationMap) { m.Entries[0].Target = "r.test/a" }, Options{}, "has no tag"},
		"digest":              {func(m *manifests.RelocationMap) { m.Entries[0].Digest = "sha256:0" }, Options{}, "entry 1: target"},
		"bundle":              {func(m *manifests.RelocationMap) { m.Bundle = "sha256:0\nevil" }, Options{}, "bundle"},
		"source":              {func(m *manifests.RelocationMap) { m.Entries[0].Source = "a b" }, Options{}, "entry 1: source"},
		"two targets":         {func(m *manifests.RelocationMap) { m.Entries[1].Source = m.Entries[0].Source }, Options{}, "two targets"},
		"relative CA":         {func(*manifests.RelocationMap) {}, Options{CA: "ca.pem"}, "absolute"},
		"CA with a newline":   {func(*manifests.RelocationMap) {}, Options{CA: "/a\nb"}, "absolute"},
	} {
		t.Run(name, func(t *testing.T) {
			m := sample()
			tc.change(m)
			if _, err := Write(Shell, m, tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	for _, v := range []string{"- a", "a: [", strings.Repeat("a:\n ", 1) + strings.Repeat("[", 80) + strings.Repeat("]", 80)} {
		if _, err := Write(Helm, sample(), Options{Values: []byte(v)}); err == nil {
			t.Errorf("values %.20q were accepted", v)
		}
	}
}

func FuzzHelm(f *testing.F) {
	f.Add([]byte(values))
	f.Add([]byte("{}"))
	f.Add([]byte("image: {repository: postgres, tag: null, digest: 1}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := Write(Helm, sample(), Options{Values: b})
		if err != nil {
			return
		}
		var over map[string]any
		if err := yaml.Unmarshal(out.Files[0].Data, &over); err != nil {
			t.Errorf("the overlay is not YAML: %v\n%s", err, out.Files[0].Data)
		}
	})
}
