package install

import (
	"bytes"
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

	"github.com/airlock-project/airlock/manifests"
	"sigs.k8s.io/yaml"
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
	dir  string
	root *os.Root // nil until there is such a directory
	old  treeRecord
}

// openTree reads what an earlier run wrote, and changes nothing.
func openTree(dir string) (*openedTree, error) {
	t := &openedTree{dir: dir}
	var err error
	if t.root, err = os.OpenRoot(dir); errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
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
	if t.root == nil {
		return nil
	}
	return t.root.Close()
}

// treeUsable refuses a directory that holds something else, before anything is
// done.
func (r *run) treeUsable() error {
	if !r.opts.GitOps {
		return nil
	}
	t, err := openTree(r.opts.Render)
	if err != nil {
		return err
	}
	return errors.Join(r.treeApart(), t.another(r.checklist.Product, r.opts.Site.Name), t.foreign(nil), t.close())
}

// treeApart refuses a tree in the state directory: one is for Git, the other is
// not.
func (r *run) treeApart() error {
	resolved := func(dir string) (string, error) {
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

// read is a file of the tree as an earlier run left it.
func (t *openedTree) read(name string) ([]byte, error) {
	if t.root == nil || !slices.Contains(t.old.Files, name) {
		return nil, fs.ErrNotExist
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
	dirs := map[string]bool{treeSecrets: true}
	for _, name := range t.old.Files {
		if dir, _, ok := strings.Cut(name, "/"); ok {
			dirs[dir] = true
		}
	}
	check := slices.Concat(t.old.Files, []string{treeReadme, treeIndex, treeIgnore})
	for name := range files {
		check = append(check, name)
		if dir, _, ok := strings.Cut(name, "/"); ok {
			dirs[dir] = true
		}
	}
	ours := make(map[string]bool)
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
		err := fs.WalkDir(t.root.FS(), dir, func(name string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist) && name == dir:
				return nil
			case err != nil:
				return err
			case d.IsDir() || ours[name] || strings.HasSuffix(name, partial) && ours[strings.TrimSuffix(name, partial)]:
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

// write brings the directory to what g is: each file whole or not at all. First
// it says what is going to be ours, last it takes away what is not wanted any
// more, so that a run that was killed leaves nothing that the next one refuses.
func (t *openedTree) write(g *growing) error {
	files, err := g.files()
	if err != nil {
		return err
	}
	if len(files) > maxTreeFiles {
		return fmt.Errorf("it would be %d files, the limit is %d", len(files), maxTreeFiles)
	}
	if err := t.foreign(files); err != nil {
		return err
	}
	if t.root == nil {
		if err := os.MkdirAll(t.dir, 0o755); err != nil {
			return err
		}
		if t.root, err = os.OpenRoot(t.dir); err != nil {
			return err
		}
	}
	names := sortedNames(files)
	both := slices.Compact(slices.Sorted(slices.Values(slices.Concat(names, t.old.Files))))
	turns := make([]string, 0, len(g.turns))
	for turn := range g.turns {
		turns = append(turns, turn)
	}
	if slices.ContainsFunc(g.items, func(b *branch) bool { return b.keeps }) {
		turns = append(turns, t.old.Turns...) // they may be in what stays
	}
	slices.Sort(turns)
	turns = slices.Compact(turns)
	t.old.Product, t.old.Site = g.checklist.Product, g.opts.Site.Name
	if err := t.mark(both, t.old.Turns); err != nil {
		return err
	}
	// The index goes last: what it names is there.
	slices.SortStableFunc(names, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	for _, name := range names {
		if err := t.put(name, files[name]); err != nil {
			return err
		}
	}
	if err := t.prune(files); err != nil {
		return err
	}
	return t.mark(sortedNames(files), turns)
}

func sortedNames(files map[string][]byte) []string {
	out := make([]string, 0, len(files))
	for name := range files {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (t *openedTree) mark(files, turns []string) error {
	raw, err := json.MarshalIndent(treeRecord{manifests.APIVersion, "GitOpsTree", files, t.old.Product, t.old.Site, turns}, "", "  ")
	if err != nil {
		return err
	}
	return t.put(treeMark, append(raw, '\n'))
}

// put writes a file under its name when it is whole. What is as wanted stays
// untouched.
func (t *openedTree) put(name string, data []byte) error {
	dirMode, mode := fs.FileMode(0o755), fs.FileMode(0o644)
	if name == treeSecrets || strings.HasPrefix(name, treeSecrets+"/") {
		dirMode, mode = 0o700, 0o600
	}
	if dir := path.Dir(name); dir != "." {
		if err := t.root.MkdirAll(dir, dirMode); err != nil {
			return err
		}
		if err := t.root.Chmod(dir, dirMode); err != nil {
			return err
		}
	}
	if fi, err := t.root.Lstat(name); err == nil && fi.Mode() == mode && fi.Size() == int64(len(data)) {
		if have, err := t.root.ReadFile(name); err == nil && bytes.Equal(have, data) {
			return nil
		}
	}
	temp := name + partial
	if err := t.root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := t.root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, t.root.Remove(temp))
	}
	return t.root.Rename(temp, name)
}

// prune removes files of earlier runs, and directories that are empty then.
func (t *openedTree) prune(files map[string][]byte) error {
	for _, name := range t.old.Files {
		if files[name] != nil {
			continue
		}
		if err := t.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if t.root.Remove(dir) != nil {
				break // it still holds something
			}
		}
	}
	return nil
}

// files are the content of the tree.
func (g *growing) files() (map[string][]byte, error) {
	out := make(map[string][]byte)
	var open, closed []string
	for _, b := range g.items {
		var plain, secret []string
		taken := make(map[string]bool)
		for _, l := range b.leaves {
			data, err := l.yaml()
			if err != nil {
				return nil, err
			}
			name := l.fileName(taken)
			if l.Secret() {
				secret = append(secret, name)
				out[path.Join(treeSecrets, b.dir, name)] = data
			} else {
				plain = append(plain, name)
				out[path.Join(b.dir, name)] = data
			}
		}
		if b.keeps {
			var err error
			if plain, err = g.stay(out, b.dir, plain); err != nil {
				return nil, err
			}
			if secret, err = g.stay(out, path.Join(treeSecrets, b.dir), secret); err != nil {
				return nil, err
			}
		}
		if len(plain) > 0 {
			open = append(open, b.dir)
			out[path.Join(b.dir, treeIndex)] = kustomization(plain)
		}
		if len(secret) > 0 {
			closed = append(closed, b.dir)
			out[path.Join(treeSecrets, b.dir, treeIndex)] = kustomization(secret)
		}
	}
	out[treeIndex] = kustomization(open)
	if len(closed) > 0 {
		out[path.Join(treeSecrets, treeIndex)] = kustomization(closed)
		out[path.Join(treeSecrets, treeIgnore)] = []byte("*\n")
	}
	// Nothing gets into Git but what is listed here: other steps may write below
	// the same directory, and charts hold Secrets.
	var ignore strings.Builder
	ignore.WriteString("/*\n!/" + treeMark + "\n!/" + treeIgnore + "\n!/" + treeReadme + "\n!/" + treeIndex + "\n")
	for _, dir := range open {
		ignore.WriteString("!/" + dir + "/\n")
	}
	out[treeIgnore] = []byte(ignore.String())
	out[treeReadme] = g.readme(open)
	return out, nil
}

// stay adds to the files of a directory what its index names in the tree as it
// is, and returns what the next index names.
func (g *growing) stay(out map[string][]byte, dir string, names []string) ([]string, error) {
	index, err := g.written(path.Join(dir, treeIndex))
	if errors.Is(err, fs.ErrNotExist) {
		return names, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(index)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "- ")
		if !ok || slices.Contains(names, name) {
			continue
		}
		data, err := g.written(path.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[path.Join(dir, name)] = data
		names = append(names, name)
	}
	return names, nil
}

// kustomization lists files or directories in the order in which they are
// applied.
func kustomization(list []string) []byte {
	var b strings.Builder
	b.WriteString("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nsortOptions: {order: fifo}\nresources:")
	if len(list) == 0 {
		b.WriteString(" []")
	}
	b.WriteString("\n")
	for _, name := range list {
		b.WriteString("  - " + name + "\n")
	}
	return []byte(b.String())
}

func (l *leaf) yaml() ([]byte, error) {
	tree, err := plainTree(l.Tree)
	if err != nil {
		return nil, err
	}
	annotate(tree, annotationWave, strconv.Itoa(l.wave))
	data, err := yaml.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", l.Object(), err)
	}
	return data, nil
}

var unfit = regexp.MustCompile(`[^a-z0-9.-]+`)

// fileName is kind-name.yaml, with a number where that is taken.
func (l *leaf) fileName(taken map[string]bool) string {
	o := l.Object()
	name := unfit.ReplaceAllString(strings.ToLower(o.Kind+"-"+o.Name), "-")
	name = strings.Trim(name[:min(len(name), 200)], "-.")
	for i := 1; ; i++ {
		file := name + ".yaml"
		if i > 1 {
			file = fmt.Sprintf("%s-%d.yaml", name, i)
		}
		if !taken[file] {
			taken[file] = true
			return file
		}
	}
}

// readme says what is where, and what is not there yet.
func (g *growing) readme(open []string) []byte {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# %s at %s, for a GitOps controller\n", g.checklist.Product, g.opts.Site.Name)
	p("Written by `airlock bundle install --render-to`, which overwrites it. Commit this directory; when the controller")
	p("has applied it, run the same command again: items pass when the cluster holds their objects.\n")
	p("`kubectl apply --server-side -k .` applies everything in order. Argo CD orders by the sync waves of the objects;")
	p("its Application needs `ServerSideApply=true`, because types are large. For Flux, a Kustomization for each of these")
	p("directories, with `wait: true` and each depending on the one before it:\n")
	for _, dir := range open {
		p("- %s", dir)
	}
	if g.report.Secrets > 0 {
		p("\n## Secrets\n")
		p("%d Secrets are in `%s/`, where only their owner reads them, and Git ignores them. Whoever may applies them", g.report.Secrets, treeSecrets)
		p("with `kubectl apply --server-side -k %s`; or encrypt them (SOPS, Sealed Secrets) or hand them to External Secrets,", treeSecrets)
		p("under the same names, with their annotations `%s…` on the Secret.", MarkPrefix)
	}
	if len(g.report.Waits) > 0 {
		p("\n## Not here yet\n")
		for _, w := range g.report.Waits {
			p("- %s: %s", w.Item, w.Why)
		}
	}
	return []byte(b.String())
}

// Held reports whether an item waits for objects in the cluster, and not for a
// statement.
func (rep *Report) Held(item string) bool {
	for _, ph := range rep.Phases {
		for _, i := range ph.Items {
			if i.ID == item {
				return slices.ContainsFunc(i.Findings, func(f FindingReport) bool { return f.Code == codeHeld })
			}
		}
	}
	return false
}
