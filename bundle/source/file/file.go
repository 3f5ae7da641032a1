// Package file carries plain files and directories, and Airlock's own binary,
// and reads them back.
//
// A file becomes an OCI artifact of one zstd layer, a directory one of a
// tar+zstd layer. The same content gives the same bytes on every machine: names
// are sorted, owners are dropped, modes are 0644 or 0755, and every time stamp
// is the one given. Links and devices are refused on both ways, because what
// they mean depends on the machine.
//
// The package also holds what the other sources share: names of members, tags,
// and the packing of one stream as a file artifact.
package file

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/manifests"
)

// Options say how a source packs. The zero value packs with the Unix epoch and
// without a version, which Resolve refuses.
type Options struct {
	Dir     string          // folder that relative paths start from: the definition's
	Version string          // the bundle's version, which becomes the tag
	Created time.Time       // every time stamp in what is made
	Listen  bundle.Listener // may be nil
}

// Path returns path as it is opened: relative to Dir unless absolute.
func (o Options) Path(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(o.Dir, path)
}

// Source carries one file or directory. It implements bundle.Source.
type Source struct {
	spool *bundle.Spool
	entry manifests.File
	opts  Options
}

// New returns the source of one files entry. Nothing is opened before Resolve.
func New(spool *bundle.Spool, entry manifests.File, opts Options) *Source {
	return &Source{spool: spool, entry: entry, opts: opts}
}

// Origin implements bundle.Source.
func (s *Source) Origin() string {
	return fmt.Sprintf("file %s from %s", s.entry.Name, s.entry.Path)
}

// Open implements bundle.Source.
func (s *Source) Open(_ context.Context, _ bundle.Pin, desc bundle.Descriptor) (io.ReadCloser, error) {
	return s.spool.Open(desc)
}

// Resolve packs the file or directory into the spool and returns its one pin.
// The lock does not matter: what is made is made again.
func (s *Source) Resolve(ctx context.Context, _ []bundle.Pin) ([]bundle.Pin, error) {
	pin, err := s.resolve(ctx)
	if err != nil {
		return nil, fmt.Errorf("pack file %q: %w", s.entry.Name, err)
	}
	return []bundle.Pin{pin}, nil
}

func (s *Source) resolve(ctx context.Context) (bundle.Pin, error) {
	ref, err := Ref("files", s.entry.Name, s.opts.Version)
	if err != nil {
		return bundle.Pin{}, err
	}
	item := bundle.Item{Kind: bundle.KindFile, Name: s.entry.Name, Ref: ref}
	path := s.opts.Path(s.entry.Path)
	fi, err := os.Lstat(path)
	if err != nil {
		return bundle.Pin{}, err
	}
	var packed Packed
	switch {
	case fi.IsDir():
		packed, err = s.packDirectory(ctx, path)
	case fi.Mode().IsRegular():
		packed, err = s.packFile(ctx, path, fi)
	default:
		err = &TypeError{Name: s.entry.Path, Mode: fi.Mode()}
	}
	if err != nil {
		return bundle.Pin{}, err
	}
	return packed.Pin(item, s.Origin()), nil
}

func (s *Source) packFile(ctx context.Context, path string, fi fs.FileInfo) (Packed, error) {
	f, err := os.Open(path)
	if err != nil {
		return Packed{}, err
	}
	defer f.Close() // only read
	s.opts.Listen.Send(bundle.Event{Op: "resolve", Object: s.Origin(), Total: fi.Size()})
	defer s.opts.Listen.Send(bundle.Event{Op: "resolve", Object: s.Origin(), Done: true})
	packed, err := Pack(s.spool, filepath.Base(path), fi.Mode(), Watch(ctx, f, s.opts.Listen, s.Origin()))
	if err == nil && packed.Meta.Size != fi.Size() {
		err = fmt.Errorf("%q changed while it was read: had %d bytes, read %d", s.entry.Path, fi.Size(), packed.Meta.Size)
	}
	return packed, err
}

// TypeError refuses something that is neither a file nor a directory: a link, a
// device, a socket.
type TypeError struct {
	Name string
	Mode fs.FileMode
}

// Error implements error.
func (e *TypeError) Error() string {
	return fmt.Sprintf("%q is a %s: only files and directories are carried", e.Name, typeName(e.Mode))
}

func typeName(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	case m&(fs.ModeDevice|fs.ModeCharDevice) != 0:
		return "device"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "special file"
}
