package file

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/klauspost/compress/zstd"
)

// Limits bound what is unpacked. A field of zero means the default.
type Limits struct {
	Bytes   int64 // of all files together; default 64 GiB
	Entries int   // members of a directory; default MaxEntries
}

func (l Limits) bytes() int64 {
	if l.Bytes <= 0 {
		return 64 << 30
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
func ExtractFile(root *os.Root, name string, r io.Reader, meta Meta, limits Limits) error {
	if err := BaseName(name); err != nil {
		return err
	}
	if meta.Size > limits.bytes() {
		return fmt.Errorf("extract %q of %d bytes: %w", name, meta.Size, ErrTooLarge)
	}
	if _, err := root.Lstat(name); err == nil {
		return fmt.Errorf("extract %q: %w", name, fs.ErrExist)
	}
	z, err := newReader(r)
	if err != nil {
		return fmt.Errorf("extract %q: %w", name, err)
	}
	defer z.Close()
	partial := name + ".partial"
	f, err := root.OpenFile(partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, meta.Mode.Perm()&0o755)
	if err != nil {
		return fmt.Errorf("extract %q: %w", name, err)
	}
	err = errors.Join(copyChecked(f, z, name, meta), f.Sync(), f.Close())
	if err == nil {
		err = root.Rename(partial, name)
	}
	if err != nil {
		// What is left has a name nobody reads; the first error is the one to tell.
		_ = root.Remove(partial)
		return fmt.Errorf("extract %q: %w", name, err)
	}
	return nil
}

func copyChecked(w io.Writer, r io.Reader, name string, meta Meta) error {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(r, meta.Size+1))
	if err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); n != meta.Size || sum != meta.SHA256 {
		return &ContentError{Name: name, Want: fmt.Sprintf("%s (%d bytes)", meta.SHA256, meta.Size), Got: fmt.Sprintf("%s (%d bytes)", sum, n)}
	}
	return nil
}

func newReader(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}

// ExtractDirectory unpacks the layer of a directory artifact from r into root,
// a directory that the caller made for it and gives its final name after
// ExtractDirectory returned nil. Only directories and files are written, each
// once; anything else in the tar is refused. r is read to its end.
func ExtractDirectory(root *os.Root, r io.Reader, limits Limits) error {
	z, err := newReader(r)
	if err != nil {
		return fmt.Errorf("extract directory: %w", err)
	}
	defer z.Close()
	// One byte more than the limit is let through, so that passing it shows as
	// such. Headers are paid for by the second term.
	total := limits.bytes() + 3*1024*int64(limits.entries()) + 1
	bounded := &io.LimitedReader{R: z, N: total}
	if err := extractTar(root, tar.NewReader(bounded), limits); err != nil {
		return fmt.Errorf("extract directory: %w", err)
	}
	if _, err := io.Copy(io.Discard, bounded); err != nil {
		return fmt.Errorf("extract directory: %w", err)
	}
	if bounded.N == 0 {
		return fmt.Errorf("extract directory: %w", ErrTooLarge)
	}
	return nil
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
			return fmt.Errorf("member %q of %d bytes: %w", h.Name, h.Size, ErrTooLarge)
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
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeReg:
	default:
		return &TypeError{Name: h.Name, Mode: h.FileInfo().Mode()}
	}
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// O_EXCL refuses a second member of the same name.
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, NormalMode(h.FileInfo().Mode()))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, tr)
	return errors.Join(err, f.Sync(), f.Close())
}
