package verify_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/verify"
)

// fullWriter takes so many bytes and is full then.
type fullWriter struct {
	room int
	err  error
}

func (w *fullWriter) Write(p []byte) (int, error) {
	if len(p) > w.room {
		return w.room, w.err
	}
	w.room -= len(p)
	return len(p), nil
}

// whole makes a bundle and lists its blobs, the largest first.
func whole(t *testing.T) (data []byte, path, pub string, layers []bundle.Descriptor) {
	t.Helper()
	spool := fixture.Spool(t)
	a := image(t, spool, "example.com/a:1", 1, 3<<20, 70_000)
	path, pub = fixture.File(t, spool, a)
	layers = slices.SortedFunc(slices.Values(a.Pin.Blobs), func(a, b bundle.Descriptor) int { return int(b.Size - a.Size) })
	return read(t, path), path, pub, layers
}

// TestStreamFailures: whatever the place where writer or reader fails, it is
// their error that is told, and never one about the bundle.
func TestStreamFailures(t *testing.T) {
	data, _, pub, _ := whole(t)
	disk := &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	pipe := &fs.PathError{Op: "read", Path: "-", Err: syscall.EIO}
	for _, at := range []int{0, 7, 30_000, 160_000, len(data) / 2, len(data) - 40, len(data) - 1} {
		for name, c := range map[string]struct {
			r    io.Reader
			w    io.Writer
			want error
		}{
			"disk full":    {bytes.NewReader(data), &fullWriter{at, disk}, disk},
			"writer ends":  {bytes.NewReader(data), &fullWriter{at, io.EOF}, io.EOF},
			"short write":  {bytes.NewReader(data), &fullWriter{at, nil}, io.ErrShortWrite},
			"pipe fails":   {io.MultiReader(bytes.NewReader(data[:at]), iotest.ErrReader(pipe)), nil, pipe},
			"both, reader": {io.MultiReader(bytes.NewReader(data[:at]), iotest.ErrReader(pipe)), io.Discard, pipe},
		} {
			_, _, err := verify.Stream(t.Context(), c.r, c.w, policy(t, pub), verify.Options{}, nil)
			if !errors.Is(err, c.want) || content.is(err) || typed[*archive.FormatError]().is(err) {
				t.Errorf("%s at byte %d: want %v alone, got %T %v", name, at, c.want, err, err)
			}
		}
	}
	_, _, err := verify.Stream(t.Context(), io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(io.ErrUnexpectedEOF)), io.Discard, policy(t, pub), verify.Options{}, nil)
	if !errors.Is(err, archive.ErrTruncated) {
		t.Errorf("a transfer that was cut: want %v, got %v", archive.ErrTruncated, err)
	}
}

// TestTruncatedWhileOpen: what is cut after Open is found by whoever reads it.
func TestTruncatedWhileOpen(t *testing.T) {
	_, path, pub, layers := whole(t)
	b, err := verify.Open(t.Context(), path, policy(t, pub), verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := os.Truncate(path, 200_000); err != nil {
		t.Fatal(err)
	}
	rc, err := b.Fetch(t.Context(), layers[0])
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	_, err = io.ReadAll(rc)
	if !content.is(err) || !errors.Is(err, archive.ErrTruncated) || !strings.Contains(err.Error(), "image example.com/a:1") {
		t.Errorf("got %T %v", err, err)
	}
}

// TestCloseWhileReading: a reader outlives Close, what comes after is refused.
func TestCloseWhileReading(t *testing.T) {
	_, path, pub, layers := whole(t)
	b, err := verify.Open(t.Context(), path, policy(t, pub), verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	readers := make([]io.ReadCloser, 4)
	for i := range readers {
		if readers[i], err = b.Fetch(t.Context(), layers[0]); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error)
	for _, rc := range readers {
		go func() {
			n, err := io.Copy(io.Discard, rc)
			if err == nil && n != layers[0].Size {
				err = io.ErrUnexpectedEOF
			}
			done <- errors.Join(err, rc.Close(), rc.Close())
		}()
	}
	if err := errors.Join(b.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	if _, err := b.Fetch(t.Context(), layers[0]); err == nil {
		t.Error("fetch after close succeeded")
	}
	if err := b.VerifyAll(t.Context(), nil); err == nil {
		t.Error("verify after close succeeded")
	}
	for range readers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestInspectCut looks at a file of which only HEAD and META arrived.
func TestInspectCut(t *testing.T) {
	data, path, pub, _ := whole(t)
	_, other := fixture.Key(t)
	cut := filepath.Join(t.TempDir(), "cut.tar.zst")
	if err := os.WriteFile(cut, data[:len(data)/4], 0o600); err != nil {
		t.Fatal(err)
	}
	want, err := verify.Inspect(t.Context(), path, nil, verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*verify.Policy{nil, policy(t, pub)} {
		got, err := verify.Inspect(t.Context(), cut, p, verify.Options{})
		if err != nil || got.Info.Digest != want.Info.Digest || len(got.Graph.Nodes) != len(want.Graph.Nodes) || len(got.Signatures) != 1 {
			t.Errorf("cut: %+v, %v", got.Info, err)
		}
		if (len(got.Decision.Signers) == 1) != (p != nil) {
			t.Errorf("policy asked: %t, signers %v", p != nil, got.Decision.Signers)
		}
	}
	if _, err := verify.Inspect(t.Context(), path, policy(t, other), verify.Options{}); !untrusted.is(err) {
		t.Errorf("another key: %v", err)
	}
	if _, err := verify.Inspect(t.Context(), path, &verify.Policy{}, verify.Options{}); !typed[*verify.NoPolicyError]().is(err) {
		t.Errorf("empty policy: %v", err)
	}
}
