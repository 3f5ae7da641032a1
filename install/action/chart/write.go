package chart

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/airlock-project/airlock/bundle/chart"
)

// write puts files into base/name as a whole: kubectl never sees half of a
// chart, nor a file that an older version of it left. It returns the absolute
// path, and whether anything was different before.
func write(base, name string, files []chart.File) (dir string, changed bool, err error) {
	if dir, err = filepath.Abs(filepath.Join(base, name)); err != nil {
		return "", false, err
	}
	if err := os.MkdirAll(base, 0o700); err != nil {
		return "", false, err
	}
	root, err := os.OpenRoot(base)
	if err != nil {
		return "", false, err
	}
	defer root.Close()
	same, err := holds(root, name, files)
	if err != nil || same {
		return dir, false, err
	}
	return dir, true, replace(root, name, files)
}

// written reports whether base/name holds exactly these files, and changes
// nothing.
func written(base, name string, files []chart.File) (bool, error) {
	root, err := os.OpenRoot(base)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer root.Close()
	return holds(root, name, files)
}

// owned marks a directory as one that this action may replace.
const owned = ".airlock-render"

// holds reports whether the directory has exactly these files. A directory with
// content that this action did not write is refused.
func holds(root *os.Root, name string, files []chart.File) (bool, error) {
	entries, err := fs.ReadDir(root.FS(), name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if len(entries) == 0 {
		return false, nil
	}
	if _, err := root.Stat(name + "/" + owned); err != nil {
		return false, fmt.Errorf("directory %s holds something else; give another with --render-to, or empty it", name)
	}
	if len(entries) != len(files)+1 {
		return false, nil
	}
	for _, f := range files {
		have, err := read(root, name+"/"+f.Name, len(f.Data))
		if err != nil || !bytes.Equal(have, f.Data) {
			return false, nil //nolint:nilerr // what cannot be read or differs is written again
		}
	}
	return true, nil
}

func read(root *os.Root, name string, size int) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(size)+1))
}

// replace writes a new directory beside the old one and swaps them. A process
// that dies in between leaves names that the next run clears.
func replace(root *os.Root, name string, files []chart.File) error {
	partial, old := "."+name+".partial", "."+name+".old"
	if err := errors.Join(root.RemoveAll(partial), root.RemoveAll(old)); err != nil {
		return err
	}
	if err := root.Mkdir(partial, 0o700); err != nil {
		return err
	}
	sub, err := root.OpenRoot(partial)
	if err != nil {
		return err
	}
	files = append([]chart.File{{Name: owned}}, files...)
	if err := errors.Join(chart.WriteFiles(sub, files), sub.Close()); err != nil {
		return errors.Join(err, root.RemoveAll(partial))
	}
	if err := root.Rename(name, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := root.Rename(partial, name); err != nil {
		return err
	}
	return root.RemoveAll(old)
}
