package install

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/bundle/flock"
)

// Names in a tree.
const (
	treeMark    = ".airlock-gitops" // lists what is ours
	treeSecrets = "secrets"
	treeReadme  = "README.md"
	treeIndex   = "kustomization.yaml"
	treeIgnore  = ".gitignore"
	partial     = ".partial"
)

const (
	maxTreeMark  = 16 << 20
	maxTreeFiles = 50_000
)

// treeFile is a file that Airlock writes. The mark comes back out of Git: it must
// not claim others.
var treeFile = regexp.MustCompile(`^(README\.md|(secrets/)?\.gitignore|(secrets/)?([0-9]+-[^/]+/)?[a-z0-9][a-z0-9.-]*\.yaml)$`)

// treeRecord is the content of treeMark.
type treeRecord struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Files      []string `json:"files"`
	Product    string   `json:"product,omitempty"`
	Site       string   `json:"site,omitempty"`
	Turns      []string `json:"turns,omitempty"` // changes to objects of other items that are part of the tree
}

// openedTree is a directory that is a tree, or may become one.
type openedTree struct {
	dir    string
	root   *os.Root // nil until there is such a directory
	lock   *os.File // the directory, held against other runs; nil if it is not
	old    treeRecord
	writes func() error // for tests: called before and after each change
}

// openTree reads what an earlier run wrote, and changes nothing. With hold no other
// run writes it until it is closed.
func openTree(dir string, hold bool) (*openedTree, error) {
	t := &openedTree{dir: dir}
	var err error
	if t.root, err = os.OpenRoot(dir); errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	if hold {
		if err := t.hold(); err != nil {
			return nil, errors.Join(err, t.close())
		}
	}
	f, err := t.root.Open(treeMark)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		var raw []byte
		raw, err = io.ReadAll(io.LimitReader(f, maxTreeMark))
		err = errors.Join(err, f.Close())
		if err == nil {
			err = json.Unmarshal(raw, &t.old)
		}
		if err == nil && (t.old.Kind != "GitOpsTree" || slices.ContainsFunc(t.old.Files, func(s string) bool { return !treeFile.MatchString(s) })) {
			err = errors.New("it is not what Airlock wrote")
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s/%s: %w", dir, treeMark, err), t.close())
	}
	return t, nil
}

func (t *openedTree) close() error {
	var err error
	if t.lock != nil {
		err = flock.Close(t.lock)
	}
	if t.root != nil {
		err = errors.Join(err, t.root.Close())
	}
	return err
}

// hold keeps other runs from writing the tree until it is closed. Where the file
// system has no locks, it is not held.
func (t *openedTree) hold() error {
	f, err := t.root.Open(".")
	if err != nil {
		return err
	}
	if err := flock.TryLock(f); errors.Is(err, flock.ErrHeld) {
		return errors.Join(fmt.Errorf("%s is being written by another run: run the same command again when that has ended", t.dir), f.Close())
	}
	t.lock = f
	return nil
}

// treeUsable refuses a directory that holds something else, or that cannot be
// written, before anything is done.
func (r *run) treeUsable() error {
	if !r.opts.GitOps {
		return nil
	}
	t, err := openTree(r.opts.Render, false)
	if err != nil {
		return err
	}
	if err := errors.Join(r.treeApart(), t.another(r.checklist.Product, r.opts.Site.Name), t.foreign(nil), t.close()); err != nil {
		return err
	}
	if r.treeAt, err = resolved(r.opts.Render); err != nil {
		return err
	}
	return writable(r.opts.Render, r.treeAt)
}

// writable tries what a tree begins with.
func writable(name, dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		f, err := os.CreateTemp(at, ".airlock-*"+partial)
		if errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
			continue // it will be made
		}
		if err == nil {
			err = errors.Join(f.Close(), os.Remove(f.Name()))
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		return nil
	}
}

// sameTree refuses a directory that became another while the run was on its way:
// Secrets go into it.
func (r *run) sameTree(t *openedTree) error {
	at, err := resolved(r.opts.Render)
	if err != nil {
		return err
	}
	same := at == r.treeAt
	if same && t.root != nil {
		have, err1 := os.Lstat(at)
		opened, err2 := t.root.Stat(".")
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		same = os.SameFile(have, opened)
	}
	if !same {
		return fmt.Errorf("%s led to %s when this run began and now leads elsewhere: look who changed it, and run the same command again", r.opts.Render, r.treeAt)
	}
	return nil
}

// resolved is where a directory is, or will be.
func resolved(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for rest := ""; ; dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest), nil
		} else if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return "", err
		}
	}
}

// treeApart refuses a tree in the state directory: one is for Git, the other is
// not.
func (r *run) treeApart() error {
	dir, err1 := resolved(r.opts.Render)
	state, err2 := resolved(r.opts.State)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if rel, err := filepath.Rel(state, dir); err == nil && filepath.IsLocal(rel) {
		return fmt.Errorf("%s is in the state directory, which is not for Git: give another directory with --render-to", r.opts.Render)
	}
	return nil
}

// another refuses the tree of another product or site, whose objects a run would
// take away.
func (t *openedTree) another(product, site string) error {
	o := t.old
	if o.Kind == "" || o.Product == "" || o.Product == product && o.Site == site {
		return nil
	}
	return fmt.Errorf("%s is the tree of %s at %s: give a directory of its own with --render-to", t.dir, printable(o.Product), printable(o.Site))
}

// dirs are the directories of items, by item.
func (t *openedTree) dirs() map[string]string {
	out := make(map[string]string)
	for _, name := range t.old.Files {
		dir, _, _ := strings.Cut(strings.TrimPrefix(name, treeSecrets+"/"), "/")
		number, item, ok := strings.Cut(dir, "-")
		if _, err := strconv.Atoi(number); ok && err == nil {
			out[item] = dir
		}
	}
	return out
}

// read is a file of the tree as an earlier run left it.
func (t *openedTree) read(name string) ([]byte, error) {
	if t.root == nil || !slices.Contains(t.old.Files, name) {
		return nil, fs.ErrNotExist
	}
	if fi, err := t.root.Lstat(name); err != nil || !fi.Mode().IsRegular() {
		return nil, cmp.Or(err, fs.ErrNotExist)
	}
	f, err := t.root.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxTreeMark))
	return data, errors.Join(err, f.Close())
}

// foreign refuses files of others where those of the tree are, or will be.
func (t *openedTree) foreign(files map[string][]byte) error {
	if t.root == nil {
		return nil
	}
	ours, check := make(map[string]bool), []string{treeReadme, treeIndex, treeIgnore}
	dirs := map[string]bool{treeSecrets: true}
	for _, name := range slices.Concat(t.old.Files, sortedNames(files)) {
		check = append(check, name)
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			dirs[dir], dirs[dir+partial] = true, true
		}
	}
	for _, name := range t.old.Files {
		ours[name] = true
	}
	refuse := func(name string) error {
		return fmt.Errorf("%s/%s was not written by Airlock: move it away, or give another directory with --render-to", t.dir, name)
	}
	for _, name := range check {
		if fi, err := t.root.Lstat(name); err == nil && (!ours[name] || fi.IsDir()) {
			return refuse(name)
		}
	}
	for dir := range dirs {
		if fi, err := t.root.Lstat(dir); err == nil && !fi.IsDir() {
			return refuse(dir) // a link would lead the tree's files to others
		}
		err := fs.WalkDir(t.root.FS(), dir, func(name string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist) && name == dir:
				return nil
			case err != nil:
				return err
			case d.IsDir() || ours[whole(name)]:
				return nil
			}
			return refuse(name)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// whole is the name of what a run that was killed had not finished, which is a
// file or a directory of files.
func whole(name string) string {
	dir, file := path.Split(name)
	return path.Join(strings.TrimSuffix(strings.TrimSuffix(dir, "/"), partial), strings.TrimSuffix(file, partial))
}
