// Package place writes files below the render directory: whole or not at all,
// and only where they differ.
package place

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/airlock-project/airlock/bundle/regular"
)

// maxFile bounds what is read of a file that is there.
const maxFile = 4 << 20

// Name checks the name of a file or directory that a checklist chooses: one
// element, no hidden one.
func Name(s string) error {
	if s == "" || strings.HasPrefix(s, ".") || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
		return fmt.Errorf("to %q is not one name of letters, digits, dots, - and _", s)
	}
	return nil
}

// Absolute is dir as the record names it.
func Absolute(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dir // no working directory: writing says so
	}
	return abs
}

// Holds reports whether a file holds exactly data.
func Holds(path string, data []byte) bool {
	f, err := regular.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	old, err := io.ReadAll(io.LimitReader(f, maxFile))
	return err == nil && bytes.Equal(old, data)
}

// File writes name in dir, which is made if it is not there. changed is false if
// it held data before.
func File(dir, name string, data []byte) (changed bool, err error) {
	if Holds(filepath.Join(dir, name), data) {
		return false, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return false, err
	}
	defer root.Close()
	partial := name + ".partial"
	if err := root.Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	f, err := root.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return false, err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, errors.Join(err, root.Remove(partial))
	}
	return true, root.Rename(partial, name)
}
