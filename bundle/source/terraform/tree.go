package terraform

import (
	"archive/tar"
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/klauspost/compress/gzip"
)

// Limits on a module. Modules are text: real ones stay far below.
const (
	maxFiles   = 20_000
	maxFile    = 16 << 20 // bytes of one file
	maxTree    = 48 << 20 // bytes of all files, which are held in memory
	maxConfig  = 256 << 10
	maxArchive = 64 << 20 // bytes of the archive as it lies on disk
)

// tree is the files of a module by their name below its root.
type tree struct {
	files map[string]treeFile
	size  int64
}

type treeFile struct {
	mode fs.FileMode
	data []byte
}

// collect reads a module from a directory, a .zip, a .tar.gz or a .tgz.
func collect(ctx context.Context, name string) (*tree, error) {
	t := &tree{files: map[string]treeFile{}}
	fi, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	switch {
	case fi.IsDir():
		return t, t.readDir(ctx, name)
	case !fi.Mode().IsRegular():
		return nil, &artifact.TypeError{Name: name, Mode: fi.Mode()}
	case fi.Size() > maxArchive:
		return nil, fmt.Errorf("archive has more than %d bytes", maxArchive)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	switch {
	case strings.HasSuffix(name, ".zip"):
		err = t.readZip(ctx, f, fi.Size())
	case strings.HasSuffix(name, ".tar.gz"), strings.HasSuffix(name, ".tgz"):
		err = t.readTar(ctx, f)
	default:
		err = errors.New("not a directory, .zip, .tar.gz or .tgz")
	}
	if err != nil {
		return nil, err
	}
	t.strip()
	return t, nil
}

// excluded reports whether a member belongs to a working copy, not to the
// module.
func excluded(name string) bool {
	for element := range strings.SplitSeq(name, "/") {
		switch element {
		case ".git", ".hg", ".svn", ".terraform", ".terragrunt-cache":
			return true
		}
	}
	base := path.Base(name)
	return strings.HasSuffix(base, ".tfstate") || strings.HasSuffix(base, ".tfstate.backup") ||
		strings.HasSuffix(base, ".tfstate.lock.info") || strings.HasPrefix(base, "terraform.tfstate.")
}

// add takes one file.
func (t *tree) add(name string, mode fs.FileMode, r io.Reader) error {
	if _, ok := t.files[name]; ok {
		return fmt.Errorf("member %q stands twice in the archive", name)
	}
	if len(t.files) >= maxFiles {
		return fmt.Errorf("module has more than %d files", maxFiles)
	}
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return fmt.Errorf("read %q: %w", name, err)
	}
	if len(data) > maxFile {
		return fmt.Errorf("%q has more than %d bytes", name, maxFile)
	}
	if t.size += int64(len(data)); t.size > maxTree {
		return fmt.Errorf("module has more than %d bytes: leave out what is no configuration", maxTree)
	}
	t.files[name] = treeFile{mode: artifact.NormalMode(mode), data: data}
	return nil
}

// member checks the name and type of a member. It returns "" for one that is
// not packed: a directory, or something excluded.
func member(raw string, mode fs.FileMode) (string, error) {
	name, err := artifact.MemberName(raw)
	if err != nil {
		return "", err
	}
	if mode.IsDir() || excluded(name) {
		return "", nil
	}
	if !mode.IsRegular() {
		return "", &artifact.TypeError{Name: raw, Mode: mode}
	}
	return name, nil
}

func (t *tree) readDir(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() // only read
	fsys := root.FS()
	return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if d.IsDir() {
			if excluded(name) {
				return fs.SkipDir
			}
			return nil
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		clean, err := member(name, fi.Mode())
		if err != nil || clean == "" {
			return err
		}
		f, err := fsys.Open(name)
		if err != nil {
			return err
		}
		defer f.Close() // only read
		return t.add(clean, fi.Mode(), f)
	})
}

func (t *tree) readZip(ctx context.Context, r io.ReaderAt, size int64) error {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return err
	}
	for _, f := range z.File {
		if err := ctx.Err(); err != nil {
			return err
		}
		name, err := member(f.Name, f.Mode())
		if err != nil {
			return err
		}
		if name == "" {
			continue
		}
		if err := t.addZip(name, f); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) addZip(name string, f *zip.File) error {
	rc, err := f.Open()
	if err != nil {
		return fmt.Errorf("read %q: %w", name, err)
	}
	defer rc.Close() // add reads to the end, where the checksum is compared
	return t.add(name, f.Mode(), rc)
}

func (t *tree) readTar(ctx context.Context, r io.Reader) error {
	z, err := gzip.NewReader(artifact.Watch(ctx, r, nil, ""))
	if err != nil {
		return fmt.Errorf("read gzip: %w", err)
	}
	// Headers, padding and excluded members are paid for by the factor.
	limited := &io.LimitedReader{R: z, N: 16 * maxTree}
	tr := tar.NewReader(limited)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if limited.N == 0 {
			return fmt.Errorf("archive unpacks to more than %d bytes", 16*maxTree)
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // MemberName says why
			return fmt.Errorf("read tar: %w", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader { // git archive writes one
			continue
		}
		mode := h.FileInfo().Mode()
		if h.Typeflag == tar.TypeLink {
			mode |= fs.ModeSymlink
		}
		name, err := member(h.Name, mode)
		if err != nil {
			return err
		}
		if name == "" {
			continue
		}
		if err := t.add(name, mode, tr); err != nil {
			return err
		}
	}
}

// strip makes the single top directory of an archive, as forges write it, the
// module's root, unless configuration lies beside it.
func (t *tree) strip() {
	top := ""
	for name := range t.files {
		first, _, below := strings.Cut(name, "/")
		if !below || top != "" && first != top {
			return
		}
		top = first
	}
	stripped := make(map[string]treeFile, len(t.files))
	for name, f := range t.files {
		stripped[strings.TrimPrefix(name, top+"/")] = f
	}
	t.files = stripped
}

// names returns the names of all files, sorted.
func (t *tree) names() []string { return slices.Sorted(maps.Keys(t.files)) }
