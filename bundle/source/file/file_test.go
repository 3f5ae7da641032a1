package file

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/json"
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
	"github.com/klauspost/compress/zstd"
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
	z, err := zstd.NewReader(bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	tr := tar.NewReader(z)
	h, err := tr.Next()
	if err != nil || h.Name != "airlock" || h.Mode != 0o755 {
		t.Errorf("member %+v, %v; want airlock of mode 0755", h, err)
	}
	if got, err := io.ReadAll(tr); err != nil || string(got) != fakeELF(elf.EM_X86_64) {
		t.Errorf("binary: %v, differs", err)
	}
	if _, err := tr.Next(); err != io.EOF {
		t.Errorf("after the binary: got %v, want EOF", err)
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
