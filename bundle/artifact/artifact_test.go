package artifact

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/klauspost/compress/zstd"
)

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

func openRoot(t *testing.T) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// layer returns the bytes of a packed layer and what its annotations say.
func layer(t *testing.T, s *bundle.Spool, p Packed) ([]byte, Meta) {
	t.Helper()
	meta, err := ParseMeta(p.Layer.Annotations)
	if err != nil {
		t.Fatal(err)
	}
	rc, err := s.Open(p.Layer)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil || int64(len(b)) != p.Layer.Size {
		t.Fatalf("layer has %d bytes, %v; want %d", len(b), err, p.Layer.Size)
	}
	return b, meta
}

func is[T error](err error) bool { _, ok := errors.AsType[T](err); return ok }

func TestFileRoundTrip(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := newSpool(t)
	p, err := Pack(s, "launcher", 0o700, f)
	if err != nil {
		t.Fatal(err)
	}
	packed, meta := layer(t, s, p)
	if meta.Mode != 0o755 || !strings.HasPrefix(meta.ELFMachine, "EM_") {
		t.Errorf("meta = %+v, want mode 0755 and an ELF machine", meta)
	}
	root := openRoot(t)
	if err := ExtractFile(t.Context(), root, "out", bytes.NewReader(packed), meta, Limits{}); err != nil {
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
	if err := ExtractFile(t.Context(), root, "out", bytes.NewReader(packed), meta, Limits{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second extract: got %v, want ErrExist", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ExtractFile(ctx, root, "other", bytes.NewReader(packed), meta, Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: got %v", err)
	}
	meta.SHA256 = strings.Repeat("0", 64)
	err = ExtractFile(t.Context(), root, "other", bytes.NewReader(packed), meta, Limits{})
	if !is[*ContentError](err) {
		t.Errorf("wrong sum: got %v, want *ContentError", err)
	}
	if err := ExtractFile(t.Context(), root, "other", bytes.NewReader(packed), meta, Limits{Bytes: 10}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("limit: got %v, want ErrTooLarge", err)
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil || len(entries) != 1 || entries[0].Name() != "out" {
		t.Errorf("directory holds %v, %v; want only out", entries, err)
	}
}

func TestExtractFileLongestName(t *testing.T) {
	s := newSpool(t)
	p, err := Pack(s, "x", 0o600, strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	packed, meta := layer(t, s, p)
	root := openRoot(t)
	longest := strings.Repeat("n", 255)
	if err := ExtractFile(t.Context(), root, longest, bytes.NewReader(packed), meta, Limits{}); err != nil {
		t.Errorf("longest name: %v", err)
	}
	if got, err := root.ReadFile(longest); err != nil || string(got) != "content" {
		t.Errorf("read %q, %v", got, err)
	}
}

var tree = fstest.MapFS{
	"b/run.sh": {Data: []byte("#!/bin/sh\n"), Mode: 0o700},
	"a.txt":    {Data: []byte("text\n"), Mode: 0o600},
	"b/c/deep": {Data: bytes.Repeat([]byte("x"), 5000)},
	"empty":    {Mode: fs.ModeDir | 0o700},
}

func TestDirectoryRoundTrip(t *testing.T) {
	var plain bytes.Buffer
	if err := WriteTar(&plain, tree, epoch); err != nil {
		t.Fatal(err)
	}
	s := newSpool(t)
	p, err := PackDirectory(s, "docs", &plain)
	if err != nil {
		t.Fatal(err)
	}
	if p.Layer.MediaType != bundle.MediaTypeDirectory {
		t.Errorf("media type = %q", p.Layer.MediaType)
	}
	packed, meta := layer(t, s, p)
	root := openRoot(t)
	if err := ExtractDirectory(t.Context(), root, bytes.NewReader(packed), meta, Limits{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b/run.sh", "a.txt", "b/c/deep"} {
		got, err := root.ReadFile(name)
		if err != nil || !bytes.Equal(got, tree[name].Data) {
			t.Errorf("%s = %.20q, %v", name, got, err)
		}
	}
	for name, want := range map[string]fs.FileMode{"b/run.sh": 0o755, "a.txt": 0o644, "empty": 0o755 | fs.ModeDir} {
		if fi, err := root.Stat(name); err != nil || fi.Mode() != want {
			t.Errorf("%s: %v, %v; want mode %v", name, fi, err, want)
		}
	}
	tooLarge := func(err error) bool { return errors.Is(err, ErrTooLarge) }
	short, other, canceled := meta, meta, func(err error) bool { return errors.Is(err, context.Canceled) }
	short.Size--
	other.SHA256 = strings.Repeat("0", 64)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		name   string
		ctx    context.Context
		meta   Meta
		limits Limits
		is     func(error) bool
	}{
		{"bytes", t.Context(), meta, Limits{Bytes: 100}, tooLarge},
		{"entries", t.Context(), meta, Limits{Entries: 2}, tooLarge},
		{"tar", t.Context(), meta, Limits{Bytes: 1, Entries: 1}, tooLarge},
		{"size", t.Context(), short, Limits{}, is[*ContentError]},
		{"sum", t.Context(), other, Limits{}, is[*ContentError]},
		{"canceled", ended, meta, Limits{}, canceled},
	} {
		if err := ExtractDirectory(tc.ctx, openRoot(t), bytes.NewReader(packed), tc.meta, tc.limits); !tc.is(err) {
			t.Errorf("%s: got %v", tc.name, err)
		}
	}
}

// TestWriteTarRefuses shows what is not carried.
func TestWriteTarRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		fsys fstest.MapFS
		is   func(error) bool
	}{
		"link":      {fstest.MapFS{"l": {Mode: fs.ModeSymlink | 0o777, Data: []byte("x")}}, is[*TypeError]},
		"pipe":      {fstest.MapFS{"p": {Mode: fs.ModeNamedPipe}}, is[*TypeError]},
		"backslash": {fstest.MapFS{`a\b`: {}}, is[*NameError]},
	} {
		if err := WriteTar(io.Discard, tc.fsys, epoch); !tc.is(err) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestExtractDirectoryRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		hdr  []tar.Header
		is   func(error) bool
	}{
		{"parent", []tar.Header{{Name: "../x"}}, is[*NameError]},
		{"parent inside", []tar.Header{{Name: "a/../../x"}}, is[*NameError]},
		{"absolute", []tar.Header{{Name: "/x"}}, is[*NameError]},
		{"backslash", []tar.Header{{Name: `a\..\x`}}, is[*NameError]},
		{"long", []tar.Header{{Name: strings.Repeat("a/", 600) + "x"}}, is[*NameError]},
		{"symlink", []tar.Header{{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "x"}}, is[*TypeError]},
		{"hard link", []tar.Header{{Name: "l", Typeflag: tar.TypeLink, Linkname: "x"}}, is[*TypeError]},
		{"device", []tar.Header{{Name: "d", Typeflag: tar.TypeChar}}, is[*TypeError]},
		{"before its directory", []tar.Header{{Name: "a/b"}}, func(err error) bool { return errors.Is(err, fs.ErrNotExist) }},
		{"directory twice", []tar.Header{{Name: "a/", Typeflag: tar.TypeDir}, {Name: "a/", Typeflag: tar.TypeDir}}, func(err error) bool { return errors.Is(err, fs.ErrExist) }},
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
			if err := ExtractDirectory(t.Context(), openRoot(t), &b, metaOf(t, b.Bytes()), Limits{}); !tc.is(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestExtractDirectoryRefusesSparse hands over a header that names a gigabyte of
// zeros and holds none of them (GNU tar, "Old GNU Format").
func TestExtractDirectoryRefusesSparse(t *testing.T) {
	var plain bytes.Buffer
	tw := tar.NewWriter(&plain)
	if err := tw.WriteHeader(&tar.Header{Name: "x", Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	h := plain.Bytes()[:512]
	h[156] = tar.TypeGNUSparse
	copy(h[386:], "10000000000\x0000000000000\x00") // one fragment: empty, at the end
	copy(h[483:], "10000000000\x00")                // real size
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z, err := bundle.NewZstdWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(plain.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	err = ExtractDirectory(t.Context(), openRoot(t), &packed, metaOf(t, packed.Bytes()), Limits{})
	if err == nil || !strings.Contains(err.Error(), "sparse") {
		t.Errorf("got %v, want a refusal of the sparse file", err)
	}
}

// metaOf describes a zstd layer; what does not unpack is described as empty.
func metaOf(t *testing.T, packed []byte) Meta {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(z, 4<<20))
	if err != nil {
		n = 0
	}
	return Meta{Title: "t", SHA256: hex.EncodeToString(h.Sum(nil)), Size: n, Mode: 0o755}
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
		_ = ExtractDirectory(t.Context(), root, bytes.NewReader(b), metaOf(t, b), Limits{Bytes: 1 << 20, Entries: 100}) // only its traces matter
		if entries, err := os.ReadDir(outer); err != nil || len(entries) != 1 {
			t.Fatalf("wrote outside the root: %v, %v", entries, err)
		}
	})
}
