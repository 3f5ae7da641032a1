package artifact

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/zstd"
)

// MaxBytes bounds what one artifact may unpack to where Limits say nothing:
// 64 GiB. A few kilobytes of zstd can name any size.
const MaxBytes = 64 << 30

// Limits bound what is unpacked. A field of zero means the default.
type Limits struct {
	Bytes   int64 // of all files together; default MaxBytes
	Entries int   // members of a directory; default MaxEntries
}

func (l Limits) bytes() int64 {
	if l.Bytes <= 0 {
		return MaxBytes
	}
	return l.Bytes
}

func (l Limits) entries() int {
	if l.Entries <= 0 {
		return MaxEntries
	}
	return l.Entries
}

// maxWindow is the largest zstd window accepted, hence the decoder's memory:
// Airlock packs with 1 MiB.
const maxWindow = 8 << 20

// ContentError says that unpacked bytes are not what their annotations
// promise.
type ContentError struct {
	Name      string
	Want, Got string // sha256 and size
}

// Error implements error.
func (e *ContentError) Error() string {
	return fmt.Sprintf("content of %q differs: want %s, got %s", e.Name, e.Want, e.Got)
}

// ErrTooLarge says that unpacking would pass a limit.
var ErrTooLarge = errors.New("content is larger than the limit")

// ExtractFile unpacks the layer of a file artifact from r to name in root, which
// must not exist. The bytes are checked against meta; the file gets its name
// only when it is whole, checked and synced. r is read to its end, so that a
// verifying reader can have its say.
func ExtractFile(ctx context.Context, root *os.Root, name string, r io.Reader, meta Meta, limits Limits) error {
	if err := BaseName(name); err != nil {
		return err
	}
	if err := extractFile(ctx, root, name, r, meta, limits); err != nil {
		return fmt.Errorf("extract %q: %w", name, err)
	}
	return nil
}

func extractFile(ctx context.Context, root *os.Root, name string, r io.Reader, meta Meta, limits Limits) error {
	if meta.Size > limits.bytes() {
		return fmt.Errorf("%d bytes, at most %d allowed: %w", meta.Size, limits.bytes(), ErrTooLarge)
	}
	if _, err := root.Lstat(name); err == nil {
		return fs.ErrExist
	}
	z, err := newReader(r)
	if err != nil {
		return err
	}
	defer z.Close()
	// Not the name and a suffix: the name may be as long as names get.
	partial := fmt.Sprintf(".%x.partial", sha256.Sum224([]byte(name)))
	f, err := root.OpenFile(partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, meta.Mode.Perm()&0o755)
	if err != nil {
		return err
	}
	err = blame(ctx, r, copyChecked(f, Watch(ctx, z, nil, ""), name, meta))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(partial, name)
	}
	if err != nil {
		// What is left has a name nobody reads; the first error is the one to tell.
		_ = root.Remove(partial)
	}
	return err
}

func copyChecked(w io.Writer, r io.Reader, name string, meta Meta) error {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(r, meta.Size+1))
	if err != nil {
		return err
	}
	return meta.check(name, h, n)
}

// check compares what was unpacked with what m promises.
func (m Meta) check(name string, h hash.Hash, n int64) error {
	if sum := hex.EncodeToString(h.Sum(nil)); n != m.Size || sum != m.SHA256 {
		return &ContentError{Name: name, Want: fmt.Sprintf("%s (%d bytes)", m.SHA256, m.Size), Got: fmt.Sprintf("%s (%d bytes)", sum, n)}
	}
	return nil
}

func newReader(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}

// ExtractDirectory unpacks the layer of a directory artifact from r into root,
// a directory that the caller made for it and gives its final name after
// ExtractDirectory returned nil; syncing directories is the caller's. The tar is
// checked against meta. Only directories and files are written, each once and
// after the directory that it is in, as WriteTar orders them, so that limits
// count everything that is made; anything else in the tar is refused. r is read
// to its end.
func ExtractDirectory(ctx context.Context, root *os.Root, r io.Reader, meta Meta, limits Limits) error {
	if err := extractDirectory(ctx, root, r, meta, limits); err != nil {
		return fmt.Errorf("extract directory %q: %w", meta.Title, err)
	}
	return nil
}

func extractDirectory(ctx context.Context, root *os.Root, r io.Reader, meta Meta, limits Limits) error {
	// Headers are paid for by the second term.
	if most := limits.bytes() + 3*1024*int64(limits.entries()); meta.Size > most {
		return fmt.Errorf("%d bytes, at most %d allowed: %w", meta.Size, most, ErrTooLarge)
	}
	z, err := newReader(r)
	if err != nil {
		return err
	}
	defer z.Close()
	h, n := sha256.New(), int64(0)
	// One byte more than promised is let through, so that it shows.
	plain := io.TeeReader(io.LimitReader(Watch(ctx, z, nil, ""), meta.Size+1), io.MultiWriter(h, countWriter{&n}))
	err = extractTar(root, tar.NewReader(plain), limits)
	if err == nil {
		_, err = io.Copy(io.Discard, plain)
	}
	if err == nil {
		err = meta.check(meta.Title, h, n)
	}
	return blame(ctx, r, err)
}

// blame reads what is left of r after err: where a verifying reader finds its
// content damaged, that is the cause to tell, and err only what came of it.
func blame(ctx context.Context, r io.Reader, err error) error {
	if err == nil {
		return nil
	}
	if _, cause := io.Copy(io.Discard, Watch(ctx, r, nil, "")); cause != nil {
		return cause
	}
	return err
}

type countWriter struct{ n *int64 }

func (w countWriter) Write(p []byte) (int, error) {
	*w.n += int64(len(p))
	return len(p), nil
}

func extractTar(root *os.Root, tr *tar.Reader, limits Limits) error {
	left := limits.bytes()
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // MemberName says why
			return err
		}
		if n >= limits.entries() {
			return fmt.Errorf("more than %d members: %w", limits.entries(), ErrTooLarge)
		}
		if h.Size > left {
			return fmt.Errorf("member %.100q of %d bytes: %w", h.Name, h.Size, ErrTooLarge)
		}
		left -= h.Size
		if err := extractEntry(root, tr, h); err != nil {
			return err
		}
	}
}

func extractEntry(root *os.Root, tr *tar.Reader, h *tar.Header) error {
	name, err := MemberName(h.Name)
	if err != nil {
		return err
	}
	switch {
	case IsSparse(h):
		return fmt.Errorf("member %q is a sparse file: only plain files are carried", name)
	case h.Typeflag == tar.TypeDir:
		return root.Mkdir(name, 0o755)
	case h.Typeflag != tar.TypeReg:
		return &TypeError{Name: h.Name, Mode: h.FileInfo().Mode()}
	}
	// O_EXCL refuses a second member of the same name.
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, NormalMode(h.FileInfo().Mode()))
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, tr); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
