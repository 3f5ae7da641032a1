package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// sample has blobs of every size at which framing changes, and an entry that
// fills its last packed frame.
func sample(t testing.TB) (string, Contents, map[digest.Digest][]byte) {
	t.Helper()
	blobs := map[digest.Digest][]byte{}
	var placed, packed [][]byte
	add := func(list *[][]byte, b []byte) {
		if _, ok := blobs[digest.FromBytes(b)]; !ok {
			blobs[digest.FromBytes(b)] = b
			*list = append(*list, b)
		}
	}
	var meta [][]byte
	add(&meta, []byte(`{"manifest":1}`))
	add(&meta, bytes.Repeat([]byte(" "), 5000))
	for _, n := range sizes {
		add(&placed, filled(n))
	}
	for _, n := range []int64{2, 700, blockSize + 7, packedContent - tarBlock - 1, packedContent - tarBlock, packedContent - tarBlock + 1, 2*packedContent + 5} {
		add(&packed, noise(n))
	}
	path, c := write(t, tinyHead(), meta, placed, packed)
	return path, c, blobs
}

func TestRoundTrip(t *testing.T) {
	path, c, blobs := sample(t)
	if _, err := os.Stat(path + ".partial.journal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("journal remains: %v", err)
	}
	t.Run("reader", func(t *testing.T) {
		r, h, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		checkHead(t, h)
		if err := r.LocateMeta(c.Meta); err != nil {
			t.Fatal(err)
		}
		if err := r.Locate(c); err != nil {
			t.Fatal(err)
		}
		all := slices.Concat(c.Meta, c.Placed, c.Packed)
		slices.Reverse(all)
		for _, b := range all {
			rc, err := r.Open(b)
			if err != nil {
				t.Fatal(err)
			}
			check(t, b, rc, blobs)
			rc.Close()
		}
	})
	t.Run("stream", func(t *testing.T) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		// One byte at a time at most: nothing may rely on full reads.
		s, h, err := NewStream(io.MultiReader(io.LimitReader(oneByte{f}, 5000), f))
		if err != nil {
			t.Fatal(err)
		}
		checkHead(t, h)
		if err := s.Locate(c); err != nil {
			t.Fatal(err)
		}
		for _, b := range slices.Concat(c.Meta, c.Placed) {
			check(t, b, s.NextStored(b), blobs)
		}
		for _, b := range c.Packed {
			check(t, b, s.NextPacked(b), blobs)
		}
		if err := s.End(); err != nil {
			t.Error(err)
		}
	})
	t.Run("directory", func(t *testing.T) {
		d, h, err := OpenDir(unpack(t, path))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		checkHead(t, h)
		if err := d.Locate(c); err != nil {
			t.Fatal(err)
		}
		for _, b := range slices.Concat(c.Meta, c.Placed, c.Packed) {
			rc, err := d.Open(b)
			if err != nil {
				t.Fatal(err)
			}
			check(t, b, rc, blobs)
			rc.Close()
		}
	})
}

type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

func checkHead(t *testing.T, h Head) {
	t.Helper()
	if diff := cmp.Diff(tinyHead(), h); diff != "" {
		t.Errorf("head (-want +got):\n%s", diff)
	}
}

func check(t *testing.T, b Blob, r io.Reader, blobs map[digest.Digest][]byte) {
	t.Helper()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, blobs[b.Digest]) {
		t.Errorf("blob of %d bytes: read %d bytes, %v", b.Size, len(got), err)
	}
}

// unpack does what "tar --zstd -xf" does, with the standard library.
func unpack(t testing.TB, path string) string {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDirClosedWorld refuses whatever a layout directory holds beside its
// blobs, lacks of them, or holds in another form.
func TestDirClosedWorld(t *testing.T) {
	path, c := tiny(t)
	blob := "blobs/sha256/" + c.Placed[0].Digest.Encoded()
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, root string)
		want   error
	}{
		{"file beside", put("README"), ErrEntryUnknown},
		{"file in blobs", put("blobs/x"), ErrEntryUnknown},
		{"other algorithm", put("blobs/sha512/x"), ErrEntryUnknown},
		{"unlisted blob", put("blobs/sha256/" + strings.Repeat("0", 64)), ErrEntryUnknown},
		{"blob with a suffix", put(blob + ".tmp"), ErrEntryUnknown},
		{"other trusted root", put("trusted_root.json"), ErrEntryUnknown},
		{"other layout", put("oci-layout"), ErrNotBundle},
		{"blob of another size", put(blob), ErrEntrySize},
		{"blob is a link", relink(blob), ErrEntryType},
		{"blob is a directory", func(t *testing.T, root string) { replaceByDir(t, filepath.Join(root, blob)) }, ErrEntryType},
		{"index is a link", relink("index.json"), ErrEntryType},
		{"blobs is a link", relink("blobs"), ErrEntryType},
		{"signatures is a link", relink("signatures"), ErrEntryType},
		{"signature is a link", relink("signatures/a.sigstore.json"), ErrEntryType},
		{"hidden signature", put("signatures/.x"), ErrEntryName},
		{"no layout", func(t *testing.T, root string) { remove(t, filepath.Join(root, "oci-layout")) }, ErrNotBundle},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := unpack(t, path)
			tt.change(t, root)
			if err := locateDir(root, c); !errors.Is(err, tt.want) {
				t.Errorf("want %v, got %v", tt.want, err)
			}
		})
	}
	t.Run("blob missing", func(t *testing.T) {
		root := unpack(t, path)
		remove(t, filepath.Join(root, blob))
		if me, ok := errors.AsType[*MissingError](locateDir(root, c)); !ok || me.Blob != c.Placed[0] {
			t.Errorf("got %v", me)
		}
	})
	t.Run("without trusted root and signatures", func(t *testing.T) {
		root := unpack(t, path)
		remove(t, filepath.Join(root, "trusted_root.json"))
		remove(t, filepath.Join(root, "signatures"))
		if err := locateDir(root, c); err != nil {
			t.Error(err)
		}
	})
}

func locateDir(root string, c Contents) error {
	d, _, err := OpenDir(root)
	if err != nil {
		return err
	}
	return errors.Join(d.Locate(c), d.Close())
}

func put(name string) func(*testing.T, string) {
	return func(t *testing.T, root string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("other"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// relink moves a file aside, within the layout's parent, and links to it.
func relink(name string) func(*testing.T, string) {
	return func(t *testing.T, root string) {
		t.Helper()
		aside := filepath.Join(t.TempDir(), "aside")
		if err := os.Rename(filepath.Join(root, name), aside); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(aside, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func replaceByDir(t *testing.T, path string) {
	t.Helper()
	remove(t, path)
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}
