package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/manifests"
	"sigs.k8s.io/yaml"
)

// write brings the directory to what g is. Each file is whole or not at all, and
// the objects of an item are the old or the new ones. First it says what is going
// to be ours, last it takes away what is not wanted any more, so that a run that
// was killed leaves nothing that the next one refuses or forgets.
func (t *openedTree) write(g *growing) error {
	files, err := g.files()
	if err != nil {
		return err
	}
	if len(files) > maxTreeFiles {
		return fmt.Errorf("it would be %d files, the limit is %d", len(files), maxTreeFiles)
	}
	if err := t.begin(g); err != nil {
		return err
	}
	if err := t.foreign(files); err != nil {
		return err
	}
	g.report.Gone = t.gone(files)
	both := slices.Compact(slices.Sorted(slices.Values(slices.Concat(sortedNames(files), t.old.Files))))
	turns := slices.Collect(maps.Keys(g.turns))
	all := slices.Concat(turns, t.old.Turns)
	if slices.ContainsFunc(g.items, func(b *branch) bool { return b.keeps }) {
		turns = all // they may be in what stays
	}
	t.old.Product, t.old.Site = g.checklist.Product, g.opts.Site.Name
	if err := t.mark(both, all); err != nil {
		return err
	}
	t.old.Files = both
	if err := t.fill(files); err != nil {
		return err
	}
	return t.mark(sortedNames(files), turns)
}

// gone names the objects of the tree as it is that files have no more.
func (t *openedTree) gone(files map[string][]byte) []string {
	ofAny := func(o Object) Object { // whatever version of its kind
		o.APIVersion, _, _ = strings.Cut("/"+o.APIVersion, "/v")
		return o
	}
	stays := make(map[Object]bool)
	for name, data := range files {
		if o, ok := objectIn(name, data); ok {
			stays[ofAny(o)] = true
		}
	}
	var out []string
	for _, name := range t.old.Files {
		if files[name] != nil {
			continue
		}
		data, err := t.read(name)
		if err != nil {
			continue // a run that was killed had taken it away
		}
		if o, ok := objectIn(name, data); ok && !stays[ofAny(o)] {
			out = append(out, o.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// objectIn is the object in a file of the tree.
func objectIn(name string, data []byte) (Object, bool) {
	var m Manifest
	if path.Base(name) == treeIndex || path.Ext(name) != ".yaml" || yaml.Unmarshal(data, &m.Tree) != nil {
		return Object{}, false
	}
	o := m.Object()
	return o, o.Kind != "" && o.Name != ""
}

// begin makes the directory if there is none, and keeps other runs out.
func (t *openedTree) begin(g *growing) error {
	if t.root != nil {
		return nil
	}
	err := os.MkdirAll(t.dir, 0o755)
	if err == nil {
		t.root, err = os.OpenRoot(t.dir)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(g.sameTree(t), t.hold()); err != nil {
		return err
	}
	if _, err := t.root.Lstat(treeMark); err == nil {
		return errors.New("another run has just made it: run the same command again")
	}
	return nil
}

// fill writes files and takes away the others. What keeps Secrets out of Git goes
// first; the index goes last: what it names is there.
func (t *openedTree) fill(files map[string][]byte) error {
	items, removed, single := make(map[string]map[string][]byte), make(map[string]bool), []string{}
	for _, name := range t.old.Files {
		dir, file := path.Split(name)
		dir = strings.TrimSuffix(dir, "/")
		data, wanted := files[name]
		switch {
		case dir == "" || dir == treeSecrets:
			single = append(single, name)
		case wanted && items[dir] == nil:
			items[dir] = map[string][]byte{file: data}
		case wanted:
			items[dir][file] = data
		default:
			removed[dir] = true
		}
	}
	order := func(name string) int { // .gitignore, secrets/.gitignore, then secrets/, the index last
		switch path.Base(name) {
		case treeIgnore:
			return strings.Count(name, "/") - 9
		}
		return -strings.Count(name, "/")
	}
	slices.SortStableFunc(single, func(a, b string) int { return order(a) - order(b) })
	ignores := slices.IndexFunc(single, func(name string) bool { return path.Base(name) != treeIgnore })
	put := func(names []string) error {
		for _, name := range names {
			if data, wanted := files[name]; wanted {
				if err := t.put(name, data); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := put(single[:ignores]); err != nil {
		return err
	}
	dirs := slices.Sorted(maps.Keys(items))
	slices.SortStableFunc(dirs, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	for _, dir := range dirs {
		if err := t.swap(dir, items[dir]); err != nil {
			return err
		}
	}
	if err := put(single[ignores:]); err != nil {
		return err
	}
	for _, dir := range slices.Sorted(maps.Keys(removed)) {
		if items[dir] != nil {
			continue
		}
		if err := t.retire(dir); err != nil {
			return err
		}
	}
	for _, name := range single {
		if _, wanted := files[name]; wanted {
			continue
		}
		if err := t.remove(name); err != nil {
			return err
		}
		_ = t.root.Remove(treeSecrets) // where nothing is in it any more
	}
	return nil
}

func sortedNames(files map[string][]byte) []string { return slices.Sorted(maps.Keys(files)) }

func (t *openedTree) mark(files, turns []string) error {
	turns = slices.Compact(slices.Sorted(slices.Values(turns)))
	raw, err := json.MarshalIndent(treeRecord{manifests.APIVersion, "GitOpsTree", files, t.old.Product, t.old.Site, turns}, "", "  ")
	if err != nil {
		return err
	}
	return t.put(treeMark, append(raw, '\n'))
}

// modes are those of a directory of the tree and of the files in it.
func modes(dir string) (dirMode, mode fs.FileMode) {
	if dir == treeSecrets || strings.HasPrefix(dir, treeSecrets+"/") {
		return 0o700, 0o600
	}
	return 0o755, 0o644
}

// folder makes a directory of the tree.
func (t *openedTree) folder(dir string) error {
	mode, _ := modes(dir)
	if fi, err := t.root.Lstat(dir); dir == "." || err == nil && fi.IsDir() && fi.Mode().Perm() == mode {
		return nil
	}
	return t.changing(func() error { return errors.Join(t.root.MkdirAll(dir, mode), t.root.Chmod(dir, mode)) })
}

// changing does one change, which a test may end the process before or after.
func (t *openedTree) changing(change func() error) error {
	if t.writes == nil {
		return change()
	}
	if err := t.writes(); err != nil {
		return err
	}
	return errors.Join(change(), t.writes())
}

// put writes a file under its name when it is whole. What is as wanted stays
// untouched.
func (t *openedTree) put(name string, data []byte) error {
	if err := t.folder(path.Dir(name)); err != nil {
		return err
	}
	if t.has(name, data) {
		return nil
	}
	temp := name + partial
	if err := t.remove(temp); err != nil {
		return err
	}
	if err := t.create(temp, data); err != nil {
		return err
	}
	return t.changing(func() error { return t.root.Rename(temp, name) })
}

// has reports whether a file is as wanted.
func (t *openedTree) has(name string, data []byte) bool {
	_, mode := modes(path.Dir(name))
	fi, err := t.root.Lstat(name)
	if err != nil || fi.Mode() != mode || fi.Size() != int64(len(data)) {
		return false
	}
	have, err := t.root.ReadFile(name)
	return err == nil && bytes.Equal(have, data)
}

// create writes a new file, and leaves none that is not whole.
func (t *openedTree) create(name string, data []byte) error {
	_, mode := modes(path.Dir(name))
	return t.changing(func() error {
		f, err := t.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
			return errors.Join(err, t.root.Remove(name))
		}
		return nil
	})
}

// remove takes a file away, which may be gone.
func (t *openedTree) remove(name string) error {
	if _, err := t.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return t.changing(func() error {
		if err := t.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// swap makes a directory hold files and nothing else, all at once where the file
// system can do that.
func (t *openedTree) swap(dir string, files map[string][]byte) error {
	if err := t.folder(path.Dir(dir)); err != nil {
		return err
	}
	if err := t.drop(dir + partial); err != nil {
		return err
	}
	if t.same(dir, files) {
		return nil
	}
	if err := t.folder(dir + partial); err != nil {
		return err
	}
	for _, name := range sortedNames(files) {
		if err := t.create(path.Join(dir+partial, name), files[name]); err != nil {
			return errors.Join(err, t.drop(dir+partial))
		}
	}
	if _, err := t.root.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return t.changing(func() error { return t.root.Rename(dir+partial, dir) })
	}
	if err := t.exchange(dir); err != nil {
		return t.each(dir, files)
	}
	return t.drop(dir + partial)
}

// same reports whether a directory is as wanted.
func (t *openedTree) same(dir string, files map[string][]byte) bool {
	list, err := fs.ReadDir(t.root.FS(), dir)
	if err != nil || len(list) != len(files) {
		return false
	}
	for name, data := range files {
		if !t.has(path.Join(dir, name), data) {
			return false
		}
	}
	return t.folder(dir) == nil
}

func (t *openedTree) exchange(dir string) error {
	parent, err := t.root.Open(path.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close() //nolint:errcheck // it was only looked up
	return t.changing(func() error { return exchange(parent, path.Base(dir)+partial, path.Base(dir)) })
}

// each is swap where directories cannot be exchanged: a file after the other, the
// index last.
func (t *openedTree) each(dir string, files map[string][]byte) error {
	names := sortedNames(files)
	slices.SortStableFunc(names, func(a, b string) int {
		switch treeIndex {
		case a:
			return 1
		case b:
			return -1
		}
		return 0
	})
	for _, name := range names {
		if err := t.put(path.Join(dir, name), files[name]); err != nil {
			return err
		}
	}
	if err := t.clear(dir, files); err != nil {
		return err
	}
	return t.drop(dir + partial)
}

// clear removes what is ours in a directory but for some files.
func (t *openedTree) clear(dir string, but map[string][]byte) error {
	for _, name := range t.old.Files {
		if _, stays := but[path.Base(name)]; path.Dir(name) == dir && !stays {
			if err := t.remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// retire takes a directory away, all at once where the file system can do that.
func (t *openedTree) retire(dir string) error {
	if err := t.drop(dir + partial); err != nil {
		return err
	}
	if _, err := t.root.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if t.changing(func() error { return t.root.Rename(dir, dir+partial) }) == nil {
		return t.drop(dir + partial)
	}
	if err := t.clear(dir, nil); err != nil {
		return err
	}
	return errors.Join(t.drop(dir), t.drop(dir+partial))
}

// drop removes a directory that is not of the tree any more, or not yet. What
// others put there meanwhile stays, and is told.
func (t *openedTree) drop(dir string) error {
	list, err := fs.ReadDir(t.root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range list {
		name := path.Join(dir, e.Name())
		if e.IsDir() || !slices.Contains(t.old.Files, whole(name)) {
			return fmt.Errorf("%s was put there while this was written: move it away, and run the same command again", name)
		}
		if err := t.remove(name); err != nil {
			return err
		}
	}
	return t.remove(dir)
}
