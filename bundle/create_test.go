package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/verify"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func image(t testing.TB, spool *bundle.Spool, name string, seed uint64, sizes ...int) *fixture.Source {
	t.Helper()
	s, err := fixture.NewImage(spool, name, seed, sizes...)
	if err != nil {
		t.Fatal(err)
	}
	// The source alone answers: nothing it holds is taken from the spool.
	empty := fixture.Spool(t)
	*spool = *empty
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
	a := image(t, spool, "example.com/a:1", 1, 3<<20, 9<<20, 0, 1, 512)
	b := image(t, spool, "example.com/b:1", 2, 700_000, 5<<20, 130_000)
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
	other := image(t, spool, "example.com/a:1", 9, 10)
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

func TestTwoCreators(t *testing.T) {
	spool, sources := twoImages(t)
	p := resolve(t, spool, fixture.Epoch, nil, sources)
	out := filepath.Join(t.TempDir(), "x")
	w, err := archive.Create(out, archive.Plan{Index: len(p.Index), Contents: p.Contents, Record: string(p.Lock)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = bundle.Create(t.Context(), p, bundle.CreateOptions{Output: out})
	if _, ok := errors.AsType[*archive.BusyError](err); !ok {
		t.Errorf("second creator: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	create(t, p, bundle.CreateOptions{Output: out})
}

// breakAfter yields n bytes and an error.
func breakAfter(n int64, err error) func(io.Reader) io.Reader {
	return func(r io.Reader) io.Reader { return io.MultiReader(io.LimitReader(r, n), failing{err}) }
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestBrokenBodies: what breaks off is fetched again, what is wrong is not.
func TestBrokenBodies(t *testing.T) {
	flip := func(r io.Reader) io.Reader {
		data, err := io.ReadAll(r)
		if err != nil || len(data) == 0 {
			return failing{errors.New("nothing to flip")}
		}
		data[len(data)/2] ^= 1
		return bytes.NewReader(data)
	}
	for _, tt := range []struct {
		name  string
		fail  func(io.Reader) io.Reader
		again bool
	}{
		{"reset", breakAfter(1000, errors.New("connection reset")), true},
		{"ends early", func(r io.Reader) io.Reader { return io.LimitReader(r, 1000) }, true},
		{"wrong content", flip, false},
		{"too much", func(r io.Reader) io.Reader { return io.MultiReader(r, bytes.NewReader([]byte{0})) }, false},
	} {
		for _, layer := range []int{0, 1} { // PLACED and PACKED
			t.Run(fmt.Sprint(tt.name, layer), func(t *testing.T) {
				t.Parallel()
				spool := fixture.Spool(t)
				// With 512 bytes of header the PACKED layer fills its last frame.
				s := image(t, spool, "example.com/a:1", 1, 300_000, 4<<20-512)
				p := resolve(t, spool, fixture.Epoch, nil, []*fixture.Source{s})
				bad := s.Pin.Blobs[1+layer]
				opened := 0
				src := &perBlob{Source: s, open: func(d bundle.Descriptor, r io.Reader) io.Reader {
					if d.Digest != bad.Digest {
						return r
					}
					if opened++; opened == 1 || !tt.again {
						return tt.fail(r)
					}
					return r
				}}
				p.Sources[0] = src
				p = resolveSource(t, spool, src)
				_, err := bundle.Create(t.Context(), p, bundle.CreateOptions{Output: filepath.Join(t.TempDir(), "x")})
				if tt.again {
					if err != nil || opened != 2 {
						t.Errorf("%d opens, %v", opened, err)
					}
					return
				}
				if _, ok := errors.AsType[*archive.DigestError](err); !ok || opened != 1 {
					t.Errorf("%d opens, %v", opened, err)
				}
			})
		}
	}
}

// perBlob changes bodies by what they are.
type perBlob struct {
	*fixture.Source
	open func(d bundle.Descriptor, r io.Reader) io.Reader
}

func (s *perBlob) Open(ctx context.Context, pin bundle.Pin, d bundle.Descriptor) (io.ReadCloser, error) {
	rc, err := s.Source.Open(ctx, pin, d)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(s.open(d, rc)), nil
}

func resolveSource(t testing.TB, spool *bundle.Spool, s bundle.Source) *bundle.Plan {
	t.Helper()
	return fixture.Plan(t, spool, s)
}

// TestCancel leaves a state from which the same plan goes on.
func TestCancel(t *testing.T) {
	spool, sources := twoImages(t)
	want := filepath.Join(t.TempDir(), "want")
	p := resolve(t, spool, fixture.Epoch, nil, sources)
	create(t, p, bundle.CreateOptions{Output: want})
	opens := sources[0].Opens.Load() + sources[1].Opens.Load()

	out := filepath.Join(t.TempDir(), "x")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sources[1].Fail = func(_ int64, r io.Reader) io.Reader {
		cancel()
		return r
	}
	if _, err := bundle.Create(ctx, p, bundle.CreateOptions{Output: out, Concurrency: 1}); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	if _, err := os.Lstat(out); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("cancelled create left an output: %v", err)
	}
	sources[1].Fail = nil
	r := create(t, p, bundle.CreateOptions{Output: out})
	if r.Reused == 0 || int64(r.Blobs-r.Reused) > opens {
		t.Errorf("reused %d of %d blobs", r.Reused, r.Blobs)
	}
	if !bytes.Equal(read(t, want), read(t, out)) {
		t.Error("the resumed file differs")
	}
}

// TestMemory creates and verifies half a GiB of zeros within little memory.
func TestMemory(t *testing.T) {
	const size = 512 << 20
	spool := fixture.Spool(t)
	s, err := newZeros(spool, size)
	if err != nil {
		t.Fatal(err)
	}
	p := resolveSource(t, spool, s)
	path := filepath.Join(t.TempDir(), "x")
	k, pub := fixture.Key(t)
	policy, err := verify.KeyPolicy(pub)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	create(t, p, bundle.CreateOptions{Output: path, Sign: fixture.Signer(k)})
	b, err := verify.Open(t.Context(), path, policy, verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.VerifyAll(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 64<<20 {
		t.Errorf("the heap grew by %d MB", grown>>20)
	}
}

// zeros is an image with one layer of zeros that exists nowhere.
type zeros struct {
	pin   bundle.Pin
	layer bundle.Descriptor
}

func newZeros(spool *bundle.Spool, size int64) (*zeros, error) {
	h := digest.SHA256.Digester()
	if _, err := io.CopyN(h.Hash(), zeroReader{}, size); err != nil {
		return nil, err
	}
	s := &zeros{layer: bundle.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: h.Digest(), Size: size}}
	m, err := bundle.PackArtifact(spool, "application/vnd.example", bundle.Descriptor{}, []bundle.Descriptor{s.layer}, nil)
	if err != nil {
		return nil, err
	}
	m.Ref = "example.com/zeros:1"
	s.pin = bundle.Pin{Item: bundle.Item{Kind: bundle.KindImage, Name: "zeros", Ref: m.Ref}, Manifests: []bundle.Manifest{m}, Blobs: []bundle.Descriptor{bundle.EmptyConfig(), s.layer}}
	return s, nil
}

func (s *zeros) Origin() string { return "zeros" }

func (s *zeros) Resolve(context.Context, []bundle.Pin) ([]bundle.Pin, error) {
	return []bundle.Pin{s.pin}, nil
}

func (s *zeros) Open(_ context.Context, _ bundle.Pin, d bundle.Descriptor) (io.ReadCloser, error) {
	if d.Digest != s.layer.Digest {
		return nil, fmt.Errorf("unknown blob %s", d.Digest)
	}
	return io.NopCloser(io.LimitReader(zeroReader{}, d.Size)), nil
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestSharedBlobs writes what two images share once.
func TestSharedBlobs(t *testing.T) {
	spool := fixture.Spool(t)
	a, b := image(t, spool, "example.com/a:1", 1, 100_000), image(t, spool, "example.com/b:1", 1, 100_000)
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
