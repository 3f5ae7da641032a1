// Package regular opens the files that a command line or a document names. A
// named pipe, a device or a socket under such a name would wait, or do worse,
// on being opened; all of Airlock refuses them here, so that no interrupt has
// to end such a wait.
package regular

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// ErrNotRegular is the cause where a name is that of a pipe, a device or a
// socket. It lies in an *fs.PathError.
var ErrNotRegular = errors.New("not a regular file")

// TooLargeError says that a file is larger than what is read of its kind.
type TooLargeError struct {
	Path  string
	Limit int64 // in bytes
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%s is larger than %d bytes", e.Path, e.Limit)
}

// Open opens a regular file for reading; a symbolic link is followed. Besides,
// it takes os.DevNull, and a pipe that the shell handed over under the name of
// a file descriptor, as in <(command). It never waits. Errors are
// *fs.PathError: with syscall.EISDIR for a directory, ErrNotRegular for all
// else. The caller closes the file.
func Open(path string) (*os.File, error) {
	// Before opening, because some devices act on that.
	fi, err := os.Stat(path)
	if err != nil {
		return nil, rename(err)
	}
	if err := check(path, fi); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|noWait, 0)
	if err != nil {
		return nil, err
	}
	// And after, because the name may lead elsewhere by now.
	fi, err = f.Stat()
	if err == nil {
		err = check(path, fi)
	}
	if err != nil {
		_ = f.Close() // nothing was read
		return nil, err
	}
	return f, nil
}

// rename lets an error of looking speak of opening, which was asked for.
func rename(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return &fs.PathError{Op: "open", Path: e.Path, Err: e.Err}
	}
	return err
}

func check(path string, fi fs.FileInfo) error {
	mode := fi.Mode()
	switch {
	case mode.IsRegular(), path == os.DevNull:
		return nil
	case mode.IsDir():
		return &fs.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
	case mode.Type() == fs.ModeNamedPipe && descriptor(path):
		return nil
	}
	return &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
}

// descriptor says whether a path names what this process has open already: its
// other end is there, so that opening and reading end.
func descriptor(path string) bool {
	return path == "/dev/stdin" || strings.HasPrefix(path, "/dev/fd/") || strings.HasPrefix(path, "/proc/self/fd/")
}

// Read reads a whole file of at most limit bytes, opened by Open. A larger one
// is a *TooLargeError.
func Read(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, &TooLargeError{Path: path, Limit: limit}
	}
	return data, nil
}
