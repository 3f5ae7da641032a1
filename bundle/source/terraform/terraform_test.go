package terraform

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/airlock-project/airlock/bundle/source/file"
	"github.com/airlock-project/airlock/manifests"
	"github.com/google/go-cmp/cmp"
)

var _ bundle.Source = (*Source)(nil)

var epoch = time.Unix(1_700_000_001, 0)

var module = map[string]string{
	"main.tf":                      "module \"net\" {\n  source = \"./modules/net\"\n}\n",
	"modules/net/main.tf":          "module \"sub\" {\n  source = \"../sub\"\n}\n",
	"modules/sub/main.tf.json":     `{"resource": {}}`,
	"scripts/init.sh":              "#!/bin/sh\n",
	"examples/all/main.tf":         "module \"x\" {\n  source = \"hashicorp/consul/aws\"\n}\n",
	".terraform.lock.hcl":          "",
	".terraform/modules/x.json":    "{}",
	".git/config":                  "[core]",
	"terraform.tfstate":            `{"secret": 1}`,
	"modules/net/a.tfstate.backup": `{"secret": 1}`,
}

var packed = []string{
	".terraform.lock.hcl", "examples/all/main.tf", "main.tf", "modules/net/main.tf", "modules/sub/main.tf.json", "scripts/init.sh",
}

const golden = "sha256:b593f143db38060096963ad3aca9cafcbeeedd791114ff399a5071262f7f6718"

func write(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	for name, data := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o600)
		if strings.HasPrefix(data, "#!") {
			mode = 0o750
		}
		if err := os.WriteFile(p, []byte(data), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func resolve(t *testing.T, path string) (*Source, bundle.Pin, error) {
	t.Helper()
	spool, err := bundle.OpenSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { spool.Close() })
	s := New(spool, manifests.Module{Name: "m", Path: filepath.Base(path)}, file.Options{Dir: filepath.Dir(path), Version: "v1", Created: epoch})
	pins, err := s.Resolve(t.Context(), nil)
	if err != nil {
		return nil, bundle.Pin{}, err
	}
	return s, pins[0], nil
}

// archives writes the module in each form and returns the paths.
func archives(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	out := map[string]string{"directory": write(t, filepath.Join(dir, "m"), module), "zip": filepath.Join(dir, "m.zip"), "tar.gz": filepath.Join(dir, "m.tar.gz")}
	var zb, tb bytes.Buffer
	zw, gw := zip.NewWriter(&zb), gzip.NewWriter(&tb)
	tw := tar.NewWriter(gw)
	for name, data := range module { // any order
		mode := os.FileMode(0o644)
		if strings.HasPrefix(data, "#!") {
			mode = 0o755
		}
		zh := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Now()}
		zh.SetMode(mode)
		w, err := zw.CreateHeader(zh)
		if err != nil {
			t.Fatal(err)
		}
		th := &tar.Header{Name: "repo-1.0/" + name, Size: int64(len(data)), Mode: int64(mode)} // a forge's top directory
		if err := tw.WriteHeader(th); err != nil {
			t.Fatal(err)
		}
		if _, err := io.MultiWriter(w, tw).Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(zw.Close(), tw.Close(), gw.Close(),
		os.WriteFile(out["zip"], zb.Bytes(), 0o600), os.WriteFile(out["tar.gz"], tb.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPack(t *testing.T) {
	for form, path := range archives(t) {
		t.Run(form, func(t *testing.T) {
			s, pin, err := resolve(t, path)
			if err != nil {
				t.Fatal(err)
			}
			if got := pin.Manifests[0].Digest.String(); got != golden {
				t.Errorf("digest = %s, want %s", got, golden)
			}
			if pin.Ref != "modules/m:v1" || pin.Manifests[0].ArtifactType != bundle.ArtifactTypeModule || len(pin.Blobs) != 2 {
				t.Errorf("pin = %+v", pin)
			}
			rc, err := s.Open(t.Context(), pin, pin.Blobs[1])
			if err != nil {
				t.Fatal(err)
			}
			defer rc.Close()
			raw, err := io.ReadAll(rc)
			if err != nil {
				t.Fatal(err)
			}
			checkZip(t, raw)
		})
	}
}

func checkZip(t *testing.T, raw []byte) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
		want := os.FileMode(0o644)
		if f.Name == "scripts/init.sh" {
			want = 0o755
		}
		if f.Mode() != want || f.Method != zip.Store || f.Flags&8 != 0 || !f.Modified.Equal(epoch.Add(-time.Second)) {
			t.Errorf("%s: mode %v, method %d, flags %#x, time %v", f.Name, f.Mode(), f.Method, f.Flags, f.Modified)
		}
		rc, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil || string(data) != module[f.Name] {
			t.Errorf("%s: %q, %v", f.Name, data, err)
		}
	}
	if d := cmp.Diff(packed, names); d != "" {
		t.Errorf("members:\n%s", d)
	}
}

func as[E error](err error) bool { _, ok := errors.AsType[E](err); return ok }

func TestSources(t *testing.T) {
	call := func(source string) string { return "# first\nmodule \"x\" {\n  source = " + source + "\n}\n" }
	for _, tc := range []struct {
		name  string
		files map[string]string
		is    func(error) bool // nil: packed
		want  string
	}{
		{"registry", map[string]string{"main.tf": call(`"hashicorp/consul/aws"`)}, as[*RemoteError], "main.tf:3"},
		{"git", map[string]string{"main.tf": call(`"git::https://user:secret@example.com/x.git"`)}, as[*RemoteError], "main.tf:3"},
		{"http", map[string]string{"main.tf": call(`"https://example.com/x.zip"`)}, as[*RemoteError], "main.tf:3"},
		{"s3", map[string]string{"main.tf": call(`"s3::https://s3.example.com/x.zip"`)}, as[*RemoteError], "main.tf:3"},
		{"absolute", map[string]string{"main.tf": call(`"/opt/modules/x"`)}, as[*RemoteError], "main.tf:3"},
		{"tofu file", map[string]string{"main.tf": "", "x.tofu": call(`"github.com/a/b"`)}, as[*RemoteError], "x.tofu:3"},
		{"json", map[string]string{"main.tf.json": "{\n\"module\": {\n\"x\": {\n\"source\": \"a/b/c\"}}}"}, as[*RemoteError], "main.tf.json:4"},
		{"nested", map[string]string{"main.tf": call(`"./a"`), "a/a.tf": call(`"a/b/c"`)}, as[*RemoteError], "a/a.tf:3"},
		{"escape", map[string]string{"main.tf": call(`"../x"`)}, as[*EscapeError], "main.tf:3"},
		{"nested escape", map[string]string{"main.tf": call(`"./a"`), "a/a.tf": call(`"../../x"`)}, as[*EscapeError], "a/a.tf:3"},
		{"up and down again", map[string]string{"main.tf": call(`"./a"`), "a/a.tf": call(`"../b"`), "b/b.tf": call(`"../a"`)}, nil, ""},
		{"empty directory", map[string]string{"main.tf": call(`"./a"`), "a/README": ""}, as[*SourceError], "main.tf:3"},
		{"variable", map[string]string{"main.tf": call(`var.x`)}, as[*SourceError], "main.tf:3"},
		{"no source", map[string]string{"main.tf": "\nmodule \"x\" {}\n"}, as[*SourceError], "main.tf:2"},
		{"syntax", map[string]string{"main.tf": "\nmodule {{\n"}, as[*SourceError], "main.tf:2"},
		{"only below", map[string]string{"a/main.tf": ""}, func(err error) bool { return err != nil }, "no .tf file"},
		{"unreachable remote", map[string]string{"main.tf": "", "tests/x/main.tf": call(`"a/b/c"`)}, nil, ""},
		{"deep nesting", map[string]string{"main.tf": "x = " + strings.Repeat("(", 250_000)}, as[*SourceError], "main.tf:1"},
		{"deep unary", map[string]string{"main.tf": "x = " + strings.Repeat("!", 250_000)}, as[*SourceError], "main.tf:1"},
		{"deep conditional", map[string]string{"main.tf": "x = " + strings.Repeat("a?b:", 50_000)}, as[*SourceError], "main.tf:1"},
		{"deep template", map[string]string{"main.tf": "x = " + strings.Repeat("\"${", 80_000)}, as[*SourceError], "main.tf:1"},
		{"deep JSON", map[string]string{"main.tf.json": strings.Repeat("[", 250_000)}, as[*SourceError], "main.tf.json:1"},
		{"deep JSON template", map[string]string{"main.tf.json": `{"module":{"x":{"source":"${` + strings.Repeat("(", 200_000) + `"}}}`}, as[*SourceError], "main.tf.json:1"},
		{"too large", map[string]string{"main.tf": strings.Repeat("#", maxConfig+1)}, as[*SourceError], "main.tf:1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := resolve(t, write(t, t.TempDir(), tc.files))
			if tc.is == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !tc.is(err) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("error tells a secret: %v", err)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	dir := write(t, t.TempDir(), map[string]string{"main.tf": ""})
	if err := os.Symlink("main.tf", filepath.Join(dir, "link.tf")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := resolve(t, dir); !as[*artifact.TypeError](err) {
		t.Errorf("link: got %v, want *artifact.TypeError", err)
	}
	if _, _, err := resolve(t, write(t, t.TempDir(), map[string]string{"x.rar": ""})+"/x.rar"); err == nil {
		t.Error("x.rar was taken")
	}
	for name, is := range map[string]func(error) bool{"../x.tf": as[*artifact.NameError], "/x.tf": as[*artifact.NameError], "main.tf": func(err error) bool { return err != nil && strings.Contains(err.Error(), "twice") }} {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, n := range []string{"main.tf", name} {
			if _, err := z.Create(n); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(t.TempDir(), "m.zip")
		if err := errors.Join(z.Close(), os.WriteFile(path, b.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := resolve(t, path); !is(err) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	_, err := New(nil, manifests.Module{Name: "m", Source: "git::https://x"}, file.Options{}).Resolve(t.Context(), nil)
	if !as[*UnsupportedSourceError](err) {
		t.Errorf("remote source: got %v", err)
	}
}

func TestDOSTime(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"1970-01-01T00:00:00Z", "1980-01-01T00:00:00Z"},
		{"2026-02-03T04:05:06Z", "2026-02-03T04:05:06Z"},
		{"2500-02-03T04:05:06Z", "2107-12-31T23:59:58Z"},
	} {
		in, err := time.Parse(time.RFC3339, tc.in)
		if err != nil {
			t.Fatal(err)
		}
		d, c := dosTime(in)
		got := time.Date(int(d>>9)+1980, time.Month(d>>5&15), int(d&31), int(c>>11), int(c>>5&63), int(c&31)*2, 0, time.UTC).Format(time.RFC3339)
		if got != tc.want {
			t.Errorf("dosTime(%s) = %s, want %s", tc.in, got, tc.want)
		}
	}
}

func FuzzParseCalls(f *testing.F) {
	for _, name := range slices.Sorted(maps.Keys(module)) {
		f.Add(module[name], strings.HasSuffix(name, ".json"))
	}
	f.Fuzz(func(t *testing.T, data string, json bool) {
		name := "main.tf"
		if json {
			name += ".json"
		}
		calls, err := parseCalls(name, []byte(data))
		for _, c := range calls {
			if err != nil || c.source == "" || c.Line < 1 {
				t.Fatalf("call %+v, %v", c, err)
			}
		}
	})
}
