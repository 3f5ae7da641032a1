package verify_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/verify"
)

func image(t *testing.T, spool *bundle.Spool, name string, seed uint64, sizes ...int) *fixture.Source {
	t.Helper()
	s, err := fixture.NewImage(spool, name, seed, sizes...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpenVerifyRead(t *testing.T) {
	spool := fixture.Spool(t)
	a := image(t, spool, "example.com/a:1", 1, 3<<20, 9<<20, 0, 1, 512)
	b := fixture.Open(t, spool, a, image(t, spool, "example.com/b:1", 2, 40<<20))
	if err := b.VerifyAll(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range a.Pin.Blobs {
		rc, err := b.Fetch(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(rc)
		rc.Close()
		if err != nil || int64(len(data)) != want.Size || want.Digest.Algorithm().FromBytes(data) != want.Digest {
			t.Errorf("fetch %s: %d bytes, %v", want.Digest, len(data), err)
		}
	}
	if got := b.Info(); got.Product != "demo" || got.Release != 7 {
		t.Errorf("info %+v", got)
	}
	if d := b.Decision(); len(d.Signers) != 1 {
		t.Errorf("decision %+v", d)
	}
}

func TestStream(t *testing.T) {
	spool := fixture.Spool(t)
	path, pub := fixture.File(t, spool, image(t, spool, "example.com/a:1", 1, 3<<20, 9<<20, 0, 1, 512))
	p, err := verify.KeyPolicy(pub)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _, err := verify.Stream(t.Context(), f, nil, p, verify.Options{}, nil)
	if err != nil || info.Product != "demo" {
		t.Fatal(info, err)
	}
}

// TestLayoutDirectory reads what a stock tar would unpack, unpacked here by the
// standard library; stock_test.go has the real one.
func TestLayoutDirectory(t *testing.T) {
	f := forge(t)
	dir := t.TempDir()
	for _, m := range slices.Concat(f.head, f.stored, f.packed) {
		name := filepath.Join(dir, m.name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, m.data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	checkDirectory(t, dir, f.pub)
	layer := filepath.Join(dir, f.stored[len(f.stored)-1].name)
	data := read(t, layer)
	data[100] ^= 1
	if err := os.WriteFile(layer, data, 0o644); err != nil {
		t.Fatal(err)
	}
	opened, err := verifyFile(t, dir, f.pub)
	if _, ok := errors.AsType[*verify.ContentError](err); !opened || !ok {
		t.Errorf("damaged layer: opened %t, %v", opened, err)
	}
	if err := os.Remove(layer); err != nil {
		t.Fatal(err)
	}
	opened, err = verifyFile(t, dir, f.pub)
	if _, ok := errors.AsType[*archive.MissingError](err); opened || !ok {
		t.Errorf("missing layer: opened %t, %v", opened, err)
	}
}

func checkDirectory(t *testing.T, dir, pub string) {
	t.Helper()
	b, err := verify.Open(t.Context(), dir, policy(t, pub), verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.VerifyAll(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

// TestOpenOtherThings refuses what is no bundle without blocking on it.
func TestOpenOtherThings(t *testing.T) {
	_, pub := fixture.Key(t)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		pipe:                                 archive.ErrNotBundle,
		os.DevNull:                           archive.ErrNotBundle,
		t.TempDir():                          archive.ErrNotBundle,
		pub:                                  archive.ErrNotBundle,
		filepath.Join(t.TempDir(), "absent"): fs.ErrNotExist,
	} {
		if _, err := verify.Open(t.Context(), path, policy(t, pub), verify.Options{}); !errors.Is(err, want) {
			t.Errorf("%s: want %v, got %v", path, want, err)
		}
	}
}
