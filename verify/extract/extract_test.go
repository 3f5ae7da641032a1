package extract

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/bundle/source/file"
	"github.com/airlock-project/airlock/bundle/source/helm"
	"github.com/airlock-project/airlock/bundle/source/terraform"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/verify"
	"github.com/google/go-cmp/cmp"
)

const script = "#!/bin/sh\necho installed\n"

var inputs = map[string]string{
	"run.sh":                     script,
	"conf/a.yaml":                "a: 1\n",
	"conf/sub/b":                 "b",
	"web/Chart.yaml":             "apiVersion: v2\nname: web\nversion: 1.2.3\n",
	"web/templates/service.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n",
	"values.yaml":                "replicas: 2\n",
	"vpc/main.tf":                "output \"id\" { value = 1 }\n",
}

func writeInputs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range inputs {
		p := filepath.Join(dir, name)
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(data, "#!") {
			mode = 0o755
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(data), mode)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// demo returns sources of every kind: a file, a directory, a chart with values,
// a module, a checklist and an image.
func demo(t *testing.T, dir string, spool *bundle.Spool) []bundle.Source {
	t.Helper()
	hosts, err := remote.New(remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	image, err := fixture.NewImage(spool, "registry.example.com/app:v1", 1, 70_000, 5000)
	if err != nil {
		t.Fatal(err)
	}
	opts := file.Options{Dir: dir, Version: "v1", Created: fixture.Epoch}
	return []bundle.Source{
		file.New(spool, manifests.File{Path: "run.sh", Name: "launcher"}, opts),
		file.New(spool, manifests.File{Path: "conf", Name: "conf"}, opts),
		helm.New(hosts, spool, dir, manifests.Chart{Name: "frontend", Path: "web", Values: []string{"values.yaml"}}, fixture.Epoch, nil),
		terraform.New(spool, manifests.Module{Name: "vpc", Path: "vpc"}, opts),
		file.NewBytes(spool, file.Document{Kind: bundle.KindChecklist, Name: "demo", Title: "checklist.yaml", MediaType: bundle.MediaTypeChecklist, Data: []byte("items: []\n")}, opts),
		image,
	}
}

func openDemo(t *testing.T) *verify.Bundle {
	t.Helper()
	spool := fixture.Spool(t)
	return fixture.Open(t, spool, demo(t, writeInputs(t), spool)...)
}

// tree reads what lies below dir: files with their content, directories with a
// slash.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if d.IsDir() {
			got[name+"/"] = ""
			return nil
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		got[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// wantNothing checks that a failed extraction left nothing in out's parent.
func wantNothing(t *testing.T, out string) {
	t.Helper()
	if got := tree(t, filepath.Dir(out)); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

func is[T error](err error) bool { _, ok := errors.AsType[T](err); return ok }

// TestTo runs over one bundle: making a key takes its time, on purpose.
func TestTo(t *testing.T) {
	b := openDemo(t)
	for name, test := range map[string]func(*testing.T, *verify.Bundle){
		"files": testFiles, "mode": testMode, "module and lock": testModuleAndLock, "image": testImage, "refuses": testRefuses, "limits": testLimits,
	} {
		t.Run(name, func(t *testing.T) { test(t, b) })
	}
}

func testFiles(t *testing.T, b *verify.Bundle) {
	var packed bytes.Buffer
	if err := chart.Package(&packed, filepath.Join(writeInputs(t), "web"), fixture.Epoch); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		item    string
		want    map[string]string // nil value of content: only that it is there
		written []string
	}{
		{"files/launcher:v1", map[string]string{"run.sh": script}, []string{"run.sh"}},
		{"launcher", map[string]string{"run.sh": script}, []string{"run.sh"}},
		{"conf", map[string]string{"conf/": "", "conf/a.yaml": "a: 1\n", "conf/sub/": "", "conf/sub/b": "b"}, []string{"conf"}},
		{"frontend", map[string]string{"web-1.2.3.tgz": packed.String()}, []string{"web-1.2.3.tgz"}},
		{"values-frontend", map[string]string{"01-values.yaml": "replicas: 2\n"}, []string{"01-values.yaml"}},
		{"checklist/demo:v1", map[string]string{"checklist.yaml": "items: []\n"}, []string{"checklist.yaml"}},
	} {
		t.Run(tc.item, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			written, err := To(t.Context(), b, tc.item, out)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, tree(t, out)); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
			for i, w := range tc.written {
				tc.written[i] = filepath.Join(out, w)
			}
			if diff := cmp.Diff(tc.written, written); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
			if got := tree(t, filepath.Dir(out)); len(got) != len(tc.want)+1 {
				t.Errorf("beside the destination: %v", got)
			}
		})
	}
}

func testMode(t *testing.T, b *verify.Bundle) {
	out := filepath.Join(t.TempDir(), "out")
	if _, err := To(t.Context(), b, "launcher", out); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(filepath.Join(out, "run.sh")); err != nil || fi.Mode().Perm()&0o100 == 0 {
		t.Errorf("run.sh: %v, %v; want it executable", fi, err)
	}
}

// A trailing slash names the same directory, and the module and the lock get
// the names that their readers look for.
func testModuleAndLock(t *testing.T, b *verify.Bundle) {
	for item, want := range map[string]string{"modules/vpc:v1": "vpc.zip", "airlock.lock": "airlock.lock"} {
		out := filepath.Join(t.TempDir(), "out")
		if _, err := To(t.Context(), b, item, out+"/"); err != nil {
			t.Fatal(err)
		}
		got := tree(t, out)
		if len(got) != 1 || got[want] == "" {
			t.Errorf("%s: got %d files, want %s", item, len(got), want)
		}
		if want == "vpc.zip" && !strings.HasPrefix(got[want], "PK\x03\x04") {
			t.Error("module is not a zip")
		}
	}
}

func testImage(t *testing.T, b *verify.Bundle) {
	out := filepath.Join(t.TempDir(), "out")
	if _, err := To(t.Context(), b, "registry.example.com/app:v1", out); err != nil {
		t.Fatal(err)
	}
	got := tree(t, out)
	idx, err := bundle.ParseIndex([]byte(got["index.json"]))
	if err != nil {
		t.Fatal(err)
	}
	if len(idx.Entries) != 1 || idx.Entries[0].Ref != "registry.example.com/app:v1" {
		t.Errorf("index lists %+v", idx.Entries)
	}
	blobs := 0
	for name, data := range got {
		if hex, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && hex != "" {
			blobs++
			if !sameDigest(hex, data) {
				t.Errorf("%s has another digest", name)
			}
		}
	}
	// Manifest, config, two layers; index.json, oci-layout; two directories.
	if blobs != 4 || len(got) != 8 {
		t.Errorf("%d blobs of %d entries, want 4 of 8", blobs, len(got))
	}
}

func TestToAllOpensAgain(t *testing.T) {
	spool := fixture.Spool(t)
	path, pub := fixture.File(t, spool, demo(t, writeInputs(t), spool)...)
	p, err := verify.KeyPolicy(pub)
	if err != nil {
		t.Fatal(err)
	}
	b, err := verify.Open(t.Context(), path, p, verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	out := filepath.Join(t.TempDir(), "out")
	if _, err := To(t.Context(), b, "", out); err != nil {
		t.Fatal(err)
	}
	again, err := verify.Open(t.Context(), out, p, verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.VerifyAll(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if again.Info().Digest != b.Info().Digest {
		t.Error("the layout has another index")
	}
	if _, err := os.Stat(filepath.Join(out, "trusted_root.json")); err != nil {
		t.Error(err) // an auditor's cosign asks for it
	}
	// And out of the layout as out of the file.
	second := filepath.Join(t.TempDir(), "out")
	if _, err := To(t.Context(), again, "", second); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tree(t, out), tree(t, second)); diff != "" {
		t.Errorf("layout of the layout differs:\n%s", diff)
	}
}

func testRefuses(t *testing.T, b *verify.Bundle) {
	t.Run("unknown item", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "out")
		_, err := To(t.Context(), b, "nothing", out)
		e, ok := errors.AsType[*NoItemError](err)
		if !ok || e.Item != "nothing" {
			t.Fatalf("got %v, want *NoItemError", err)
		}
		want := []string{"files/launcher:v1", "files/conf:v1", "charts/web:1.2.3", "values/frontend:1.2.3", "modules/vpc:v1", "checklist/demo:v1", "registry.example.com/app:v1", "lock/demo:v1.0.0"}
		if diff := cmp.Diff(want, e.Have); diff != "" {
			t.Errorf("have (-want +got):\n%s", diff)
		}
		wantNothing(t, out)
	})
	t.Run("existing destination", func(t *testing.T) {
		dir := t.TempDir()
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink("nowhere", link); err != nil {
			t.Fatal(err)
		}
		for _, out := range []string{dir, link, dir + "/."} {
			if _, err := To(t.Context(), b, "launcher", out); !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s: got %v, want ErrExist", out, err)
			}
		}
		wantNothing(t, filepath.Join(dir, "x"))
	})
	t.Run("no parent", func(t *testing.T) {
		if _, err := To(t.Context(), b, "launcher", filepath.Join(t.TempDir(), "a", "b")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want ErrNotExist", err)
		}
	})
	t.Run("zero bundle", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "out")
		if _, err := To(t.Context(), new(verify.Bundle), "", out); err == nil {
			t.Error("the zero bundle was extracted")
		}
		wantNothing(t, out)
	})
	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, item := range []string{"", "launcher", "conf", "checklist/demo:v1"} {
			out := filepath.Join(t.TempDir(), "out")
			if _, err := To(ctx, b, item, out); !errors.Is(err, context.Canceled) {
				t.Errorf("%q: got %v", item, err)
			}
			wantNothing(t, out)
		}
	})
}

// testLimits shows that each bound is checked; the bounds themselves are too
// large to reach in a test.
func testLimits(t *testing.T, b *verify.Bundle) {
	for _, tc := range []struct {
		name, item string
		lower      func(*limits)
	}{
		{"file", "launcher", func(l *limits) { l.unpacked = int64(len(script)) - 1 }},
		{"directory", "conf", func(l *limits) { l.unpacked = 100 }},
		{"members", "conf", func(l *limits) { l.entries = 2 }},
		{"plain layer", "checklist/demo:v1", func(l *limits) { l.unpacked = 5 }},
		{"layers", "checklist/demo:v1", func(l *limits) { l.layers = 0 }},
		{"image", "registry.example.com/app:v1", func(l *limits) { l.layout = 70_000 }},
		{"bundle", "", func(l *limits) { l.layout = 70_000 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := defaultLimits()
			out := filepath.Join(t.TempDir(), "out")
			tc.lower(&l)
			if _, err := to(t.Context(), b, tc.item, out, l); !errors.Is(err, artifact.ErrTooLarge) {
				t.Errorf("got %v, want ErrTooLarge", err)
			}
			wantNothing(t, out)
		})
	}
}

// TestToDamaged damages a bundle after it was opened.
func TestToDamaged(t *testing.T) {
	spool := fixture.Spool(t)
	path, pub := fixture.File(t, spool, demo(t, writeInputs(t), spool)...)
	p, err := verify.KeyPolicy(pub)
	if err != nil {
		t.Fatal(err)
	}
	b, err := verify.Open(t.Context(), path, p, verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	damage(t, path, b)
	for _, item := range []string{"launcher", "conf", "checklist/demo:v1", "modules/vpc:v1", "registry.example.com/app:v1", ""} {
		out := filepath.Join(t.TempDir(), "out")
		if written, err := To(t.Context(), b, item, out); !is[*verify.ContentError](err) || len(written) != 0 {
			t.Errorf("%q: got %v, %v, want *verify.ContentError", item, written, err)
		}
		wantNothing(t, out)
	}
}

// damage changes a byte in every 16 of what lies behind META: PLACED, whose
// first blob is the launcher's, and PACKED.
func damage(t *testing.T, path string, b *verify.Bundle) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	e, err := find(entriesOf(t, b), "launcher")
	if err != nil {
		t.Fatal(err)
	}
	n, err := node(b, e)
	if err != nil {
		t.Fatal(err)
	}
	rc, err := b.Fetch(t.Context(), n.Layers[0])
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(rc)
	if err := errors.Join(err, rc.Close()); err != nil {
		t.Fatal(err)
	}
	start := bytes.Index(data, content)
	if start < 0 {
		t.Fatal("the launcher is not stored as it is")
	}
	for i := start + 8; i < len(data); i += 16 {
		data[i] ^= 0x55
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0) // the file that is open, not another one of that name
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(data, 0)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func entriesOf(t *testing.T, b *verify.Bundle) (out []bundle.Entry) {
	t.Helper()
	for e, err := range b.Items() {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}
