package blob

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/source/file"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/testdata/objectstore"
	"github.com/airlock-project/airlock/verify"
)

// carried is a bundle with a file and a directory.
func carried(t *testing.T, content string) *verify.Bundle {
	t.Helper()
	dir, spool := t.TempDir(), fixture.Spool(t)
	if err := os.Mkdir(filepath.Join(dir, "docs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "launcher"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	o := file.Options{Dir: dir, Version: "v1", Created: fixture.Epoch}
	var sources []bundle.Source
	for _, name := range []string{"launcher", "docs"} {
		sources = append(sources, file.New(spool, manifests.File{Name: name, Path: name}, o))
	}
	return fixture.Open(t, spool, sources...)
}

func uploadInput(s *objectstore.Server, b *verify.Bundle) install.Input {
	return install.Input{Bundle: b, With: map[string]any{
		"storage": with(s)["storage"], "bucket": "binaries", "file": "launcher", "key": "bin/launcher", "output": "launcher",
	}}
}

func TestUpload(t *testing.T) {
	s, b := objectstore.New(t, false), carried(t, strings.Repeat("launcher ", 100_000))
	s.Make(t, "binaries")
	puts := 0
	s.Deny = func(r *http.Request) bool {
		if r.Method == http.MethodPut {
			puts++
		}
		return false
	}
	in := uploadInput(s, b)
	for _, c := range []struct {
		name    string
		before  func()
		changed bool
		planned bool
	}{
		{"first", func() {}, true, true},
		{"again", func() {}, false, false},
		{"replaced by another", func() { s.Put(t, "binaries", "bin/launcher", "other") }, true, true},
	} {
		c.before()
		plan, err := Upload{}.Plan(t.Context(), in)
		if err != nil || plan.Nothing == c.planned {
			t.Errorf("%s: planned %+v, %v", c.name, plan, err)
		}
		res, err := Upload{}.Apply(t.Context(), in)
		if err != nil || res.Changed != c.changed || len(res.Findings) != 0 || res.Outputs["launcher.object"] != "binaries/bin/launcher" {
			t.Errorf("%s: %+v, %v", c.name, res, err)
		}
	}
	if puts != 2 {
		t.Errorf("%d uploads, want 2", puts)
	}
}

func TestUploadRefused(t *testing.T) {
	b := carried(t, "x")
	for name, c := range map[string]struct {
		spoil func(*objectstore.Server, map[string]any)
		code  string // "" is an error
		says  string
	}{
		"not carried": {func(_ *objectstore.Server, w map[string]any) { w["file"] = "worker" }, "BIN-01", "launcher"},
		"no bucket":   {func(_ *objectstore.Server, w map[string]any) { w["bucket"] = "absent" }, "OBJ-01", "absent"},
		"bad bucket":  {func(_ *objectstore.Server, w map[string]any) { w["bucket"] = "a/b" }, "OBJ-10", "slash"},
		"read only": {func(s *objectstore.Server, _ map[string]any) {
			s.Deny = func(r *http.Request) bool { return r.Method == http.MethodPut }
		}, "OBJ-02", "s3:PutObject"},
		"scheme":    {func(_ *objectstore.Server, w map[string]any) { w["storage"].(map[string]any)["endpoint"] = "http://h" }, "OBJ-08", "http://h"},
		"directory": {func(_ *objectstore.Server, w map[string]any) { w["file"] = "docs" }, "", ""},
		"no file":   {func(_ *objectstore.Server, w map[string]any) { w["file"] = "" }, "", ""},
	} {
		s := objectstore.New(t, false)
		s.Make(t, "binaries")
		in := uploadInput(s, b)
		c.spoil(s, in.With)
		res, err := Upload{}.Apply(t.Context(), in)
		if c.code == "" {
			if err == nil {
				t.Errorf("%s: %+v", name, res)
			}
			continue
		}
		if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != c.code {
			t.Errorf("%s: %+v, %v", name, res, err)
			continue
		}
		var text strings.Builder
		text.WriteString(res.Findings[0].Detail)
		for field, v := range res.Findings[0].Fields {
			text.WriteString(" " + v)
			if !strings.Contains(strings.Join(Upload{}.Codes()[c.code], " "), field) {
				t.Errorf("%s: field %s is not listed", name, field)
			}
		}
		if !strings.Contains(text.String(), c.says) {
			t.Errorf("%s: it does not say %q: %s", name, c.says, text.String())
		}
		if keys := s.Keys(t, "binaries"); keys != "" {
			t.Errorf("%s: the bucket has %s", name, keys)
		}
	}
}
