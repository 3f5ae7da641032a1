package install

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// TestGitOpsBuild: kustomize itself, which Argo CD and Flux use, makes of a tree
// the objects in the order of the items, and no Secret.
func TestGitOpsBuild(t *testing.T) {
	s, _ := newPantry(t)
	s.run()
	for dir, want := range map[string][]string{
		"":         {"Namespace cellar 101", "ConfigMap jar 102", "ConfigMap jam 301"},
		"/secrets": {"Secret key 102"},
	} {
		built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), s.opts.Render+dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range built.Resources() {
			got = append(got, r.GetKind()+" "+r.GetName()+" "+r.GetAnnotations()[annotationWave])
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", dir, d)
		}
	}
}
