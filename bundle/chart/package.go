package chart

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/ignore"
)

// Package writes the chart in dir as a .tgz that every Helm reads. The bytes
// depend on the files' names and contents and on mtime alone: entries sorted,
// every mode 0644 as Helm itself writes them, no owner, deflate in stored
// blocks. Files keep their bytes; those named by .helmignore are left out;
// symbolic links and special files are refused.
func Package(w io.Writer, dir string, mtime time.Time) error {
	files, err := readDir(dir)
	if err != nil {
		return fmt.Errorf("package chart %q: %w", dir, err)
	}
	top, err := chartName(files)
	if err != nil {
		return fmt.Errorf("package chart %q: %w", dir, err)
	}
	z := newStoredGzip(w)
	if err := errors.Join(writeTar(z, top, files, mtime), z.Close()); err != nil {
		return fmt.Errorf("package chart %q: %w", dir, err)
	}
	return nil
}

func packageDir(dir string) ([]byte, error) {
	var buf bytes.Buffer
	if err := Package(&buf, dir, time.Unix(0, 0)); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func chartName(files map[string][]byte) (string, error) {
	raw, ok := files["Chart.yaml"]
	if !ok {
		return "", errors.New("there is no Chart.yaml")
	}
	c, err := loader.LoadFiles([]*loader.BufferedFile{{Name: "Chart.yaml", Data: raw}})
	if err != nil {
		return "", err
	}
	if !fs.ValidPath(c.Name()) || strings.ContainsAny(c.Name(), "/\\:\x00") {
		return "", fmt.Errorf("chart name %q is not a file name", c.Name())
	}
	return c.Name(), nil
}

func writeTar(w io.Writer, top string, files map[string][]byte, mtime time.Time) error {
	tw := tar.NewWriter(w)
	for _, name := range sortedKeys(files) {
		h := &tar.Header{
			Typeflag: tar.TypeReg,
			Name:     top + "/" + name,
			Size:     int64(len(files[name])),
			Mode:     0o644,
			ModTime:  time.Unix(mtime.Unix(), 0),
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(files[name]); err != nil {
			return err
		}
	}
	return tw.Close()
}

// readDir reads what belongs to the chart in dir, within the limits.
func readDir(dir string) (map[string][]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	rules, err := ignoreRules(root)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	left := int64(MaxArchive)
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if rules.Ignore(name, fi) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		if len(files) == MaxEntries {
			return fmt.Errorf("more than %d files", MaxEntries)
		}
		files[name], err = readFile(root, name, fi)
		if left -= int64(len(files[name])); err == nil && left < 0 {
			return fmt.Errorf("more than %d bytes", MaxArchive)
		}
		return err
	})
	return files, err
}

func readFile(root *os.Root, name string, fi fs.FileInfo) ([]byte, error) {
	if len(name) > MaxPath || strings.ContainsAny(name, "\\:\x00") {
		return nil, fmt.Errorf("file name %q has no place in a chart", name)
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is a link or a special file: put a plain file or directory in its place, or name it in .helmignore", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxFile {
		return nil, fmt.Errorf("file %q has more than %d bytes", name, MaxFile)
	}
	return data, nil
}

func ignoreRules(root *os.Root) (*ignore.Rules, error) {
	rules := ignore.Empty()
	f, err := root.Open(ignore.HelmIgnore)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		defer f.Close()
		if rules, err = ignore.Parse(io.LimitReader(f, MaxFile)); err != nil {
			return nil, fmt.Errorf("parse %s: %w", ignore.HelmIgnore, err)
		}
	}
	rules.AddDefaults()
	return rules, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
