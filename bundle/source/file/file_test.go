package file

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/manifests"
	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var _ = []bundle.Source{(*Source)(nil), (*Tool)(nil), (*Bytes)(nil)}

var epoch = time.Unix(1_700_000_000, 0)

func newSpool(t *testing.T) *bundle.Spool {
	t.Helper()
	s, err := bundle.OpenSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func write(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	for name, data := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		mode := fs.FileMode(0o600)
		if strings.HasPrefix(data, "#!") {
			mode = 0o700
		}
		if err := os.WriteFile(p, []byte(data), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func resolve(t *testing.T, s bundle.Source) bundle.Pin {
	t.Helper()
	pins, err := s.Resolve(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(pins) != 1 {
		t.Fatalf("got %d pins, want 1", len(pins))
	}
	for _, m := range pins[0].Manifests {
		if got := readAll(t, s, pins[0], m.Descriptor); !bytes.Equal(got, m.Raw) {
			t.Errorf("manifest %s: spooled bytes differ from Raw", m.Digest)
		}
	}
	return pins[0]
}

func readAll(t *testing.T, s bundle.Source, pin bundle.Pin, d bundle.Descriptor) []byte {
	t.Helper()
	rc, err := s.Open(t.Context(), pin, d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != d.Size {
		t.Errorf("%s has %d bytes, want %d", d.Digest, len(b), d.Size)
	}
	return b
}

func layerOf(t *testing.T, m bundle.Manifest) bundle.Descriptor {
	t.Helper()
	var man ocispec.Manifest
	if err := json.Unmarshal(m.Raw, &man); err != nil {
		t.Fatal(err)
	}
	if len(man.Layers) != 1 {
		t.Fatalf("got %d layers, want 1", len(man.Layers))
	}
	return man.Layers[0]
}

var tree = map[string]string{"b/run.sh": "#!/bin/sh\n", "a.txt": "text\n", "b/c/deep": strings.Repeat("x", 5000)}

// The digests are the format: a change here changes every bundle.
func TestGolden(t *testing.T) {
	for _, tc := range []struct {
		name, path, want string
	}{
		{"file", "a.txt", "sha256:67094af07c95b85def834cf890cc12eb1892f0f6dfd8963574e5a15751eb93b3"},
		{"directory", "b", "sha256:a48302eb11c21ff947c0cd3aa6a821d926af2f62ae170f48b845cbe78ac05aa4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := write(t, t.TempDir(), tree)
			pin := resolve(t, New(newSpool(t), manifests.File{Path: tc.path, Name: "docs"}, Options{Dir: dir, Version: "v1", Created: epoch}))
			if got := pin.Manifests[0].Digest.String(); got != tc.want {
				t.Errorf("digest = %s, want %s", got, tc.want)
			}
		})
	}
}

func TestSameBytesFromAnotherFolderAndClock(t *testing.T) {
	entry := manifests.File{Path: "in", Name: "docs"}
	var pins []bundle.Pin
	for range 2 {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "in"), tree)
		later := time.Now().Add(time.Duration(len(pins)) * 100 * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, "in", "a.txt"), later, later); err != nil {
			t.Fatal(err)
		}
		pins = append(pins, resolve(t, New(newSpool(t), entry, Options{Dir: dir, Version: "v1", Created: epoch})))
	}
	if d := cmp.Diff(pins[0], pins[1]); d != "" {
		t.Errorf("pins differ:\n%s", d)
	}
	if got, want := pins[0].Ref, "files/docs:v1"; got != want {
		t.Errorf("ref = %q, want %q", got, want)
	}
}

func TestFileRoundTrip(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := New(newSpool(t), manifests.File{Path: self, Name: "launcher"}, Options{Version: "v1", Created: epoch})
	pin := resolve(t, s)
	layer := layerOf(t, pin.Manifests[0])
	meta, err := ParseMeta(layer.Annotations)
	if err != nil {
		t.Fatal(err)
	}
	if meta.Mode != 0o755 || !strings.HasPrefix(meta.ELFMachine, "EM_") {
		t.Errorf("meta = %+v, want mode 0755 and an ELF machine", meta)
	}
	packed := readAll(t, s, pin, layer)
	root := openRoot(t)
	if err := ExtractFile(root, "out", bytes.NewReader(packed), meta, Limits{}); err != nil {
		t.Fatal(err)
	}
	got, err := root.ReadFile("out")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("extracted file differs")
	}
	if err := ExtractFile(root, "out", bytes.NewReader(packed), meta, Limits{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second extract: got %v, want ErrExist", err)
	}
	meta.SHA256 = strings.Repeat("0", 64)
	err = ExtractFile(root, "other", bytes.NewReader(packed), meta, Limits{})
	if _, ok := errors.AsType[*ContentError](err); !ok {
		t.Errorf("wrong sum: got %v, want *ContentError", err)
	}
	if err := ExtractFile(root, "other", bytes.NewReader(packed), meta, Limits{Bytes: 10}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("limit: got %v, want ErrTooLarge", err)
	}
	onlyFile(t, root, "out")
}

func onlyFile(t *testing.T, root *os.Root, name string) {
	t.Helper()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("directory holds %v, want only %s", entries, name)
	}
}

func openRoot(t *testing.T) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func TestDirectoryRoundTrip(t *testing.T) {
	dir := write(t, t.TempDir(), tree)
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := New(newSpool(t), manifests.File{Path: ".", Name: "docs"}, Options{Dir: dir, Version: "v1", Created: epoch})
	pin := resolve(t, s)
	layer := layerOf(t, pin.Manifests[0])
	if layer.MediaType != bundle.MediaTypeDirectory {
		t.Errorf("media type = %q", layer.MediaType)
	}
	packed := readAll(t, s, pin, layer)
	root := openRoot(t)
	if err := ExtractDirectory(root, bytes.NewReader(packed), Limits{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range tree {
		got, err := root.ReadFile(name)
		if err != nil || string(got) != want {
			t.Errorf("%s = %.20q, %v; want %.20q", name, got, err, want)
		}
	}
	for name, want := range map[string]fs.FileMode{"b/run.sh": 0o755, "a.txt": 0o644, "empty": 0o755 | fs.ModeDir} {
		if fi, err := root.Stat(name); err != nil || fi.Mode() != want {
			t.Errorf("%s: %v, %v; want mode %v", name, fi, err, want)
		}
	}
	if err := ExtractDirectory(openRoot(t), bytes.NewReader(packed), Limits{Bytes: 100}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("bytes limit: got %v, want ErrTooLarge", err)
	}
	if err := ExtractDirectory(openRoot(t), bytes.NewReader(packed), Limits{Entries: 2}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("entries limit: got %v, want ErrTooLarge", err)
	}
}

func TestResolveRefuses(t *testing.T) {
	dir := write(t, t.TempDir(), map[string]string{"ok": "x", "in/ok": "x"})
	if err := os.Symlink("ok", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("ok", filepath.Join(dir, "in", "link")); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		entry   manifests.File
		version string
		want    string
	}{
		{manifests.File{Path: "link", Name: "a"}, "v1", `"link" is a symbolic link`},
		{manifests.File{Path: "in", Name: "a"}, "v1", `"link" is a symbolic link`},
		{manifests.File{Path: "missing", Name: "a"}, "v1", "no such file"},
		{manifests.File{Path: "ok", Name: "A b"}, "v1", "is no repository name"},
		{manifests.File{Path: "ok", Name: "a"}, "v1+build", "is no tag"},
		{manifests.File{Path: "ok", Name: "a"}, "", "is no tag"},
	} {
		_, err := New(newSpool(t), tc.entry, Options{Dir: dir, Version: tc.version}).Resolve(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: got %v, want %q", tc.entry, err, tc.want)
		}
	}
}

func TestExtractDirectoryRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		hdr  []tar.Header
		is   func(error) bool
	}{
		{"parent", []tar.Header{{Name: "../x"}}, isName},
		{"parent inside", []tar.Header{{Name: "a/../../x"}}, isName},
		{"absolute", []tar.Header{{Name: "/x"}}, isName},
		{"backslash", []tar.Header{{Name: `a\..\x`}}, isName},
		{"long", []tar.Header{{Name: strings.Repeat("a/", 600) + "x"}}, isName},
		{"symlink", []tar.Header{{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "x"}}, isType},
		{"hard link", []tar.Header{{Name: "l", Typeflag: tar.TypeLink, Linkname: "x"}}, isType},
		{"device", []tar.Header{{Name: "d", Typeflag: tar.TypeChar}}, isType},
		{"twice", []tar.Header{{Name: "x"}, {Name: "./x"}}, func(err error) bool { return errors.Is(err, fs.ErrExist) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b bytes.Buffer
			z, err := bundle.NewZstdWriter(&b)
			if err != nil {
				t.Fatal(err)
			}
			tw := tar.NewWriter(z)
			for _, h := range tc.hdr {
				if err := tw.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(tw.Close(), z.Close()); err != nil {
				t.Fatal(err)
			}
			if err := ExtractDirectory(openRoot(t), &b, Limits{}); !tc.is(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func isName(err error) bool { _, ok := errors.AsType[*NameError](err); return ok }
func isType(err error) bool { _, ok := errors.AsType[*TypeError](err); return ok }

// fakeELF is as much of an ELF file as anybody looks at.
func fakeELF(m elf.Machine) string {
	h := make([]byte, 64)
	copy(h, elf.ELFMAG)
	h[elf.EI_CLASS], h[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	h[18], h[19] = byte(m), byte(m>>8)
	return string(h)
}

func TestTool(t *testing.T) {
	dir := write(t, t.TempDir(), map[string]string{"amd": fakeELF(elf.EM_X86_64), "arm": fakeELF(elf.EM_AARCH64)})
	opts := Options{Dir: dir, Version: "v1.2.3", Created: epoch}
	s := NewTool(newSpool(t), map[string]string{"linux/arm64": "arm", "linux/amd64": "amd"}, opts)
	pin := resolve(t, s)
	if pin.Ref != "airlock:v1.2.3" || pin.Kind != bundle.KindTool || len(pin.Manifests) != 3 || len(pin.Blobs) != 4 {
		t.Fatalf("pin = %+v", pin)
	}
	var index ocispec.Index
	if err := json.Unmarshal(pin.Manifests[0].Raw, &index); err != nil {
		t.Fatal(err)
	}
	if got := []string{index.Manifests[0].Platform.Architecture, index.Manifests[1].Platform.Architecture}; !cmp.Equal(got, []string{"amd64", "arm64"}) {
		t.Errorf("platforms = %v", got)
	}
	layer := readAll(t, s, pin, layerOf(t, pin.Manifests[1]))
	root := openRoot(t)
	if err := ExtractDirectory(root, bytes.NewReader(layer), Limits{}); err != nil {
		t.Fatal(err)
	}
	if got, err := root.ReadFile("airlock"); err != nil || string(got) != fakeELF(elf.EM_X86_64) {
		t.Errorf("binary: %v, differs", err)
	}
	if got, want := pin.Manifests[0].Digest.String(), "sha256:435de139f65b0c8a6d5c8fae32257ddc2ddac644c52a3273d94f082b2a2c3bb8"; got != want {
		t.Errorf("golden digest = %s, want %s", got, want)
	}
	for want, binaries := range map[string]map[string]string{
		"is built for EM_AARCH64, want EM_X86_64": {"linux/amd64": "arm"},
		"no binary given":                         nil,
		"is not os/arch":                          {"linux": "amd"},
		"no such file":                            {"linux/amd64": "gone"},
	} {
		_, err := NewTool(newSpool(t), binaries, opts).Resolve(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestBytes(t *testing.T) {
	doc := Document{Kind: bundle.KindChecklist, Name: "spacelift", Title: "checklist.yaml", MediaType: bundle.MediaTypeChecklist, Data: []byte("items: []\n")}
	s := NewBytes(newSpool(t), doc, Options{Version: "v1"})
	pin := resolve(t, s)
	layer := layerOf(t, pin.Manifests[0])
	if got := readAll(t, s, pin, layer); !bytes.Equal(got, doc.Data) {
		t.Errorf("layer = %q", got)
	}
	if pin.Ref != "checklist/spacelift:v1" || pin.Manifests[0].ArtifactType != bundle.MediaTypeChecklist || layer.Annotations[ocispec.AnnotationTitle] != "checklist.yaml" {
		t.Errorf("pin = %+v", pin)
	}
}

func TestLinkTarget(t *testing.T) {
	for _, tc := range []struct {
		member, target string
		symbolic       bool
		want           string // empty: refused
	}{
		{"a/layer.tar", "../b/layer.tar", true, "b/layer.tar"},
		{"a/layer.tar", "../../b", true, ""},
		{"a", "/etc/passwd", true, ""},
		{"a/b", "c", false, "c"},
		{"a/b", "../c", false, ""},
		{"a", "", true, ""},
	} {
		got, err := LinkTarget(tc.member, tc.target, tc.symbolic)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("LinkTarget(%q, %q) = %q, %v; want %q", tc.member, tc.target, got, err, tc.want)
		}
	}
}

func TestIsSparse(t *testing.T) {
	for _, tc := range []struct {
		h    tar.Header
		want bool
	}{
		{tar.Header{Typeflag: tar.TypeReg}, false},
		{tar.Header{Typeflag: tar.TypeReg, PAXRecords: map[string]string{"path": "x"}}, false},
		{tar.Header{Typeflag: tar.TypeReg, PAXRecords: map[string]string{"GNU.sparse.realsize": "1"}}, true},
		{tar.Header{Typeflag: tar.TypeGNUSparse}, true},
	} {
		if got := IsSparse(&tc.h); got != tc.want {
			t.Errorf("IsSparse(%+v) = %v", tc.h, got)
		}
	}
}

func FuzzExtractDirectory(f *testing.F) {
	var b bytes.Buffer
	z, err := bundle.NewZstdWriter(&b)
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o600); err != nil {
		f.Fatal(err)
	}
	if err := errors.Join(WriteTar(z, os.DirFS(dir), epoch), z.Close()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	f.Fuzz(func(t *testing.T, b []byte) {
		outer := t.TempDir()
		if err := os.Mkdir(filepath.Join(outer, "in"), 0o700); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(filepath.Join(outer, "in"))
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		_ = ExtractDirectory(root, bytes.NewReader(b), Limits{Bytes: 1 << 20, Entries: 100}) // only its traces matter
		if entries, err := os.ReadDir(outer); err != nil || len(entries) != 1 {
			t.Fatalf("wrote outside the root: %v, %v", entries, err)
		}
	})
}
