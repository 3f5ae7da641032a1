package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/opencontainers/go-digest"
)

func image(t testing.TB, name string, seed uint64, sizes ...int) *fixture.Source {
	t.Helper()
	// A spool of its own: nothing the source holds is found in the plan's.
	s, err := fixture.NewImage(fixture.Spool(t), name, seed, sizes...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// twoImages are the sources of most tests here: layers of many sizes, one shared.
func twoImages(t testing.TB) (*bundle.Spool, []*fixture.Source) {
	t.Helper()
	spool := fixture.Spool(t)
	a := image(t, "example.com/a:1", 1, 3<<20, 9<<20, 0, 1, 512)
	b := image(t, "example.com/b:1", 2, 700_000, 5<<20, 130_000)
	return spool, []*fixture.Source{a, b}
}

func resolve(t testing.TB, spool *bundle.Spool, created time.Time, locked *manifests.Lock, sources []*fixture.Source) *bundle.Plan {
	t.Helper()
	o := bundle.ResolveOptions{Info: fixture.Info(), Definition: digest.FromString("definition").String(), Locked: locked, Created: created, Spool: spool}
	for _, s := range sources {
		o.Sources = append(o.Sources, s)
	}
	p, err := bundle.Resolve(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func create(t testing.TB, p *bundle.Plan, o bundle.CreateOptions) bundle.Result {
	t.Helper()
	r, err := bundle.Create(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestDeterminism: the same lock gives the same bytes, whatever the folder, the
// clock and the concurrency; signatures differ inside HEAD only.
func TestDeterminism(t *testing.T) {
	spool, sources := twoImages(t)
	first := resolve(t, spool, fixture.Epoch, nil, sources)
	lock, err := manifests.ParseLock("airlock.lock", first.Lock)
	if err != nil {
		t.Fatal(err)
	}
	one := filepath.Join(t.TempDir(), "one.tar.zst")
	r := create(t, first, bundle.CreateOptions{Output: one, Concurrency: 1})
	want := read(t, one)
	if r.Size != int64(len(want)) || r.Written > r.Size*101/100 {
		t.Errorf("wrote %d bytes for a file of %d, says %d", r.Written, len(want), r.Size)
	}

	spool, sources = twoImages(t)
	second := resolve(t, spool, fixture.Epoch.Add(400*24*time.Hour), lock, sources)
	if !bytes.Equal(first.Index, second.Index) || !bytes.Equal(first.Lock, second.Lock) {
		t.Errorf("lock or index changed on the way through the lock:\n%s\n%s", first.Lock, second.Lock)
	}
	two := filepath.Join(t.TempDir(), "other", "two.tar.zst")
	if err := os.Mkdir(filepath.Dir(two), 0o755); err != nil {
		t.Fatal(err)
	}
	create(t, second, bundle.CreateOptions{Output: two, Concurrency: 16})
	if !bytes.Equal(want, read(t, two)) {
		t.Error("unsigned files differ")
	}
	for _, name := range []string{"s1", "s2"} {
		k, _ := fixture.Key(t)
		path := filepath.Join(t.TempDir(), name)
		create(t, second, bundle.CreateOptions{Output: path, Sign: fixture.Signer(k), Concurrency: -1})
		got := read(t, path)
		head := archive.HeadSize(len(first.Index))
		if !bytes.Equal(want[head:], got[head:]) || bytes.Equal(want[:head], got[:head]) {
			t.Errorf("signed file differs elsewhere than in its %d bytes of HEAD", head)
		}
	}
}

// TestLockChanged refuses sources that no longer yield what the lock says.
func TestLockChanged(t *testing.T) {
	spool, sources := twoImages(t)
	lock, err := manifests.ParseLock("airlock.lock", resolve(t, spool, fixture.Epoch, nil, sources).Lock)
	if err != nil {
		t.Fatal(err)
	}
	other := image(t, "example.com/a:1", 9, 10)
	_, err = bundle.Resolve(t.Context(), bundle.ResolveOptions{Info: fixture.Info(), Sources: []bundle.Source{other}, Locked: lock, Spool: spool})
	if _, ok := errors.AsType[*bundle.ChangedError](err); !ok {
		t.Errorf("got %v", err)
	}
}

func TestCreateRefusesOutput(t *testing.T) {
	spool, sources := twoImages(t)
	p := resolve(t, spool, fixture.Epoch, nil, sources)
	there := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(there, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Create(t.Context(), p, bundle.CreateOptions{Output: there}); !errors.Is(err, os.ErrExist) {
		t.Errorf("existing output: %v", err)
	}
	if got := read(t, there); string(got) != "precious" {
		t.Errorf("existing output now holds %q", got)
	}
	// /proc has no free space: a disk that is too small shows before anything is fetched.
	_, err := bundle.Create(t.Context(), p, bundle.CreateOptions{Output: "/proc/x"})
	if _, ok := errors.AsType[*bundle.SpaceError](err); !ok {
		t.Errorf("no space: %v", err)
	}
	if _, err := bundle.Create(t.Context(), p, bundle.CreateOptions{Output: filepath.Join(t.TempDir(), "none", "x")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if n := sources[0].Opens.Load() + sources[1].Opens.Load(); n != 0 {
		t.Errorf("%d blobs were opened for nothing", n)
	}
	refused := errors.New("no")
	_, err = bundle.Create(t.Context(), p, bundle.CreateOptions{Output: filepath.Join(t.TempDir(), "x"), Sign: func(context.Context, []byte) ([]archive.Signature, error) { return nil, refused }})
	if n := sources[0].Opens.Load() + sources[1].Opens.Load(); n != 0 || !errors.Is(err, refused) {
		t.Errorf("signer refuses: %v after %d opens", err, n)
	}
}

// TestSharedBlobs writes what two images share once.
func TestSharedBlobs(t *testing.T) {
	spool := fixture.Spool(t)
	a, b := image(t, "example.com/a:1", 1, 100_000), image(t, "example.com/b:1", 1, 100_000)
	p := resolve(t, spool, fixture.Epoch, nil, []*fixture.Source{a, b})
	seen := map[digest.Digest]bool{}
	for _, blob := range slices.Concat(p.Contents.Meta, p.Contents.Placed, p.Contents.Packed) {
		if seen[blob.Digest] {
			t.Errorf("blob %s is planned twice", blob.Digest)
		}
		seen[blob.Digest] = true
	}
	if len(p.Contents.Placed) != 1 {
		t.Errorf("%d placed blobs", len(p.Contents.Placed))
	}
}
