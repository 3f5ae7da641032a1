package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"
)

// MissingError says that a blob which the index demands is not there.
type MissingError struct{ Blob Blob }

func (e *MissingError) Error() string { return fmt.Sprintf("blob %s is missing", e.Blob.Digest) }

// Dir reads a bundle unpacked into a directory: the layout that
// "tar --zstd -xf" makes of the file. It is as untrusted as the file.
type Dir struct {
	root *os.Root
	size map[digest.Digest]int64
}

// OpenDir opens a layout directory and reads what HEAD holds in a file. All
// access goes through one handle on the directory.
func OpenDir(path string) (*Dir, Head, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, Head{}, err
	}
	d := &Dir{root: root}
	h, err := d.head()
	if err != nil {
		root.Close()
		return nil, Head{}, err
	}
	return d, h, nil
}

// Close releases the directory.
func (d *Dir) Close() error { return d.root.Close() }

func (d *Dir) head() (Head, error) {
	if err := d.realDirs(); err != nil {
		return Head{}, err
	}
	layout, err := d.read(nameLayout, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return Head{}, &FormatError{Offset: -1, Entry: nameLayout, Err: ErrNotBundle, Detail: "the directory has no such file"}
	}
	if err != nil {
		return Head{}, err
	}
	if string(layout) != Layout {
		return Head{}, &FormatError{Offset: -1, Entry: nameLayout, Err: ErrNotBundle, Detail: "unknown layout version"}
	}
	var h Head
	if h.Index, err = d.read(nameIndex, MaxIndex); err != nil {
		return Head{}, err
	}
	entries, err := d.list("signatures")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Head{}, err
	}
	if len(entries) > MaxSignatures {
		return Head{}, &FormatError{Offset: -1, Entry: dirSignatures, Err: ErrLimit, Detail: fmt.Sprintf("more than %d signatures", MaxSignatures)}
	}
	for _, name := range entries {
		if err := checkSignatureName(name); err != nil {
			return Head{}, err
		}
		data, err := d.read(dirSignatures+name, MaxSignature)
		if err != nil {
			return Head{}, err
		}
		h.Signatures = append(h.Signatures, Signature{Name: name, Data: data})
	}
	// The root is for cosign, not evidence: it may be absent, but is not another.
	root, err := d.read(nameTrustedRoot, int64(len(TrustedRoot)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Head{}, err
	}
	if err == nil && string(root) != TrustedRoot {
		return Head{}, &FormatError{Offset: -1, Entry: nameTrustedRoot, Err: ErrEntryUnknown, Detail: "its content is not the one this format has"}
	}
	return h, nil
}

// realDirs refuses links where the layout has directories. One that is missing
// shows later, when something in it is.
func (d *Dir) realDirs() error {
	for _, name := range []string{"signatures", "blobs", "blobs/sha256"} {
		fi, err := d.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !fi.IsDir() {
			return &FormatError{Offset: -1, Entry: name, Err: ErrEntryType, Detail: "it is not a directory"}
		}
	}
	return nil
}

// read returns a whole regular file of at most limit bytes.
func (d *Dir) read(name string, limit int64) ([]byte, error) {
	f, err := d.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, &FormatError{Offset: -1, Entry: name, Err: ErrLimit, Detail: fmt.Sprintf("over %d bytes", limit)}
	}
	return data, nil
}

// open opens a regular file; links and devices are refused before they are opened.
func (d *Dir) open(name string) (*os.File, error) {
	fi, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, &FormatError{Offset: -1, Entry: name, Err: ErrEntryType, Detail: fi.Mode().Type().String()}
	}
	return d.root.Open(name)
}

// list returns the sorted names in a directory, one more than any legal one
// holds at most.
func (d *Dir) list(name string) ([]string, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(MaxBlobs + 1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	slices.Sort(names)
	return names, err
}

// LocateMeta implements the same promise as Reader.LocateMeta.
func (d *Dir) LocateMeta(manifests []Blob) error {
	if _, err := newLayout(0, Contents{Meta: manifests}); err != nil {
		return err
	}
	d.size = make(map[digest.Digest]int64, len(manifests))
	for _, b := range manifests {
		d.size[b.Digest] = b.Size
	}
	return nil
}

// Locate checks that the directory holds exactly contents.
func (d *Dir) Locate(c Contents) error {
	if _, err := newLayout(0, c); err != nil {
		return err
	}
	d.size = map[digest.Digest]int64{}
	for _, b := range slices.Concat(c.Meta, c.Placed, c.Packed) {
		d.size[b.Digest] = b.Size
		fi, err := d.root.Lstat(blobName(b))
		if errors.Is(err, fs.ErrNotExist) {
			return &MissingError{Blob: b}
		}
		if err != nil {
			return err
		}
		if !fi.Mode().IsRegular() {
			return &FormatError{Offset: -1, Entry: blobName(b), Err: ErrEntryType, Detail: fi.Mode().Type().String()}
		}
		if fi.Size() != b.Size {
			return &FormatError{Offset: -1, Entry: blobName(b), Err: ErrEntrySize, Detail: fmt.Sprintf("%d bytes, signed are %d", fi.Size(), b.Size)}
		}
	}
	return d.closedWorld()
}

// closedWorld refuses files that nothing demands.
func (d *Dir) closedWorld() error {
	top := []string{nameLayout, nameIndex, nameTrustedRoot, "signatures", "blobs"}
	for _, w := range []struct {
		dir   string
		known func(name string) bool
	}{
		{".", func(n string) bool { return slices.Contains(top, n) }},
		{"blobs", func(n string) bool { return n == "sha256" }},
		{"blobs/sha256", func(n string) bool {
			_, ok := d.size[digest.NewDigestFromEncoded(digest.SHA256, n)]
			return ok
		}},
	} {
		names, err := d.list(w.dir)
		if err != nil {
			return err
		}
		for _, n := range names {
			if !w.known(n) {
				return &FormatError{Offset: -1, Entry: path.Join(w.dir, n), Err: ErrEntryUnknown}
			}
		}
	}
	return nil
}

// Open yields a blob's content, without checking its digest.
func (d *Dir) Open(b Blob) (io.ReadCloser, error) {
	if size, ok := d.size[b.Digest]; !ok || size != b.Size {
		return nil, fmt.Errorf("blob %s is not in the bundle", b.Digest)
	}
	f, err := d.open(blobName(b))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &MissingError{Blob: b}
	}
	return f, err
}
