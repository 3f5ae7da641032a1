package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/manifests"
	"github.com/google/go-cmp/cmp"
)

// counted puts an item before all others, so that the directories of a tree get
// other numbers, as with the checklist of a newer bundle.
func counted(s *shop) {
	s.list.Items = slices.Insert(s.list.Items, 0, manifests.Item{ID: "sweep", Phase: "p1", Kind: manifests.ItemCheck, Probes: []manifests.Step{{ID: "look", Run: "look", With: map[string]any{"name": "sweep"}}}})
}

// TestGitOpsGone names what a newer bundle has no more, and nothing that only
// moved to another directory or version.
func TestGitOpsGone(t *testing.T) {
	s, _ := newPantry(t)
	objects := func() []any { return s.list.Items[0].Steps[0].With["objects"].([]any) }
	if rep := s.run(); len(rep.Tree.Gone) != 0 || strings.Contains(rep.Text(), "not in it any more") {
		t.Error(rep.Tree.Gone)
	}
	objects()[0].(map[string]any)["metadata"] = map[string]any{"name": "glass", "namespace": "cellar"}
	objects()[1].(map[string]any)["apiVersion"] = "v2"
	counted(s)
	rep := s.run()
	if d := cmp.Diff([]string{"ConfigMap cellar/jar"}, rep.Tree.Gone); d != "" {
		t.Error(d)
	}
	if !strings.Contains(rep.Text(), "not in it any more: ConfigMap cellar/jar; where the controller does not prune") {
		t.Error(rep.Text())
	}
	if rep := s.run(); len(rep.Tree.Gone) != 0 {
		t.Error("told again:", rep.Tree.Gone)
	}
}

// TestGitOpsKeepsCounted: what cannot be rendered now stays, under the number
// that its item has now.
func TestGitOpsKeepsCounted(t *testing.T) {
	s, _ := newPantry(t)
	s.run()
	before := treeFiles(t, s.opts.Render)
	counted(s)
	s.opts.Secret = func(string) ([]byte, error) { return nil, errors.New("the vault is closed") }
	rep := s.run()
	after := treeFiles(t, s.opts.Render)
	for _, name := range []string{"%d-shelf/configmap-jar.yaml", "%d-shelf/kustomization.yaml", "secrets/%d-shelf/secret-key.yaml"} {
		if was, is := before[fmt.Sprintf(name, 1)], after[fmt.Sprintf(name, 2)]; was == "" || was != is {
			t.Errorf("%s was\n%s\nis\n%s", name, was, is)
		}
	}
	if len(rep.Tree.Gone) != 0 {
		t.Error("gone:", rep.Tree.Gone)
	}
	if _, err := os.Stat(filepath.Join(s.opts.Render, "1-shelf")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the directory of the former number stays:", err)
	}
}

// TestGitOpsApplied asks nobody to commit what the cluster holds.
func TestGitOpsApplied(t *testing.T) {
	s, p := newPantry(t)
	const commit, holds = "; commit it, and run the same command again", "; the cluster holds them"
	for i := 0; ; i++ {
		rep := s.run()
		done := rep.Status == StatusDone
		if text := rep.Text(); strings.Contains(text, commit) == done || strings.Contains(text, holds) != done {
			t.Errorf("status %s:\n%s", rep.Status, text)
		}
		if done {
			return
		}
		if i == 5 {
			t.Fatal("it does not end")
		}
		p.sync(t, s.opts.Render)
	}
}

// TestGitOpsMany names some of many objects.
func TestGitOpsMany(t *testing.T) {
	s, _ := newPantry(t)
	with := s.list.Items[0].Steps[0].With
	for i := range 30 {
		with["objects"] = append(with["objects"].([]any), map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": fmt.Sprintf("jar-%02d", i), "namespace": "cellar"}})
	}
	text := s.run().Text()
	if !strings.Contains(text, "ConfigMap cellar/jar-06, and 23 more") || strings.Contains(text, "jar-07") || !strings.Contains(text, "33 objects not in the cluster yet") {
		t.Error(text)
	}
}
