package install

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/airlock-project/airlock/manifests"
	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const honeyItem = `
apiVersion: airlock/v1
kind: Checklist
product: brewery
platforms: [onprem]
phases: [{id: p1, number: 1, title: Shelves}]
items:
  - id: honey
    phase: p1
    kind: action
    steps:
      - id: put
        run: put
        with: {objects: [{apiVersion: v1, kind: ConfigMap, metadata: {name: honey, namespace: cellar}, data: {of: bees}}, {apiVersion: v1, kind: Secret, metadata: {name: bees, namespace: cellar}, data: {a: b}}]}
`

// changed is a pantry with a tree, and the wish for another: an item is changed, one
// gone, one new. Beside the tree lies a file of a person.
func changed(t *testing.T) (s *shop, old, next map[string]string) {
	t.Helper()
	s, _ = newPantry(t)
	s.run()
	mine := filepath.Join(s.opts.Render, "overlay", "mine.yaml")
	if err := errors.Join(os.MkdirAll(filepath.Dir(mine), 0o755), os.WriteFile(mine, []byte("mine"), 0o600)); err != nil {
		t.Fatal(err)
	}
	old = treeFiles(t, s.opts.Render)
	c, err := manifests.ParseChecklist("honey.yaml", []byte(honeyItem))
	if err == nil {
		err = os.CopyFS(s.opts.Render+"-next", os.DirFS(s.opts.Render))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.opts.Site.Inputs["jar.size"] = "large"
	put := s.list.Items[0].Steps[0].With["objects"].([]any)
	put[0].(map[string]any)["data"] = map[string]any{"size": "${in.jar.size}", "lid": "tin"}
	put[2].(map[string]any)["data"] = map[string]any{"a": "other"}
	s.list.Items[2] = c.Items[0]
	s.list.Items[2].Needs = []string{"shelf"}
	s.list.Items[4].Needs = []string{"label"}
	dir := s.opts.Render
	s.opts.Render += "-next"
	s.run()
	next = treeFiles(t, s.opts.Render)
	s.opts.Render = dir
	return s, old, next
}

// folderOf are the files right in a directory of a tree.
func folderOf(files map[string]string, dir string) map[string]string {
	out := make(map[string]string)
	for name, text := range files {
		if path.Dir(name) == dir {
			out[path.Base(name)] = text
		}
	}
	return out
}

// wholeItems reports what is neither old nor new in a tree, and what keeps
// kustomize or Git from taking it.
func wholeItems(t *testing.T, dir string, old, next map[string]string) {
	t.Helper()
	files := treeFiles(t, dir)
	dirs := make(map[string]bool)
	for _, tree := range []map[string]string{old, next, files} {
		for name := range tree {
			if d := path.Dir(name); d != "." && d != treeSecrets && !strings.HasSuffix(d, partial) {
				dirs[d] = true
			}
		}
	}
	for d := range dirs {
		have := folderOf(files, d)
		if !maps.Equal(have, folderOf(old, d)) && !maps.Equal(have, folderOf(next, d)) {
			t.Errorf("%s is neither old nor new: %v", d, sortedNamesOf(have))
		}
	}
	for name, text := range files {
		if path.Dir(name) == "." && name != treeMark && !strings.HasSuffix(name, partial) && text != old[name] && text != next[name] {
			t.Errorf("%s is neither old nor new", name)
		}
	}
	if files["overlay/mine.yaml"] != "mine" {
		t.Error("the file of a person is gone")
	}
	if _, err := os.Stat(filepath.Join(dir, treeIndex)); err == nil {
		if _, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir); err != nil {
			t.Errorf("kustomize: %v", err)
		}
	}
	hidden := folderOf(files, treeSecrets)[treeIgnore] == "*\n"
	for name := range files {
		if strings.HasPrefix(name, treeSecrets+"/") && !hidden {
			t.Errorf("%s is there and Git does not ignore it", name)
		}
	}
}

// TestGitOpsKilled ends a run before and after each change to the tree: every item
// is old or new, kustomize takes it, and the next run ends with what is wanted.
func TestGitOpsKilled(t *testing.T) {
	t.Parallel()
	s, old, next := changed(t)
	dir := s.opts.Render
	var left []string // the directory as each kill leaves it
	s.opts.onTree = func() error {
		to := filepath.Join(t.TempDir(), "tree")
		left = append(left, to)
		return os.CopyFS(to, os.DirFS(dir))
	}
	s.run()
	s.opts.onTree = nil
	if d := cmp.Diff(next, treeFiles(t, dir)); d != "" {
		t.Fatal(d)
	}
	if len(left) < 30 {
		t.Fatalf("%d points", len(left))
	}
	for i, at := range left {
		wholeItems(t, at, old, next)
		if i%3 > 0 && !t.Failed() {
			continue
		}
		s.opts.Render = at
		if _, err := s.try(t.Context()); err != nil {
			t.Errorf("point %d: the next run: %v", i, err)
		}
		if d := cmp.Diff(next, treeFiles(t, at)); d != "" {
			t.Errorf("point %d: the next run leaves %s", i, d)
		}
		if t.Failed() {
			t.Fatalf("point %d of %d", i, len(left))
		}
	}
}

// TestGitOpsKilledFirst ends the run that makes the tree.
func TestGitOpsKilledFirst(t *testing.T) {
	t.Parallel()
	s, _ := newPantry(t)
	dir := s.opts.Render
	var left []string
	s.opts.onTree = func() error {
		to := filepath.Join(t.TempDir(), "tree")
		left = append(left, to)
		return os.CopyFS(to, os.DirFS(dir))
	}
	s.run()
	s.opts.onTree = nil
	next := treeFiles(t, dir)
	for i, at := range left {
		for name := range treeFiles(t, at) {
			if _, err := os.Stat(filepath.Join(at, treeSecrets, treeIgnore)); err != nil && strings.HasPrefix(name, treeSecrets+"/1-") {
				t.Errorf("point %d: %s is there and Git does not ignore it", i, name)
			}
		}
		if i%2 > 0 {
			continue
		}
		s.opts.Render = at
		if _, err := s.try(t.Context()); err != nil {
			t.Errorf("point %d: the next run: %v", i, err)
		}
		if d := cmp.Diff(next, treeFiles(t, at)); d != "" {
			t.Errorf("point %d: the next run leaves %s", i, d)
		}
	}
}

// TestGitOpsDisk lets the disk fail at changes, once or for good.
func TestGitOpsDisk(t *testing.T) {
	t.Parallel()
	s, old, next := changed(t)
	before := s.opts.Render + "-before"
	if err := os.CopyFS(before, os.DirFS(s.opts.Render)); err != nil {
		t.Fatal(err)
	}
	fails := 0
	total := 0
	s.opts.Render = filepath.Join(t.TempDir(), "tree")
	s.opts.onTree = func() error { total++; return nil }
	if err := os.CopyFS(s.opts.Render, os.DirFS(before)); err != nil {
		t.Fatal(err)
	}
	s.run()
	for at := 1; at <= total; at += 3 {
		forGood := at%2 == 0
		s.opts.Render = filepath.Join(t.TempDir(), "tree")
		if err := os.CopyFS(s.opts.Render, os.DirFS(before)); err != nil {
			t.Fatal(err)
		}
		n := 0
		s.opts.onTree = func() error {
			if n++; n == at || forGood && n > at {
				return &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
			}
			return nil
		}
		rep, err := s.try(t.Context())
		if err != nil {
			fails++
			if !strings.Contains(err.Error(), "write "+s.opts.Render+": ") || !errors.Is(err, syscall.ENOSPC) || rep == nil || rep.Tree != nil {
				t.Errorf("change %d: %v", at, err)
			}
		}
		wholeItems(t, s.opts.Render, old, next)
		s.opts.onTree = nil
		if _, err := s.try(t.Context()); err != nil {
			t.Errorf("change %d: the next run: %v", at, err)
		}
		if d := cmp.Diff(next, treeFiles(t, s.opts.Render)); d != "" {
			t.Fatalf("change %d: the next run leaves %s", at, d)
		}
	}
	if fails < 20 {
		t.Errorf("the disk failed %d times", fails)
	}
}

// TestGitOpsReplaced puts a link in the place of the directory while the run is on
// its way: nothing goes where it leads.
func TestGitOpsReplaced(t *testing.T) {
	s, p := newPantry(t)
	s.run()
	elsewhere := t.TempDir()
	p.mid = func() {
		p.mid = nil
		if err := errors.Join(os.Rename(s.opts.Render, s.opts.Render+"-was"), os.Symlink(elsewhere, s.opts.Render)); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.try(t.Context()); err == nil || !strings.Contains(err.Error(), "now leads elsewhere") {
		t.Error(err)
	}
	if files := treeFiles(t, elsewhere); len(files) > 0 {
		t.Errorf("%v", sortedNamesOf(files))
	}
	// A link that was there from the beginning is the person's own.
	if _, err := s.try(t.Context()); err != nil || len(treeFiles(t, elsewhere)) == 0 {
		t.Error(err)
	}
	// In the tree, a link leads to files of others.
	for _, name := range []string{"secrets", "1-shelf"} {
		s, _ := newPantry(t)
		if err := errors.Join(os.MkdirAll(filepath.Join(s.opts.Render, "overlay"), 0o755), os.Symlink("overlay", filepath.Join(s.opts.Render, name))); err != nil {
			t.Fatal(err)
		}
		if _, err := s.try(t.Context()); err == nil || !strings.Contains(err.Error(), name+" was not written by Airlock") {
			t.Errorf("%s: %v", name, err)
		}
		if files := treeFiles(t, filepath.Join(s.opts.Render, "overlay")); len(files) > 0 {
			t.Errorf("%s: %v", name, sortedNamesOf(files))
		}
	}
}

// TestGitOpsDeleted removes the directory in the middle of a run, and at each
// change to it.
func TestGitOpsDeleted(t *testing.T) {
	s, p := newPantry(t)
	s.run()
	want := treeFiles(t, s.opts.Render)
	remove := func() {
		if err := os.RemoveAll(s.opts.Render); err != nil {
			t.Error(err)
		}
	}
	p.mid = remove
	if _, err := s.try(t.Context()); err != nil {
		t.Error(err)
	}
	p.mid = nil
	if d := cmp.Diff(want, treeFiles(t, s.opts.Render)); d != "" {
		t.Error(d)
	}
	for at := 1; at < 20; at++ {
		remove()
		n := 0
		s.opts.onTree = func() error {
			if n++; n == at {
				remove()
			}
			return nil
		}
		if _, err := s.try(t.Context()); err == nil || !strings.Contains(err.Error(), "write "+s.opts.Render) {
			t.Errorf("change %d: %v", at, err)
		}
		s.opts.onTree = nil
		if _, err := s.try(t.Context()); err != nil {
			t.Errorf("change %d: the next run: %v", at, err)
		}
		if d := cmp.Diff(want, treeFiles(t, s.opts.Render)); d != "" {
			t.Errorf("change %d: %s", at, d)
		}
	}
}

// TestGitOpsMeanwhile: what a person puts into an item's directory while it is
// written stays, and is told.
func TestGitOpsMeanwhile(t *testing.T) {
	s, _, _ := changed(t)
	once := sync.OnceFunc(func() {
		if err := os.WriteFile(filepath.Join(s.opts.Render, "1-shelf", "mine.yaml"), []byte("mine"), 0o600); err != nil {
			t.Error(err)
		}
	})
	s.opts.onTree = func() error { once(); return nil }
	if _, err := s.try(t.Context()); err == nil || !strings.Contains(err.Error(), "mine.yaml was put there while this was written") {
		t.Error(err)
	}
	s.opts.onTree = nil
	found := slices.ContainsFunc(sortedNamesOf(treeFiles(t, s.opts.Render)), func(name string) bool { return path.Base(name) == "mine.yaml" && path.Dir(name) != "overlay" })
	if _, err := s.try(t.Context()); !found || err == nil || !strings.Contains(err.Error(), "mine.yaml was not written by Airlock") {
		t.Errorf("found %v, %v", found, err)
	}
}

// TestGitOpsTwo runs twice at once into one directory, with records of their own.
func TestGitOpsTwo(t *testing.T) {
	s, _ := newPantry(t)
	other, _ := newPantry(t)
	other.opts.Render = s.opts.Render
	s.run()
	want := treeFiles(t, s.opts.Render)
	s.opts.Site.Inputs["jar.size"] = "large"
	second := sync.OnceValue(func() error { _, err := other.try(t.Context()); return err })
	s.opts.onTree = func() error { _ = second(); return nil }
	s.run()
	if err := second(); err == nil || !strings.Contains(err.Error(), "is being written by another run") {
		t.Error(err)
	}
	if got := treeFiles(t, s.opts.Render)["1-shelf/configmap-jar.yaml"]; !strings.Contains(got, "size: large") {
		t.Error(got)
	}
	s.opts.onTree = nil
	s.opts.Site.Inputs["jar.size"] = "small"
	for i := range 10 {
		dir := filepath.Join(t.TempDir(), "tree")
		s.opts.Render, other.opts.Render = dir, dir
		var wait sync.WaitGroup
		for _, x := range []*shop{s, other} {
			wait.Go(func() {
				if _, err := x.try(t.Context()); err != nil && !strings.Contains(err.Error(), "another run") {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		for name, text := range treeFiles(t, dir) { // marks of Secrets are keyed by the record
			if name != "secrets/1-shelf/secret-key.yaml" && text != want[name] {
				t.Errorf("round %d: %s", i, cmp.Diff(want[name], text))
			}
		}
	}
}
