package helm_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	helmregistry "helm.sh/helm/v3/pkg/registry"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/bundle/source/helm"
	"github.com/airlock-project/airlock/manifests"
)

var (
	created = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

	_ bundle.Source     = (*helm.Source)(nil)
	_ bundle.Discoverer = (*helm.Source)(nil)
	_ helm.Hosts        = (*remote.Hosts)(nil)
)

// writeChart writes a small chart of that version under dir and returns dir.
func writeChart(t *testing.T, dir, version string) string {
	t.Helper()
	for name, body := range map[string]string{
		"web/Chart.yaml":         "apiVersion: v2\nname: web\nversion: " + version + "\ndescription: A web server.\nhome: https://web.example.com\nsources: [https://code.example.com]\nmaintainers: [{name: Ada, email: ada@example.com}, {name: Grace}]\nannotations: {a: b, org.opencontainers.image.title: no}\n",
		"web/values.yaml":        "image: acme/web:" + strings.ReplaceAll(version, "+", "-") + "\nextra: busybox:1\n",
		"web/templates/pod.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{image: '{{ .Values.image }}', args: ['--x={{ .Values.extra }}', '--image={{ .Values.extra }}']}]}\n",
		"values/a.yaml":          "image: first/web:1\nextra: busybox:2\n",
		"values/b/a.yaml":        "image: second/web:2\n",
	} {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(body), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func packageChart(t *testing.T, version string) []byte {
	t.Helper()
	return packageChartAt(t, version, created)
}

func packageChartAt(t *testing.T, version string, mtime time.Time) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := chart.Package(&buf, filepath.Join(writeChart(t, t.TempDir(), version), "web"), mtime); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// newSource makes a source that may speak plain HTTP to host.
func newSource(t *testing.T, dir, host string, c manifests.Chart) *helm.Source {
	t.Helper()
	hosts, err := remote.New(remote.Options{PlainHTTP: slices.DeleteFunc([]string{host}, func(s string) bool { return s == "" }), Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	spool, err := bundle.OpenSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = spool.Close() }) // a directory handle
	return helm.New(hosts, spool, dir, c, created, nil)
}

func newRegistry(t *testing.T) (host string) {
	t.Helper()
	s := olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}})
	t.Cleanup(func() { _ = s.Close() }) // memory only
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func resolve(t *testing.T, s *helm.Source, locked []bundle.Pin) []bundle.Pin {
	t.Helper()
	pins, err := s.Resolve(t.Context(), locked)
	if err != nil {
		t.Fatal(err)
	}
	for _, pin := range pins {
		for _, m := range pin.Manifests {
			if got := read(t, s, pin, m.Descriptor); !bytes.Equal(got, m.Raw) {
				t.Errorf("%s: manifest bytes differ from Raw", pin.Name)
			}
		}
		for _, b := range pin.Blobs {
			read(t, s, pin, b)
		}
	}
	return pins
}

// read reads content of a pin and checks it against its descriptor.
func read(t *testing.T, s *helm.Source, pin bundle.Pin, d bundle.Descriptor) []byte {
	t.Helper()
	r, err := s.Open(t.Context(), pin, d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != d.Size || d.Digest.Algorithm().FromBytes(b) != d.Digest {
		t.Errorf("%s: content differs from its descriptor %v", pin.Name, d)
	}
	return b
}

// helmPush pushes a chart with Helm's own client and returns the digest it
// reports.
func helmPush(t *testing.T, raw []byte, ref string) string {
	t.Helper()
	c, err := helmregistry.NewClient(helmregistry.ClientOptPlainHTTP(), helmregistry.ClientOptWriter(io.Discard), helmregistry.ClientOptCredentialsFile(filepath.Join(t.TempDir(), "config.json")))
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Push(raw, ref, helmregistry.PushOptCreationTime(created.Format(time.RFC3339)))
	if err != nil {
		t.Fatal(err)
	}
	return r.Manifest.Digest
}

// TestSameAsHelmPush holds what we make of a chart to what Helm makes of it.
func TestSameAsHelmPush(t *testing.T) {
	dir := writeChart(t, t.TempDir(), "1.2.3+build.5")
	raw := packageChart(t, "1.2.3+build.5")
	if err := os.WriteFile(filepath.Join(dir, "web.tgz"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	want := helmPush(t, raw, newRegistry(t)+"/charts/web:1.2.3+build.5")
	for _, path := range []string{"web", "web.tgz", filepath.Join(dir, "web.tgz")} {
		pins := resolve(t, newSource(t, dir, "", manifests.Chart{Name: "front", Path: path}), nil)
		if len(pins) != 1 {
			t.Fatalf("%d pins, want 1", len(pins))
		}
		if got := pins[0].Manifests[0].Digest.String(); got != want {
			t.Errorf("%s: manifest %s, helm push makes %s:\n%s", path, got, want, pins[0].Manifests[0].Raw)
		}
		item := bundle.Item{Kind: bundle.KindChart, Name: "front", Ref: "charts/web:1.2.3_build.5"}
		if d := cmp.Diff(item, pins[0].Item); d != "" {
			t.Errorf("item (-want +got):\n%s", d)
		}
	}
}

func TestOCI(t *testing.T) {
	host := newRegistry(t)
	repo := "oci://" + host + "/acme"
	digests := map[string]string{}
	for _, v := range []string{"1.0.0", "1.2.0", "1.3.0-rc.1", "2.0.0+x"} {
		digests[v] = helmPush(t, packageChart(t, v), host+"/acme/web:"+v)
	}
	for _, tt := range []struct {
		name string
		c    manifests.Chart
		want string
	}{
		{"exact", manifests.Chart{Repository: repo, Chart: "web", Version: "1.0.0"}, "1.0.0"},
		{"constraint", manifests.Chart{Repository: repo, Chart: "web", Version: "^1.0.0"}, "1.2.0"},
		{"newest", manifests.Chart{Repository: repo, Chart: "web"}, "2.0.0+x"},
		{"plus", manifests.Chart{Repository: repo, Chart: "web", Version: "2.0.0+x"}, "2.0.0+x"},
		{"whole reference", manifests.Chart{Repository: repo + "/web", Version: "1.3.0-rc.1"}, "1.3.0-rc.1"},
		{"with tag", manifests.Chart{Repository: repo + "/web:1.0.0"}, "1.0.0"},
		{"with digest", manifests.Chart{Repository: repo + "/web@" + digests["1.2.0"]}, "1.2.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.Name = "front"
			s := newSource(t, "", host, tt.c)
			pin := resolve(t, s, nil)[0]
			if got := pin.Manifests[0].Digest.String(); got != digests[tt.want] {
				t.Errorf("resolved %s, want version %s", pin.Ref, tt.want)
			}
			if want := host + "/acme/web:" + strings.ReplaceAll(tt.want, "+", "_"); pin.Ref != want || pin.Manifests[0].Ref != want {
				t.Errorf("refs %q, %q, want %q", pin.Ref, pin.Manifests[0].Ref, want)
			}
			refs, err := s.Discover(t.Context(), pin)
			if err != nil || len(refs) != 2 {
				t.Errorf("Discover: %v, %v", refs, err)
			}
		})
	}
}

// TestOCILocked moves the tag after locking: the lock wins, and another
// process can open what it names.
func TestOCILocked(t *testing.T) {
	host := newRegistry(t)
	c := manifests.Chart{Name: "front", Repository: "oci://" + host + "/acme", Chart: "web", Version: "1.0.0"}
	helmPush(t, packageChart(t, "1.0.0"), host+"/acme/web:1.0.0")
	locked := resolve(t, newSource(t, "", host, c), nil)
	later := packageChartAt(t, "1.0.0", created.Add(time.Hour))
	if now := helmPush(t, later, host+"/acme/web:1.0.0"); now == locked[0].Manifests[0].Digest.String() {
		t.Fatal("the tag did not move")
	}
	want := locked[0].Manifests[0].Raw
	locked[0].Manifests[0].Raw = nil // as a lock has it
	got := resolve(t, newSource(t, "", host, c), locked)
	if !bytes.Equal(got[0].Manifests[0].Raw, want) || got[0].Ref != locked[0].Ref {
		t.Errorf("locked chart became %s", got[0].Manifests[0].Raw)
	}
	fresh := newSource(t, "", host, c)
	for _, d := range append([]bundle.Descriptor{got[0].Manifests[0].Descriptor}, got[0].Blobs...) {
		read(t, fresh, got[0], d)
	}
}

func TestValues(t *testing.T) {
	dir := writeChart(t, t.TempDir(), "1.0.0")
	c := manifests.Chart{Name: "front", Path: "web", Values: []string{"values/a.yaml", "values/b/a.yaml", "values/a.yaml"}}
	pins := resolve(t, newSource(t, dir, "", c), nil)
	if len(pins) != 2 {
		t.Fatalf("%d pins, want 2", len(pins))
	}
	v := pins[1]
	if d := cmp.Diff(bundle.Item{Kind: bundle.KindFile, Name: "values-front", Ref: "values/front:1.0.0"}, v.Item); d != "" {
		t.Errorf("item (-want +got):\n%s", d)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(v.Manifests[0].Raw, &m); err != nil {
		t.Fatal(err)
	}
	var titles []string
	for _, l := range m.Layers {
		titles = append(titles, l.Annotations[ocispec.AnnotationTitle])
		if l.MediaType != chart.MediaTypeValues {
			t.Errorf("layer is %q", l.MediaType)
		}
	}
	if d := cmp.Diff([]string{"01-a.yaml", "02-a.yaml", "03-a.yaml"}, titles); d != "" {
		t.Errorf("titles (-want +got):\n%s", d)
	}
	if m.ArtifactType != chart.ArtifactTypeValues || len(v.Blobs) != 3 {
		t.Errorf("artifact %q with %d blobs, want 3", m.ArtifactType, len(v.Blobs))
	}
}

func TestDiscover(t *testing.T) {
	dir := writeChart(t, t.TempDir(), "1.0.0")
	ignore := func(images ...string) (out []manifests.IgnoredImage) {
		for _, i := range images {
			out = append(out, manifests.IgnoredImage{Image: i, Reason: "not used"})
		}
		return out
	}
	for _, tt := range []struct {
		name   string
		values []string
		ignore []manifests.IgnoredImage
		want   []string
		err    string
	}{
		{name: "defaults", want: []string{"acme/web:1.0.0", "busybox:1"}},
		{name: "values in order", values: []string{"values/a.yaml", "values/b/a.yaml"}, want: []string{"busybox:2", "second/web:2"}},
		{name: "other order", values: []string{"values/b/a.yaml", "values/a.yaml"}, want: []string{"busybox:2", "first/web:1"}},
		{name: "ignored", ignore: ignore("busybox:1"), want: []string{"acme/web:1.0.0"}},
		{name: "ignores nothing", ignore: ignore("busybox:9"), err: `"busybox:9" is not one that the chart names`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSource(t, dir, "", manifests.Chart{Name: "front", Path: "web", Values: tt.values, Ignore: tt.ignore})
			pins := resolve(t, s, nil)
			refs, err := s.Discover(t.Context(), pins[0])
			if tt.err != "" {
				if _, ok := errors.AsType[*helm.UnusedIgnoreError](err); !ok || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("Discover: %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			images := map[string]bool{}
			for _, r := range refs {
				images[r.Image] = true
			}
			if d := cmp.Diff(tt.want, slices.Sorted(maps.Keys(images))); d != "" {
				t.Errorf("images (-want +got):\n%s", d)
			}
		})
	}
}

func TestPathRefuses(t *testing.T) {
	dir := writeChart(t, t.TempDir(), "1.0.0")
	if err := errors.Join(
		os.Mkdir(filepath.Join(dir, "upper"), 0o755),
		os.WriteFile(filepath.Join(dir, "upper", "Chart.yaml"), []byte("apiVersion: v2\nname: Upper\nversion: 1.0.0\n"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "text.tgz"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		c    manifests.Chart
		want string
	}{
		{manifests.Chart{Path: "gone"}, "no such file"},
		{manifests.Chart{Path: "values"}, "there is no Chart.yaml"},
		{manifests.Chart{Path: "text.tgz"}, "not a gzip file"},
		{manifests.Chart{Path: "upper"}, `chart name "Upper" cannot name a repository`},
		{manifests.Chart{Path: "web", Values: []string{"gone.yaml"}}, `values file "gone.yaml"`},
		{manifests.Chart{Path: "web", Values: []string{"values"}}, "not a plain file"},
		{manifests.Chart{Repository: "ftp://example.com"}, "not an http(s):// or oci:// URL"},
	} {
		tt.c.Name = "front"
		_, err := newSource(t, dir, "", tt.c).Resolve(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), `chart "front"`) {
			t.Errorf("Resolve %+v: %v, want %q", tt.c, err, tt.want)
		}
	}
}
