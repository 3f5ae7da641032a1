package place

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Path checks a relative slash-separated file name: no empty, dotted or hidden
// parts, and characters that need no quoting.
func Path(name string) error {
	if name == "" || len(name) > 200 {
		return fmt.Errorf("file name %q is not 1 to 200 characters", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' || part[0] == '-' || strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
			return fmt.Errorf("file name %q is not made of letters, digits, dots, - and _", name)
		}
	}
	return nil
}

// ErrExists is returned by New for a name that is taken.
var ErrExists = errors.New("it exists")

// New writes a file that must not exist yet. It returns the absolute path.
func New(dir, name string, data []byte, mode fs.FileMode) (string, error) {
	return write(dir, name, data, mode, false)
}

// Set writes a file in place of what is there.
func Set(dir, name string, data []byte, mode fs.FileMode) (string, error) {
	return write(dir, name, data, mode, true)
}

func write(dir, name string, data []byte, mode fs.FileMode, replace bool) (full string, err error) {
	root, full, err := open(dir, name, true)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if _, err := root.Lstat(name); err == nil && !replace {
		return full, fmt.Errorf("write %s: %w", name, ErrExists)
	}
	if parent := path.Dir(name); parent != "." {
		if err := root.MkdirAll(parent, 0o700); err != nil {
			return "", fmt.Errorf("write %s: %w", name, err)
		}
	}
	temp := path.Join(path.Dir(name), "."+path.Base(name)+".partial")
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(data)
	// The umask may have taken bits away; it never adds any.
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = root.Rename(temp, name)
	}
	if err != nil {
		return "", fmt.Errorf("write %s: %w", name, errors.Join(err, root.Remove(temp)))
	}
	return full, nil
}

// Read returns a file of at most limit bytes. One that does not exist is an
// error that matches fs.ErrNotExist, and its absolute path comes back too.
func Read(dir, name string, limit int64) (data []byte, full string, err error) {
	root, full, err := open(dir, name, false)
	if err != nil {
		return nil, full, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return nil, full, err
	}
	defer f.Close()
	if data, err = io.ReadAll(io.LimitReader(f, limit+1)); err != nil {
		return nil, full, err
	}
	if int64(len(data)) > limit {
		return nil, full, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, full, nil
}

// Same reports whether a file has exactly this content and mode.
func Same(dir, name string, data []byte, mode fs.FileMode) bool {
	have, full, err := Read(dir, name, int64(len(data)))
	if err != nil || !bytes.Equal(have, data) {
		return false
	}
	fi, err := os.Lstat(full)
	return err == nil && fi.Mode() == mode
}

func open(dir, name string, create bool) (root *os.Root, full string, err error) {
	if dir == "" {
		return nil, "", fmt.Errorf("no directory for %s is given", name)
	}
	if err := Path(name); err != nil {
		return nil, "", err
	}
	if full, err = filepath.Abs(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
		return nil, "", err
	}
	if create {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, full, err
		}
	}
	root, err = os.OpenRoot(dir)
	return root, full, err
}
