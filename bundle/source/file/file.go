// Package file carries plain files and directories, documents that are made in
// memory, and Airlock's own binary. How they are packed is package artifact's
// decision.
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
	"github.com/airlock-project/airlock/bundle/artifact"
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
	ref, err := artifact.Ref("files", s.entry.Name, s.opts.Version)
	if err != nil {
		return bundle.Pin{}, err
	}
	item := bundle.Item{Kind: bundle.KindFile, Name: s.entry.Name, Ref: ref}
	path := s.opts.Path(s.entry.Path)
	fi, err := os.Lstat(path)
	if err != nil {
		return bundle.Pin{}, err
	}
	var packed artifact.Packed
	switch {
	case fi.IsDir():
		packed, err = s.packDirectory(ctx, path)
	case fi.Mode().IsRegular():
		packed, err = s.packFile(ctx, path, fi)
	default:
		err = &artifact.TypeError{Name: s.entry.Path, Mode: fi.Mode()}
	}
	if err != nil {
		return bundle.Pin{}, err
	}
	return packed.Pin(item, s.Origin()), nil
}

func (s *Source) packFile(ctx context.Context, path string, fi fs.FileInfo) (artifact.Packed, error) {
	f, err := os.Open(path)
	if err != nil {
		return artifact.Packed{}, err
	}
	defer f.Close() // only read
	s.opts.Listen.Send(bundle.Event{Op: "resolve", Object: s.Origin(), Total: fi.Size()})
	defer s.opts.Listen.Send(bundle.Event{Op: "resolve", Object: s.Origin(), Done: true})
	packed, err := artifact.Pack(s.spool, filepath.Base(path), fi.Mode(), artifact.Watch(ctx, f, s.opts.Listen, s.Origin()))
	if err == nil && packed.Meta.Size != fi.Size() {
		err = fmt.Errorf("%q changed while it was read: had %d bytes, read %d", s.entry.Path, fi.Size(), packed.Meta.Size)
	}
	return packed, err
}

func (s *Source) packDirectory(ctx context.Context, path string) (artifact.Packed, error) {
	title := filepath.Base(path)
	if artifact.BaseName(title) != nil {
		title = s.entry.Name // the definition says "." or "/"
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return artifact.Packed{}, err
	}
	defer root.Close() // only read
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(artifact.WriteTar(pw, root.FS(), s.opts.Created)) }()
	defer pr.Close() // ends the goroutine if packing stops early
	defer s.opts.Listen.Send(bundle.Event{Op: "resolve", Object: s.Origin(), Done: true})
	return artifact.PackDirectory(s.spool, title, artifact.Watch(ctx, pr, s.opts.Listen, s.Origin()))
}
