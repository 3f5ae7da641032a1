package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/testdata/fixture"
)

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
				s := image(t, "example.com/a:1", 1, 300_000, 4<<20-512)
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
				p := fixture.Plan(t, spool, src)
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

// TestCancel leaves a state from which the same plan goes on.
func TestCancel(t *testing.T) {
	spool, sources := twoImages(t)
	want := filepath.Join(t.TempDir(), "want")
	p := resolve(t, spool, fixture.Epoch, nil, sources)
	create(t, p, bundle.CreateOptions{Output: want})

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
	if r.Reused == 0 || r.Reused == r.Blobs {
		t.Errorf("reused %d of %d blobs", r.Reused, r.Blobs)
	}
	if !bytes.Equal(read(t, want), read(t, out)) {
		t.Error("the resumed file differs")
	}
}
