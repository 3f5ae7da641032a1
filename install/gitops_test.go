package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/manifests"
	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// pantry is a cluster as far as a Renderer sees it.
type pantry struct {
	live    map[string]map[string]any
	applied int
	mid     func() // called in the middle of a run
	later   error  // of objects that are not known yet
}

func (*pantry) Plan(context.Context, Input) (Change, error) { return Change{Summary: "x"}, nil }

func (p *pantry) Apply(context.Context, Input) (Result, error) {
	p.applied++
	return Result{}, nil
}

func (p *pantry) Objects(_ context.Context, in Input) ([]Manifest, error) {
	if p.later != nil && in.Preview && strings.Contains(fmt.Sprint(in.With), "data:map[]") {
		return nil, p.later
	}
	var out []Manifest
	list, _ := in.With["objects"].([]any)
	for _, o := range list {
		tree, _ := o.(map[string]any)
		patch, _ := in.With["patch"].(bool)
		out = append(out, Manifest{Tree: tree, Patch: patch})
	}
	return out, nil
}

func (p *pantry) Held(_ context.Context, _ Input, want []Manifest) (Holding, error) {
	if p.mid != nil {
		p.mid()
	}
	var h Holding
	for _, m := range want {
		have := p.live[m.Object().String()]
		if have == nil || m.Patch && mapAt(have, "data")["b"] != mapAt(m.Tree, "data")["b"] ||
			!cmp.Equal(m.Marked(), Manifest{Tree: keep(have, m.Marked())}.Marked()) {
			h.Waits = append(h.Waits, m.Object().String())
		}
	}
	h.Result.Outputs = map[string]any{"shelf.made": "yes"}
	return h, nil
}

// keep is an object with no marks but those of want.
func keep(tree map[string]any, want map[string]string) map[string]any {
	notes := make(map[string]any)
	for k, v := range mapAt(tree, "metadata", "annotations") {
		if _, ok := want[k]; ok {
			notes[k] = v
		}
	}
	return map[string]any{"metadata": map[string]any{"annotations": notes}}
}

const pantryList = `
apiVersion: airlock/v1
kind: Checklist
product: brewery
platforms: [onprem]
inputs:
  jar.size: {type: string, default: small}
  cellar.password: {type: string, secret: true}
phases: [{id: p1, number: 1, title: Shelves}]
items:
  - id: shelf
    phase: p1
    kind: action
    outputs: {shelf.made: {type: string}}
    steps:
      - id: put
        run: put
        with:
          objects:
            - {apiVersion: v1, kind: ConfigMap, metadata: {name: jar, namespace: cellar}, data: {size: "${in.jar.size}"}}
            - {apiVersion: v1, kind: Namespace, metadata: {name: cellar}}
            - {apiVersion: v1, kind: Secret, metadata: {name: key, namespace: cellar}, data: {a: "${in.cellar.password}", b: x}}
    probes: [{id: look, run: look, with: {name: shelf}}]
  - id: host
    phase: p1
    kind: action
    needs: [shelf]
    outputs: {host.id: {type: string}}
    steps: [{id: do, run: change, with: {name: host, outputs: {host.id: h1}}}]
  - id: jam
    phase: p1
    kind: action
    needs: [shelf]
    steps:
      - id: put
        run: put
        with: {objects: [{apiVersion: v1, kind: ConfigMap, metadata: {name: jam, namespace: cellar}, data: {of: plums}}]}
  - id: label
    phase: p1
    kind: action
    needs: [host]
    steps:
      - id: put
        run: put
        with: {objects: [{apiVersion: v1, kind: ConfigMap, metadata: {name: label, namespace: cellar}, data: {id: "${out.host.id}"}}]}
  - id: lock
    phase: p1
    kind: action
    needs: [label, jam]
    steps:
      - id: put
        run: put
        with: {patch: true, objects: [{apiVersion: v1, kind: Secret, metadata: {name: key, namespace: cellar}, data: {b: ""}}]}
`

const cellarSecret = "hunter2-and-more"

func newPantry(t *testing.T) (*shop, *pantry) {
	t.Helper()
	s := newShop(t)
	list, err := manifests.ParseChecklist("pantry.yaml", []byte(pantryList))
	if err != nil {
		t.Fatal(err)
	}
	p := &pantry{live: make(map[string]map[string]any)}
	s.list, s.opts.Site.Inputs = list, map[string]any{"cellar.password": "env:CELLAR_PASSWORD"}
	s.opts.Actions["put"] = p
	s.opts.GitOps, s.opts.Render = true, filepath.Join(t.TempDir(), "tree")
	return s, p
}

// treeFiles reads a whole directory.
func treeFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		out[name] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sync applies the tree as a controller does.
func (p *pantry) sync(t *testing.T, dir string) {
	t.Helper()
	for name, text := range treeFiles(t, dir) {
		if !strings.HasSuffix(name, ".yaml") || filepath.Base(name) == treeIndex {
			continue
		}
		var tree map[string]any
		if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
			t.Fatal(err)
		}
		p.live[Manifest{Tree: tree}.Object().String()] = tree
	}
}

func shelves(rep *Report) map[string]State {
	out := make(map[string]State)
	for _, i := range rep.Phases[0].Items {
		out[i.ID] = i.State
	}
	return out
}

func TestGitOps(t *testing.T) {
	s, p := newPantry(t)
	rep := s.run()
	want := map[string]State{"shelf": StateWaiting, "host": StateBlocked, "jam": StateBlocked, "label": StateBlocked, "lock": StateBlocked}
	if d := cmp.Diff(want, shelves(rep)); d != "" || rep.Status != StatusWaiting || !rep.Held("shelf") || rep.Held("host") {
		t.Fatal(rep.Status, d)
	}
	files := treeFiles(t, s.opts.Render)
	names := sortedNamesOf(files)
	if d := cmp.Diff([]string{
		".airlock-gitops", ".gitignore", "1-shelf/configmap-jar.yaml", "1-shelf/kustomization.yaml", "1-shelf/namespace-cellar.yaml",
		"3-jam/configmap-jam.yaml", "3-jam/kustomization.yaml", "README.md", "kustomization.yaml",
		"secrets/.gitignore", "secrets/1-shelf/kustomization.yaml", "secrets/1-shelf/secret-key.yaml", "secrets/kustomization.yaml",
	}, names); d != "" {
		t.Fatal(d)
	}
	if got := files["1-shelf/kustomization.yaml"]; !strings.HasSuffix(got, "resources:\n  - namespace-cellar.yaml\n  - configmap-jar.yaml\n") {
		t.Error(got)
	}
	if got := files["kustomization.yaml"]; !strings.HasSuffix(got, "sortOptions: {order: fifo}\nresources:\n  - 1-shelf\n  - 3-jam\n") {
		t.Error(got)
	}
	for name, text := range files {
		if strings.Contains(text, cellarSecret) != (name == "secrets/1-shelf/secret-key.yaml") {
			t.Errorf("%s: the secret is where it should not be, or is missing", name)
		}
	}
	if fi, err := os.Stat(filepath.Join(s.opts.Render, "secrets")); err != nil || fi.Mode().Perm() != 0o700 {
		t.Error(fi.Mode(), err)
	}
	if fi, err := os.Stat(filepath.Join(s.opts.Render, "secrets/1-shelf/secret-key.yaml")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Error(fi.Mode(), err)
	}
	waits := []TreeWait{{"label", "put: its objects are known after host"}, {"lock", "it changes Secret cellar/key of shelf when it is its turn"}}
	if d := cmp.Diff(waits, rep.Tree.Waits); d != "" {
		t.Error(d)
	}
	for _, line := range []string{"not for Git: 1 Secrets", "not yet: label", "warn GO-01: the cluster does not hold yet", "ConfigMap cellar/jar"} {
		if !strings.Contains(rep.Text(), line) {
			t.Errorf("the report lacks %q:\n%s", line, rep.Text())
		}
	}
	// Nothing applied: the same bytes again.
	s.run()
	if d := cmp.Diff(files, treeFiles(t, s.opts.Render)); d != "" {
		t.Error("a second run gives other bytes:", d)
	}
	if kept, err := KeptObjects(s.opts.State); err != nil || len(kept) != 0 {
		t.Error("what Airlock did not apply is claimed:", kept, err)
	}

	p.sync(t, s.opts.Render)
	rep = s.run()
	want = map[string]State{"shelf": StatePass, "host": StatePass, "jam": StatePass, "label": StateWaiting, "lock": StateBlocked}
	if d := cmp.Diff(want, shelves(rep)); d != "" {
		t.Fatal(d)
	}
	p.sync(t, s.opts.Render)
	if rep = s.run(); shelves(rep)["label"] != StatePass || shelves(rep)["lock"] != StateWaiting {
		t.Fatal(shelves(rep))
	}
	p.sync(t, s.opts.Render)
	if rep = s.run(); rep.Status != StatusDone || !strings.Contains(treeFiles(t, s.opts.Render)["secrets/1-shelf/secret-key.yaml"], "b: \"\"") {
		t.Fatal(shelves(rep), rep.Text())
	}
	// A change that was made in its turn stays, whatever waits again.
	s.opts.Site.Inputs["jar.size"] = "large"
	if rep = s.run(); shelves(rep)["shelf"] != StateWaiting || shelves(rep)["lock"] != StateBlocked {
		t.Fatal(shelves(rep))
	}
	files = treeFiles(t, s.opts.Render)
	if !strings.Contains(files["secrets/1-shelf/secret-key.yaml"], "b: \"\"") || !strings.Contains(files["1-shelf/configmap-jar.yaml"], "size: large") {
		t.Error("the change was taken back")
	}
	p.sync(t, s.opts.Render)
	s.opts.Resume = true
	if rep = s.run(); rep.Status != StatusDone {
		t.Fatal(rep.Text())
	}
	delete(p.live, "ConfigMap cellar/jam")
	if rep = s.run(); shelves(rep)["jam"] != StateWaiting {
		t.Error("what was taken away still passes", shelves(rep))
	}
	if p.applied != 0 {
		t.Error("something was applied")
	}
}

func sortedNamesOf(files map[string]string) []string {
	var out []string
	for name := range files {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// TestGitOpsForeign refuses what others wrote, and takes away what it wrote itself.
func TestGitOpsForeign(t *testing.T) {
	for _, name := range []string{"README.md", "kustomization.yaml", "secrets/mine", ".gitignore", "1-shelf/mine.yaml"} {
		s, _ := newPantry(t)
		path := filepath.Join(s.opts.Render, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("mine"), 0o600)); err != nil {
			t.Fatal(err)
		}
		_, err := s.try(t.Context())
		if err == nil || !strings.Contains(err.Error(), name+" was not written by Airlock") {
			t.Errorf("%s: error %v", name, err)
		}
		if raw, err := os.ReadFile(path); err != nil || string(raw) != "mine" {
			t.Errorf("%s: %q, %v", name, raw, err)
		}
	}
	s, _ := newPantry(t)
	for _, name := range []string{".git/HEAD", "overlay/kustomization.yaml"} { // beside the tree
		path := filepath.Join(s.opts.Render, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("mine"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s.run()
	gone := filepath.Join(s.opts.Render, "3-jam")
	if _, err := os.Stat(gone); err != nil {
		t.Fatal(err)
	}
	s.list.Items = slices.DeleteFunc(s.list.Items, func(i manifests.Item) bool { return i.ID == "jam" })
	s.list.Items[len(s.list.Items)-1].Needs = []string{"label"}
	s.run()
	if _, err := os.Stat(gone); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an item that is gone left its files: %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.opts.Render, "overlay/kustomization.yaml")); err != nil {
		t.Error(err)
	}
}

// TestGitOpsLeak keeps a secret out of what is for Git.
// TestGitOpsMarks: whoever reads a tree cannot try passwords against the marks of
// its Secrets, which are keyed with the state's own key.
func TestGitOpsMarks(t *testing.T) {
	var trees []map[string]string
	for range 2 {
		s, _ := newPantry(t)
		s.run()
		trees = append(trees, treeFiles(t, s.opts.Render))
	}
	const open, secret = "1-shelf/configmap-jar.yaml", "secrets/1-shelf/secret-key.yaml"
	if trees[0][open] != trees[1][open] || !strings.Contains(trees[0][open], MarkPrefix) {
		t.Error("two sites that are alike have other objects:", cmp.Diff(trees[0][open], trees[1][open]))
	}
	if trees[0][secret] == trees[1][secret] || !strings.Contains(trees[0][secret], MarkPrefix) {
		t.Error("two states mark the same Secret alike")
	}
}

// TestMergePatch follows RFC 7396: null takes away.
func TestMergePatch(t *testing.T) {
	base := map[string]any{"a": "1", "b": map[string]any{"c": "1", "d": "2"}}
	mergePatch(base, map[string]any{"a": nil, "b": map[string]any{"c": nil}, "e": map[string]any{"f": nil, "g": "3"}, "h": nil})
	if d := cmp.Diff(map[string]any{"b": map[string]any{"d": "2"}, "e": map[string]any{"g": "3"}}, base); d != "" {
		t.Error(d)
	}
}

func TestGitOpsLeak(t *testing.T) {
	s, _ := newPantry(t)
	s.opts.Site.Inputs["jar.size"] = "small"
	put := s.list.Items[0].Steps[0].With["objects"].([]any)
	put[0].(map[string]any)["data"] = map[string]any{"url": "https://user:${in.cellar.password}@host"}
	rep := s.run()
	for name, text := range treeFiles(t, s.opts.Render) {
		if strings.Contains(text, cellarSecret) && !strings.HasPrefix(name, "secrets/") {
			t.Errorf("%s holds a secret", name)
		}
	}
	if len(rep.Tree.Waits) == 0 || !strings.Contains(rep.Tree.Waits[0].Why, "holds the secret cellar.password") {
		t.Error(rep.Tree.Waits)
	}
}

// TestGitOpsDryRun writes nothing.
func TestGitOpsDryRun(t *testing.T) {
	s, p := newPantry(t)
	s.opts.DryRun = true
	rep := s.run()
	if got := rep.Phases[0].Items[0].Plan; len(got) != 1 || got[0].Summary != "write 3 objects for the GitOps controller" {
		t.Error(got)
	}
	// What an earlier item gives is not known yet, and may be needed.
	label := func() Change { return s.run().Phases[0].Items[3].Plan[0] }
	want := Change{Summary: "write 1 objects for the GitOps controller", Details: []string{"ConfigMap cellar/label", "what is in them is known after host"}}
	if d := cmp.Diff(want, label()); d != "" {
		t.Error(d)
	}
	p.later = errors.New("want an id of a host")
	want = Change{Summary: "write objects for the GitOps controller", Details: []string{"they are known after host"}}
	if d := cmp.Diff(want, label()); d != "" {
		t.Error(d)
	}
	if _, err := os.Stat(s.opts.Render); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a dry run wrote", err)
	}
}

// TestGitOpsStays keeps what an earlier run wrote of an item that cannot be
// rendered now: a controller may prune.
func TestGitOpsStays(t *testing.T) {
	s, p := newPantry(t)
	for range 4 { // to the end, the change of another item's Secret included
		s.run()
		p.sync(t, s.opts.Render)
	}
	files := treeFiles(t, s.opts.Render)
	if !strings.Contains(files["secrets/1-shelf/secret-key.yaml"], "b: \"\"") {
		t.Fatal(files)
	}
	good := s.opts.Secret
	s.opts.Secret = func(string) ([]byte, error) { return nil, errors.New("no such file") }
	rep := s.run()
	if len(rep.Tree.Waits) == 0 || rep.Tree.Waits[0].Item != "shelf" {
		t.Error(rep.Tree.Waits)
	}
	for name, text := range treeFiles(t, s.opts.Render) {
		if name != treeReadme && text != files[name] {
			t.Errorf("%s: %s", name, cmp.Diff(files[name], text))
		}
		delete(files, name)
	}
	if len(files) > 0 {
		t.Errorf("gone: %v", sortedNamesOf(files))
	}
	s.opts.Secret = good
	s.run()
	if got := treeFiles(t, s.opts.Render)["secrets/1-shelf/secret-key.yaml"]; !strings.Contains(got, "b: \"\"") {
		t.Error("the change was taken back:", got)
	}
}

// TestGitOpsPlace refuses the tree of another site, one in the state directory,
// and a mark that claims what Airlock never writes.
func TestGitOpsPlace(t *testing.T) {
	s, _ := newPantry(t)
	s.run()
	before := treeFiles(t, s.opts.Render)
	name := s.opts.Site.Name
	s.opts.Site.Name = "elsewhere"
	if _, err := s.try(t.Context()); err == nil || !strings.Contains(err.Error(), "is the tree of brewery at "+name) {
		t.Error(err)
	}
	if d := cmp.Diff(before, treeFiles(t, s.opts.Render)); d != "" {
		t.Error(d)
	}
	s.opts.Site.Name = name
	tree := s.opts.Render
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(s.opts.State, link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{s.opts.State, filepath.Join(s.opts.State, "tree", "deep"), link} {
		s.opts.Render = dir
		if _, err := s.try(t.Context()); err == nil || !strings.Contains(err.Error(), "is in the state directory") {
			t.Errorf("%s: %v", dir, err)
		}
	}
	s.opts.Render = tree
	mark := strings.Replace(before[treeMark], "\"README.md\"", "\".git/HEAD\"", 1)
	if err := os.WriteFile(filepath.Join(tree, treeMark), []byte(mark), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.try(t.Context()); err == nil || !strings.Contains(err.Error(), "it is not what Airlock wrote") {
		t.Error(err)
	}
}
