package artifact

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// MaxEntries bounds the members of a directory artifact, on both ways.
const MaxEntries = 200_000

// WriteTar writes the files and directories of fsys as a tar that depends on
// nothing but their names, bytes, executable bits and mtime; a directory comes
// before what is in it. Links and devices are a *TypeError, names that cannot
// be unpacked everywhere a *NameError.
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
	if err := tw.WriteHeader(FileHeader(name, NormalMode(fi.Mode()), fi.Size(), mtime)); err != nil {
		return fmt.Errorf("pack %q: %w", name, err)
	}
	n, err := io.Copy(tw, f)
	if errors.Is(err, tar.ErrWriteTooLong) || err == nil && n != fi.Size() {
		return fmt.Errorf("%q changed while it was read", name)
	}
	return err
}

// FileHeader is the tar header of a file of size bytes, without anything that a
// machine could add on its own: owners, access times, sub-second times. No PAX
// record is written but for a long name.
func FileHeader(name string, mode fs.FileMode, size int64, mtime time.Time) *tar.Header {
	return tarHeader(name, tar.TypeReg, mode, size, mtime)
}

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
