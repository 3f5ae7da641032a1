package chart_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chart/loader"

	"github.com/airlock-project/airlock/bundle/chart"
)

// archive makes a .tgz of files under top.
func archive(t testing.TB, top string, files map[string]string) []byte {
	t.Helper()
	var headers []tar.Header
	var bodies []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		headers = append(headers, tar.Header{Name: top + "/" + name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg})
		bodies = append(bodies, files[name])
	}
	return rawArchive(t, headers, bodies)
}

func rawArchive(t testing.TB, headers []tar.Header, bodies []string) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for i := range headers {
		if err := w.WriteHeader(&headers[i]); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(bodies[i])); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func load(t *testing.T, raw []byte) *chart.Chart {
	t.Helper()
	c, err := chart.Load(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const chartYAML = "apiVersion: v2\nname: small\nversion: 1.0.0\n"

func TestLoadRefuses(t *testing.T) {
	entry := func(name string, kind byte, body string) []byte {
		h := []tar.Header{
			{Name: "small/Chart.yaml", Typeflag: tar.TypeReg, Size: int64(len(chartYAML))},
			{Name: name, Typeflag: kind, Size: int64(len(body))},
		}
		if kind != tar.TypeReg {
			h[1].Linkname = "/etc/passwd"
		}
		return rawArchive(t, h, []string{chartYAML, body})
	}
	bomb := archive(t, "small", map[string]string{"Chart.yaml": chartYAML, "a": strings.Repeat("\x00", chart.MaxFile)})
	nested := map[string]string{"Chart.yaml": chartYAML}
	for n := range 30 {
		nested["charts/"+strings.Repeat("a", n+1)+".tgz"] = string(bomb)
	}
	deep := archive(t, "small", map[string]string{"Chart.yaml": chartYAML})
	for range chart.MaxDepth {
		deep = archive(t, "small", map[string]string{"Chart.yaml": chartYAML, "charts/small.tgz": string(deep)})
	}
	for _, tt := range []struct {
		name string
		raw  []byte
		want string
	}{
		{"empty", nil, "not a gzip file"},
		{"text", []byte("hello"), "not a gzip file"},
		{"truncated", entry("small/a", tar.TypeReg, "x")[:60], "unexpected EOF"},
		{"no Chart.yaml", archive(t, "small", map[string]string{"values.yaml": "a: 1"}), "Chart.yaml file is missing"},
		{"bad Chart.yaml", archive(t, "small", map[string]string{"Chart.yaml": "name: [}"}), "cannot load Chart.yaml"},
		{"parent", entry("small/../../x", tar.TypeReg, ""), "has no place"},
		{"absolute", entry("/small/x", tar.TypeReg, ""), "has no place"},
		{"backslash", entry(`small\..\x`, tar.TypeReg, ""), "has no place"},
		{"drive", entry("small/c:/x", tar.TypeReg, ""), "has no place"},
		{"top level file", entry("x", tar.TypeReg, ""), "has no place"},
		{"twice", entry("small/Chart.yaml", tar.TypeReg, "x"), "occurs twice"},
		{"symlink", entry("small/x", tar.TypeSymlink, ""), "is a link or a special file"},
		{"hard link", entry("small/x", tar.TypeLink, ""), "is a link or a special file"},
		{"device", entry("small/x", tar.TypeChar, ""), "is a link or a special file"},
		{"large file", entry("small/x", tar.TypeReg, strings.Repeat("a", chart.MaxFile+1)), "the limit is"},
		{"nested bombs", archive(t, "small", nested), "bytes uncompressed"},
		{"nested deep", deep, "nest deeper"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := chart.Load(bytes.NewReader(tt.raw))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Load: %v, want %q", err, tt.want)
			}
		})
	}
}

func TestLoadMissingDependencies(t *testing.T) {
	files := map[string]string{
		"Chart.yaml": chartYAML + `dependencies:
  - {name: here, version: 1.0.0, repository: "https://charts.example.com"}
  - {name: gone, version: ^2.0.0, repository: "https://charts.example.com", condition: gone.enabled}
`,
		"values.yaml":            "gone: {enabled: false}",
		"charts/here/Chart.yaml": "apiVersion: v2\nname: here\nversion: 1.0.0\n",
		"charts/README.md":       "not a chart",
	}
	_, err := chart.Load(bytes.NewReader(archive(t, "small", files)))
	missing, ok := errors.AsType[*chart.MissingDependenciesError](err)
	if !ok {
		t.Fatalf("Load: %v, want MissingDependenciesError", err)
	}
	want := &chart.MissingDependenciesError{Chart: "small", Missing: []string{"gone ^2.0.0 from https://charts.example.com"}}
	if d := cmp.Diff(want, missing); d != "" {
		t.Errorf("error (-want +got):\n%s", d)
	}
}

var created = time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC)

// TestPackageGolden pins the bytes: they reach the digest of a bundle, so they
// may change with a version note in FORMAT.md only.
func TestPackageGolden(t *testing.T) {
	var buf bytes.Buffer
	if err := chart.Package(&buf, "testdata/web", created); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(buf.Bytes())
	const want = "63fc1428a00fd91ee8936538c9e41f8ae3e6ecea9966ef88d4a45d1a5aa38e81"
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("package is %s, want %s", got, want)
	}
}

func TestPackageReadByHelm(t *testing.T) {
	dir := t.TempDir()
	big := strings.Repeat("0123456789", 20_000) // several stored blocks
	write(t, dir, map[string]string{
		"Chart.yaml": chartYAML, "files/big.txt": big, "files/empty": "", "tests/a": "x", ".helmignore": "tests/\n",
		"charts/sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 0.1.0\n",
	})
	var buf bytes.Buffer
	if err := chart.Package(&buf, dir, created); err != nil {
		t.Fatal(err)
	}
	c, err := loader.LoadArchive(bytes.NewReader(buf.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range c.Raw {
		got[f.Name] = string(f.Data)
	}
	want := map[string]string{
		"Chart.yaml": chartYAML, "files/big.txt": big, "files/empty": "", ".helmignore": "tests/\n",
		"charts/sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 0.1.0\n",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	if len(c.Dependencies()) != 1 {
		t.Errorf("%d dependencies, want 1", len(c.Dependencies()))
	}
}

func TestPackageRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		link  bool
		want  string
	}{
		{name: "no chart", files: map[string]string{"a": ""}, want: "there is no Chart.yaml"},
		{name: "name", files: map[string]string{"Chart.yaml": "apiVersion: v2\nname: a/../b\nversion: 1.0.0\n"}, want: "is invalid"},
		{name: "link", files: map[string]string{"Chart.yaml": chartYAML}, link: true, want: `"link" is a link or a special file`},
		{name: "large", files: map[string]string{"Chart.yaml": chartYAML, "a": strings.Repeat("a", chart.MaxFile+1)}, want: "has more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, tt.files)
			if tt.link {
				if err := os.Symlink("Chart.yaml", filepath.Join(dir, "link")); err != nil {
					t.Fatal(err)
				}
			}
			err := chart.Package(&bytes.Buffer{}, dir, created)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Package: %v, want %q", err, tt.want)
			}
		})
	}
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, body := range files {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(body), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	var web bytes.Buffer
	if err := chart.Package(&web, "testdata/web", created); err != nil {
		f.Fatal(err)
	}
	f.Add(web.Bytes())
	f.Add(archive(f, "small", map[string]string{"Chart.yaml": chartYAML, "values.yaml": "a: 1", "templates/a.yaml": "{{ .Values.a }}"}))
	f.Add(archive(f, "small", map[string]string{"Chart.yaml": chartYAML, "charts/a.tgz": "no"}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := chart.Load(bytes.NewReader(raw))
		if err != nil {
			return
		}
		if c.Name() == "" || strings.Contains(c.Name(), "/") || c.Version() == "" {
			t.Errorf("loaded a chart named %q %q", c.Name(), c.Version())
		}
		if _, err := c.Config(); err != nil {
			t.Error(err)
		}
	})
}

// TestLoadNestedArchive renders a subchart that is vendored as an archive, as
// helm dependency build leaves it, the same way every time.
func TestLoadNestedArchive(t *testing.T) {
	sub := func(name string) string {
		return string(archive(t, name, map[string]string{
			"Chart.yaml":       "apiVersion: v2\nname: " + name + "\nversion: 0.1.0\n",
			"values.yaml":      "exports: {all: {shared: " + name + "}}\n",
			"templates/a.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec: {containers: [{image: '" + name + "/app'}]}\n",
		}))
	}
	c := load(t, archive(t, "small", map[string]string{
		"Chart.yaml": chartYAML + `dependencies:
  - {name: one, version: 0.1.0, repository: "", import-values: [all]}
  - {name: two, version: 0.1.0, repository: "", import-values: [all]}
`,
		"charts/one-0.1.0.tgz": sub("one"),
		"charts/two-0.1.0.tgz": sub("two"),
		"templates/a.yaml":     "apiVersion: v1\nkind: Pod\nmetadata: {name: top}\nspec: {containers: [{image: 'top/{{ .Values.shared }}'}]}\n",
	}))
	first := chart.Images(render(t, c, chart.Options{}))
	if len(first) != 3 || first[0].Image != "one/app" || first[2].Image != "two/app" {
		t.Fatalf("images %v, want one of each chart", first)
	}
	for range 10 {
		if d := cmp.Diff(first, chart.Images(render(t, c, chart.Options{}))); d != "" {
			t.Fatalf("second rendering differs:\n%s", d)
		}
	}
}
