package archive

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
)

// summed is content for a file whose sum is followed, some of it longer than
// what the summer reads at once.
type summed struct {
	head Head
	c    Contents
	data map[Blob][]byte
}

func newSummed(t *testing.T) *summed {
	t.Helper()
	s := &summed{head: Head{Index: []byte(`{"schemaVersion":2}`)}, data: map[Blob][]byte{}}
	rnd := rand.NewChaCha8([32]byte{7})
	add := func(sizes ...int) (list []Blob) {
		for _, n := range sizes {
			data := make([]byte, n)
			if _, err := rnd.Read(data); err != nil {
				t.Fatal(err)
			}
			b := Blob{Digest: digest.FromBytes(data), Size: int64(n)}
			s.data[b] = data
			list = append(list, b)
		}
		return list
	}
	s.c = Contents{Meta: add(900, 1), Placed: add(3<<20, 1<<20, 700, 0), Packed: add(5<<20, 100)}
	return s
}

func (s *summed) create(t *testing.T, path string) *Writer {
	t.Helper()
	w, err := Create(path, Plan{Index: len(s.head.Index), Contents: s.c, Record: "lock"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	if err := w.Follow(s.head); err != nil {
		t.Fatal(err)
	}
	return w
}

func (s *summed) stored() []Blob { return slices.Concat(s.c.Meta, s.c.Placed) }

// place writes what data begins with; the whole blob is also closed.
func (s *summed) place(t *testing.T, w *Writer, b Blob, data []byte) {
	t.Helper()
	pw, err := w.Place(b)
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := io.Copy(pw, bytes.NewReader(data)); err != nil {
		t.Error(err)
	}
	if bytes.Equal(data, s.data[b]) {
		if err := pw.Close(); err != nil {
			t.Error(err)
		}
	}
}

func (s *summed) pack(t *testing.T, w *Writer) {
	t.Helper()
	for b, ok := w.NextPacked(); ok; b, ok = w.NextPacked() {
		if err := w.Pack(bytes.NewReader(s.data[b])); err != nil {
			t.Error(err)
			return
		}
	}
}

// Whatever the order, the failures and the interruptions, the sum is that of
// the file.
func TestSum(t *testing.T) {
	for name, write := range map[string]func(t *testing.T, s *summed, path string) *Writer{
		"in order": func(t *testing.T, s *summed, path string) *Writer {
			w := s.create(t, path)
			for _, b := range s.stored() {
				s.place(t, w, b, s.data[b])
			}
			s.pack(t, w)
			return w
		},
		"backwards": func(t *testing.T, s *summed, path string) *Writer {
			w := s.create(t, path)
			s.pack(t, w)
			for _, b := range slices.Backward(s.stored()) {
				s.place(t, w, b, s.data[b])
			}
			return w
		},
		"at once": func(t *testing.T, s *summed, path string) *Writer {
			w := s.create(t, path)
			var wg sync.WaitGroup
			wg.Go(func() { s.pack(t, w) })
			for _, b := range s.stored() {
				wg.Go(func() { s.place(t, w, b, s.data[b]) })
			}
			wg.Wait()
			return w
		},
		"wrong bytes first": func(t *testing.T, s *summed, path string) *Writer {
			w := s.create(t, path)
			for _, b := range s.stored() {
				if b.Size > 1<<20 {
					s.place(t, w, b, make([]byte, b.Size-1))
					waitSummed(w, b.Size/2)
				}
				s.place(t, w, b, s.data[b])
			}
			s.pack(t, w)
			return w
		},
		"resumed": func(t *testing.T, s *summed, path string) *Writer {
			w := s.create(t, path)
			list := s.stored()
			for _, b := range list[:3] {
				s.place(t, w, b, s.data[b])
			}
			if b, ok := w.NextPacked(); ok {
				if err := w.Pack(bytes.NewReader(s.data[b])); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			w = s.create(t, path)
			for _, b := range list {
				if w.Done(b) != slices.Contains(list[:3], b) {
					t.Errorf("blob of %d bytes: done %v", b.Size, w.Done(b))
				}
				if !w.Done(b) {
					s.place(t, w, b, s.data[b])
				}
			}
			s.pack(t, w)
			return w
		},
		"signed later": func(t *testing.T, s *summed, path string) *Writer {
			w := s.create(t, path)
			for _, b := range s.stored() {
				s.place(t, w, b, s.data[b])
			}
			s.pack(t, w)
			s.head.Signatures = []Signature{{Name: "a.sigstore.json", Data: []byte("{}")}}
			return w
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, path := newSummed(t), filepath.Join(t.TempDir(), "b.tar.zst")
			w := write(t, s, path)
			if err := w.Commit(s.head); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(data)
			if want := digest.NewDigestFromBytes(digest.SHA256, sum[:]); w.Sum() != want {
				t.Errorf("sum %s, want %s", w.Sum(), want)
			}
		})
	}
}

// waitSummed returns once that many bytes are hashed or will be.
func waitSummed(w *Writer, n int64) {
	for {
		w.sum.mu.Lock()
		upto := w.sum.upto
		w.sum.mu.Unlock()
		if upto >= w.head+n {
			return
		}
	}
}

// A Writer that is given up leaves no goroutine that reads the closed file.
func TestSumAbort(t *testing.T) {
	s := newSummed(t)
	w := s.create(t, filepath.Join(t.TempDir(), "b.tar.zst"))
	s.place(t, w, s.c.Meta[0], s.data[s.c.Meta[0]])
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.sum.done:
	default:
		t.Error("still summing")
	}
	if w.Sum() != "" {
		t.Errorf("sum %s of a file that is not there", w.Sum())
	}
}
