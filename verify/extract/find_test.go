package extract

import (
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/opencontainers/go-digest"
)

// TestFind: a reference as it is written comes before a name, and both before
// what mirror and serve make of it.
func TestFind(t *testing.T) {
	entry := func(kind, ref, name string) bundle.Entry {
		e := bundle.Entry{Item: bundle.Item{Kind: kind, Ref: ref, Name: name}, Role: bundle.RoleRoot}
		e.Digest = digest.FromString(ref)
		return e
	}
	pinned := "@" + digest.FromString("x").String()
	only := digest.FromString("quay.io/only" + pinned).Encoded()[:12]
	entries := []bundle.Entry{
		entry(bundle.KindImage, "quay.io/team/app:v1", "app"),
		entry(bundle.KindImage, "localhost:5000/team/tool:v1"+pinned, "tool"),
		entry(bundle.KindImage, "docker.io/nginx:1", "nginx"),
		entry(bundle.KindImage, "quay.io/only"+pinned, "only"),
		entry(bundle.KindImage, "a.example/two:v1", "two"),
		entry(bundle.KindImage, "b.example/two:v1", "two"),
		entry(bundle.KindImage, "c.example/charts/x:1", "cx"),
		entry(bundle.KindChart, "charts/x:1", "x"),
	}
	for item, want := range map[string]string{
		"quay.io/team/app:v1":  "quay.io/team/app:v1",
		"team/app:v1":          "quay.io/team/app:v1",
		"team/tool:v1":         "localhost:5000/team/tool:v1" + pinned,
		"library/nginx:1":      "docker.io/nginx:1",
		"only" + pinned:        "quay.io/only" + pinned,
		"only:sha256-" + only:  "quay.io/only" + pinned,
		"charts/x:1":           "charts/x:1",
		"c.example/charts/x:1": "c.example/charts/x:1",
		"b.example/two:v1":     "b.example/two:v1",
		"two:v1":               "ambiguous",
		"two":                  "ambiguous",
		"app:v1":               "no item",
		"io/team/app:v1":       "no item",
		"team/app":             "no item",
	} {
		e, err := find(entries, item)
		if err != nil && !strings.Contains(err.Error(), want) || err == nil && e.Ref != want {
			t.Errorf("%s: got %q, %v, want %s", item, e.Ref, err, want)
		}
	}
}
