package chart

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// carried is a bundle as far as the action reads it.
type carried struct {
	entries []bundle.Entry
	blobs   map[digest.Digest][]byte
}

func (c *carried) Items() iter.Seq2[bundle.Entry, error] {
	return func(yield func(bundle.Entry, error) bool) {
		for _, e := range c.entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (c *carried) Manifest(d digest.Digest) ([]byte, bundle.Descriptor, bool) {
	raw, ok := c.blobs[d]
	return raw, bundle.Descriptor{Digest: d}, ok
}

func (c *carried) ReadBlob(_ context.Context, desc bundle.Descriptor) ([]byte, error) {
	raw, ok := c.blobs[desc.Digest]
	if !ok {
		return nil, errors.New("no such blob")
	}
	return raw, nil
}

func (c *carried) Fetch(ctx context.Context, desc bundle.Descriptor) (io.ReadCloser, error) {
	raw, err := c.ReadBlob(ctx, desc)
	return io.NopCloser(bytes.NewReader(raw)), err
}

func (c *carried) add(media string, data []byte) bundle.Descriptor {
	d := digest.FromBytes(data)
	c.blobs[d] = data
	return bundle.Descriptor{MediaType: media, Digest: d, Size: int64(len(data))}
}

func (c *carried) item(t *testing.T, kind, name, artifactType string, layers ...bundle.Descriptor) {
	t.Helper()
	raw, err := json.Marshal(ocispec.Manifest{ArtifactType: artifactType, Layers: layers})
	if err != nil {
		t.Fatal(err)
	}
	c.entries = append(c.entries, bundle.Entry{Descriptor: c.add(ocispec.MediaTypeImageManifest, raw), Item: bundle.Item{Kind: kind, Name: name}, Role: bundle.RoleRoot})
}

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  template:
    spec:
      containers:
        - {name: web, image: {{ .Values.image | quote }}}
        - {name: proxy, image: "quay.io/a/proxy:2"}
`

// newBundle carries a chart with a schema and one values file.
func newBundle(t *testing.T) *carried {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"Chart.yaml":                "apiVersion: v2\nname: web\nversion: 1.0.0\n",
		"values.yaml":               "image: none\nreplicas: 1\n",
		"values.schema.json":        `{"type":"object","properties":{"replicas":{"type":"integer"}}}`,
		"templates/deployment.yaml": deployment,
		"templates/crd.yaml":        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf}\ndata: {image: \"quay.io/a/proxy:2\"}\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var tgz bytes.Buffer
	if err := chart.Package(&tgz, dir, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	c := &carried{blobs: make(map[digest.Digest][]byte)}
	c.item(t, bundle.KindChart, "front", "", c.add(chart.MediaTypeArchive, tgz.Bytes()))
	c.item(t, bundle.KindFile, "values-front", chart.ArtifactTypeValues, c.add(chart.MediaTypeValues, []byte("image: backend:v1\nreplicas: 3\n")))
	return c
}

func relocation() map[string]any {
	raw, err := json.Marshal(manifests.RelocationMap{Entries: []manifests.Relocation{
		{Kind: "image", Source: "backend:v1", SourceDigest: "sha256:" + strings.Repeat("a", 64), Target: "harbor:5000/airlock/backend:v1", Digest: "sha256:" + strings.Repeat("a", 64)},
		{Kind: "image", Source: "quay.io/a/proxy:2", SourceDigest: "sha256:" + strings.Repeat("c", 64), Target: "harbor:5000/airlock/a/proxy:2", Digest: "sha256:" + strings.Repeat("b", 64)},
	}})
	if err != nil {
		panic(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		panic(err)
	}
	return m
}

func input(t *testing.T, more map[string]any) install.Input {
	t.Helper()
	with := map[string]any{"chart": "front", "release": "prod", "namespace": "apps", "map": relocation()}
	maps.Copy(with, more)
	return install.Input{With: with, Render: filepath.Join(t.TempDir(), "render")}
}

func TestApply(t *testing.T) {
	in := input(t, map[string]any{"values": []any{map[string]any{"replicas": int64(5)}}})
	b := newBundle(t)
	res, err := apply(t.Context(), b, in)
	dir := filepath.Join(in.Render, "front")
	command := []install.Finding{{Severity: install.SeverityInfo, Detail: "to apply it: kubectl apply -R -f " + dir}}
	if err != nil || !cmp.Equal(command, res.Findings) || !res.Changed {
		t.Fatalf("%+v, %v", res, err)
	}
	want := map[string]any{"render.dir": dir, "render.images": []any{
		"harbor:5000/airlock/a/proxy:2@sha256:" + strings.Repeat("b", 64), "harbor:5000/airlock/backend:v1@sha256:" + strings.Repeat("a", 64),
	}}
	if d := cmp.Diff(want, res.Outputs); d != "" {
		t.Error(d)
	}
	text := readAll(t, dir)
	for _, want := range []string{"name: prod", "namespace: apps", "replicas: 5", "harbor:5000/airlock/backend:v1@sha256:aaaa"} {
		if !strings.Contains(text, want) {
			t.Errorf("files lack %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "quay.io") {
		t.Errorf("a reference was left:\n%s", text)
	}
	if res, err = apply(t.Context(), b, in); err != nil || res.Changed {
		t.Errorf("a second time: %+v, %v", res, err)
	}
	in.With["values"] = []any{map[string]any{"replicas": int64(6)}}
	if res, err = apply(t.Context(), b, in); err != nil || !res.Changed || !strings.Contains(readAll(t, dir), "replicas: 6") {
		t.Errorf("after a change: %+v, %v", res, err)
	}
	if left, err := filepath.Glob(filepath.Join(in.Render, ".*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func readAll(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) != 2 {
		t.Fatalf("files %v, %v", files, err)
	}
	var b strings.Builder
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(raw)
	}
	return b.String()
}

func TestFindings(t *testing.T) {
	for name, c := range map[string]struct {
		with map[string]any
		code string
		want string
	}{
		"not mirrored":   {map[string]any{"values": []any{map[string]any{"image": "other.example.com/x:1"}}}, "REN-01", "other.example.com/x:1 in Deployment/prod"},
		"against schema": {map[string]any{"values": []any{map[string]any{"replicas": "many"}}}, "REN-02", "replicas"},
		"other chart":    {map[string]any{"chart": "back"}, "REN-03", "front"},
	} {
		in := input(t, c.with)
		res, err := apply(t.Context(), newBundle(t), in)
		if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != c.code || !strings.Contains(res.Findings[0].Detail, c.want) {
			t.Errorf("%s: %+v, %v", name, res.Findings, err)
		}
		if _, err := os.Stat(in.Render); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was written: %v", name, err)
		}
	}
}

// TestBase: a file that another tool made lies under what the checklist says, and
// what is dropped of it is not there.
func TestBase(t *testing.T) {
	base := filepath.Join(t.TempDir(), "helm-values.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(base, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("image: backend:v1\nreplicas: 7\nnested: {a: {keep: 1, go: 2}}\n")
	with := map[string]any{"base": map[string]any{"file": base, "drop": []any{[]any{"replicas"}, []any{"nested", "a", "go"}, []any{"nothing", "there"}}}}
	in := input(t, with)
	res, err := apply(t.Context(), newBundle(t), in)
	if err != nil {
		t.Fatal(err)
	}
	if text := readAll(t, res.Outputs["render.dir"].(string)); !strings.Contains(text, "replicas: 3") {
		t.Errorf("what is dropped counts:\n%s", text)
	}
	with["values"] = []any{map[string]any{"replicas": int64(5)}}
	delete(with["base"].(map[string]any), "drop")
	in = input(t, with)
	if res, err = apply(t.Context(), newBundle(t), in); err != nil || !strings.Contains(readAll(t, res.Outputs["render.dir"].(string)), "replicas: 5") {
		t.Errorf("the checklist is not over the base: %+v, %v", res, err)
	}
	for name, text := range map[string]string{"no YAML": "a: [", "no map": "- a", "large": strings.Repeat("#", 2<<20)} {
		write(text)
		res, err := apply(t.Context(), newBundle(t), input(t, with))
		if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "REN-02" || !strings.Contains(res.Findings[0].Detail, base) {
			t.Errorf("%s: %+v, %v", name, res.Findings, err)
		}
	}
}

// TestRefused: what must not be is told before anything is written.
func TestRefused(t *testing.T) {
	rule := func(more map[string]any) []any {
		r := map[string]any{"says": "it leads outside", "fix": "take it away"}
		maps.Copy(r, more)
		return []any{r}
	}
	for name, c := range map[string]struct {
		rule          map[string]any
		object, value string // "" if nothing is refused
	}{
		"a text":               {map[string]any{"kind": "Deployment", "match": "^quay.io/a/"}, "Deployment/prod", "quay.io/a/"},
		"a text of a kind":     {map[string]any{"kind": "ConfigMap", "match": "quay"}, "ConfigMap/conf", "quay"},
		"all right":            {map[string]any{"match": "quay", "not": []any{"quay.io/a/proxy:2"}}, "", ""},
		"an object":            {map[string]any{"kind": "ConfigMap", "name": "conf"}, "ConfigMap/conf", ""},
		"another object":       {map[string]any{"kind": "Secret", "name": "conf"}, "", ""},
		"does not apply":       {map[string]any{"when": false, "match": "quay"}, "", ""},
		"no such annotation":   {map[string]any{"annotation": "a", "match": "quay"}, "", ""},
		"another one's object": {map[string]any{"kind": "ConfigMap", "name": "other", "match": "quay"}, "", ""},
	} {
		in := input(t, map[string]any{"refuse": rule(c.rule)})
		res, err := apply(t.Context(), newBundle(t), in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := os.Stat(in.Render); c.object != "" && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was written: %v", name, err)
		}
		f := res.Findings[0]
		if c.object == "" && f.Code != "" || c.object != "" && (f.Code != "REN-04" || f.Fields["object"] != c.object || f.Fields["value"] != c.value || f.Fields["fix"] != "take it away") {
			t.Errorf("%s: %+v", name, f)
		}
	}
	res, err := apply(t.Context(), newBundle(t), input(t, map[string]any{"refuse": rule(map[string]any{"match": "quay", "severity": "warn"})}))
	if err != nil || len(res.Findings) != 3 || res.Findings[0].Severity != install.SeverityWarn || res.Outputs["render.dir"] == nil {
		t.Errorf("a warning keeps it from being written: %+v, %v", res, err)
	}
	for name, more := range map[string]map[string]any{"no expression": {"match": "("}, "everything": {"kind": "Secret"}, "no reason": {"match": "a", "says": ""}, "unknown": {"match": "a", "colour": "red"}} {
		if _, err := apply(t.Context(), newBundle(t), input(t, map[string]any{"refuse": rule(more)})); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := plan(t.Context(), newBundle(t), input(t, map[string]any{"refuse": rule(map[string]any{"match": "quay"})})); err == nil || !strings.Contains(err.Error(), "leads outside") {
		t.Errorf("a plan: %v", err)
	}
}

func TestIgnoredImageStays(t *testing.T) {
	in := input(t, map[string]any{"values": []any{map[string]any{"image": "other.example.com/x:1"}}, "ignore": []any{"other.example.com/x:1"}})
	res, err := apply(t.Context(), newBundle(t), in)
	if err != nil || len(res.Findings) != 1 || !strings.Contains(readAll(t, res.Outputs["render.dir"].(string)), "other.example.com/x:1") {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestForeignDirectoryIsKept(t *testing.T) {
	in := input(t, nil)
	dir := filepath.Join(in.Render, "front")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := apply(t.Context(), newBundle(t), in); err == nil || !strings.Contains(err.Error(), "holds something else") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "mine")); err != nil {
		t.Error(err)
	}
}

func TestCrashLeftoversAreCleared(t *testing.T) {
	in := input(t, nil)
	for _, name := range []string{".front.partial", ".front.old"} {
		if err := os.MkdirAll(filepath.Join(in.Render, name, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := apply(t.Context(), newBundle(t), in); err != nil {
		t.Error(err)
	}
}

func TestPlanNeedsNoMap(t *testing.T) {
	in := input(t, map[string]any{"map": "(known later)"})
	c, err := plan(t.Context(), newBundle(t), in)
	if err != nil || c.Summary != "render chart front: 2 objects into front" || len(c.Details) != 3 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := os.Stat(in.Render); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a plan wrote: %v", err)
	}
}

// TestPlanSeesWhatIsThere is what a resumed run rests on.
func TestPlanSeesWhatIsThere(t *testing.T) {
	in, b := input(t, nil), newBundle(t)
	nothing := func() bool {
		t.Helper()
		c, err := plan(t.Context(), b, in)
		if err != nil {
			t.Fatal(err)
		}
		return c.Nothing
	}
	if nothing() {
		t.Error("nothing to do before it was done")
	}
	res, err := apply(t.Context(), b, in)
	if err != nil || !nothing() {
		t.Fatalf("something to do after it was done: %+v, %v", res, err)
	}
	files, err := filepath.Glob(filepath.Join(in.Render, "front", "*.yaml"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for name, change := range map[string]func() error{
		"edited":  func() error { return os.WriteFile(files[0], []byte("x"), 0o600) },
		"removed": func() error { return os.Remove(files[1]) },
		"added":   func() error { return os.WriteFile(files[0]+".yaml", nil, 0o600) },
		"all":     func() error { return os.RemoveAll(in.Render) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if nothing() {
			t.Errorf("%s: nothing to do", name)
		}
		if _, err := apply(t.Context(), b, in); err != nil {
			t.Fatal(err)
		}
	}
	other := in
	other.Render = t.TempDir()
	if cmp.Equal(Action{}.Grounds(in), Action{}.Grounds(other)) {
		t.Error("two render directories are the same grounds")
	}
}

func TestQuote(t *testing.T) {
	for path, want := range map[string]string{"/srv/render/a.b_c-1": "/srv/render/a.b_c-1", "/a b": "'/a b'", "/it's": `'/it'\''s'`, "/$(x)": "'/$(x)'"} {
		if got := quote(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestArguments(t *testing.T) {
	for _, more := range []map[string]any{{"chart": ""}, {"to": "../up"}, {"to": "a/b"}, {"to": ".."}, {"to": ".git"}, {"map": nil}, {"colour": "red"}} {
		if _, err := apply(t.Context(), newBundle(t), input(t, more)); err == nil {
			t.Errorf("%v is accepted", more)
		}
	}
}
