package file

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/airlock-project/airlock/bundle"
)

// MaxEntries bounds the members of a directory artifact, on both ways.
const MaxEntries = 200_000

func (s *Source) packDirectory(ctx context.Context, path string) (Packed, error) {
	title := filepath.Base(path)
	if BaseName(title) != nil {
		title = s.entry.Name // the definition says "." or "/"
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return Packed{}, err
	}
	defer root.Close() // only read
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(WriteTar(pw, root.FS(), s.opts.Created)) }()
	defer pr.Close() // ends the goroutine if packing stops early
	defer s.opts.Listen.Send(bundle.Event{Op: "resolve", Object: s.Origin(), Done: true})
	return pack(s.spool, bundle.MediaTypeDirectory, Meta{Title: title, Mode: 0o755}, Watch(ctx, pr, s.opts.Listen, s.Origin()))
}

// WriteTar writes the files and directories of fsys as a tar that depends on
// nothing but their names, bytes, executable bits and mtime. Links and devices
// are a *TypeError, names that cannot be unpacked everywhere a *NameError.
func WriteTar(w io.Writer, fsys fs.FS, mtime time.Time) error {
	tw := tar.NewWriter(w)
	entries := 0
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if entries++; entries > MaxEntries {
			return fmt.Errorf("directory has more than %d entries", MaxEntries)
		}
		return writeEntry(tw, fsys, name, d, mtime)
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

func writeEntry(tw *tar.Writer, fsys fs.FS, name string, d fs.DirEntry, mtime time.Time) error {
	if _, err := MemberName(name); err != nil {
		return err
	}
	fi, err := d.Info()
	if err != nil {
		return err
	}
	if d.IsDir() {
		return tw.WriteHeader(tarHeader(name+"/", tar.TypeDir, 0o755, 0, mtime))
	}
	if !fi.Mode().IsRegular() {
		return &TypeError{Name: name, Mode: fi.Mode()}
	}
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	if err := tw.WriteHeader(tarHeader(name, tar.TypeReg, NormalMode(fi.Mode()), fi.Size(), mtime)); err != nil {
		return fmt.Errorf("pack %q: %w", name, err)
	}
	n, err := io.Copy(tw, f)
	if errors.Is(err, tar.ErrWriteTooLong) || err == nil && n != fi.Size() {
		return fmt.Errorf("%q changed while it was read", name)
	}
	return err
}

// tarHeader leaves everything out that a machine could add on its own: owners,
// access times, and sub-second times, so that no PAX record is written but for
// a long name.
func tarHeader(name string, typ byte, mode fs.FileMode, size int64, mtime time.Time) *tar.Header {
	return &tar.Header{
		Typeflag: typ,
		Name:     name,
		Mode:     int64(mode),
		Size:     size,
		ModTime:  time.Unix(mtime.Unix(), 0).UTC(),
		Format:   tar.FormatPAX,
	}
}
