package install

import (
	"errors"
	"slices"
	"testing"

	"github.com/airlock-project/airlock/manifests"
	"github.com/google/go-cmp/cmp"
)

func TestQuestions(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	site := &manifests.Site{Name: "cellar", Platform: "onprem", Airgap: "isolated"}
	ask := func() map[string]bool {
		t.Helper()
		list, err := Questions(s.list, site, "v1")
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]bool)
		for _, q := range list {
			got[q.Name] = q.Required
		}
		return got
	}
	want := map[string]bool{"kettle.name": true, "kettle.size": false, "recipe": false, "cellar.password": false}
	if d := cmp.Diff(want, ask()); d != "" {
		t.Error(d)
	}

	// An item of another platform asks nothing, nor does one that can never apply.
	find := func(id string) *manifests.Item {
		for i := range s.list.Items {
			if s.list.Items[i].ID == id {
				return &s.list.Items[i]
			}
		}
		t.Fatal(id)
		return nil
	}
	find("export").Inputs = []string{"hops.supplier"}
	find("weigh-hops").Need, find("weigh-hops").When, find("weigh-hops").Inputs = "conditional", `in.airgap == "partial"`, []string{"hops.kind"}
	if d := cmp.Diff(want, ask()); d != "" {
		t.Error(d)
	}
	// Where the item applies, what decides over its input is asked too.
	site.Platform = "eks"
	want["hops.supplier"], want["hops.kind"] = false, false
	if d := cmp.Diff(want, ask()); d != "" {
		t.Error(d)
	}
	site.Platform = "moon"
	if _, err := Questions(s.list, site, "v1"); !errorIs[*MismatchError](err) {
		t.Errorf("error %v", err)
	}
}

func errorIs[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestDefaultsByVersion(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	in := s.list.Inputs["kettle.size"]
	in.Defaults = []manifests.VersionDefault{{Versions: ">= 2, < 3", Value: int64(20)}, {Versions: ">= 2", Value: int64(30)}}
	s.list.Inputs["kettle.size"] = in
	for version, want := range map[string]any{"v1.9.9": int64(10), "v2.0.0": int64(20), "v4.0.0": int64(30), "latest": int64(10)} {
		s.bun.info.Version = version
		s.opts.State = t.TempDir() + "/state"
		s.run()
		if got := s.seen["look kettle.example.internal"]["size"]; got != want {
			t.Errorf("version %s: size %v, want %v", version, got, want)
		}
	}
}

// What cannot run on a platform asks nothing there, though its item does.
func TestQuestionsOfStepsThatCannotRun(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for i := range s.list.Items {
		item := &s.list.Items[i]
		if item.ID != "clean-kettle" {
			continue
		}
		item.Inputs = []string{"hops.kind", "hops.supplier", "cellar.url"}
		item.Probes = append(item.Probes,
			manifests.Step{ID: "far", Run: "look", When: `in.platform == "eks" && has(in.cellar.url)`, With: map[string]any{"url": "${in.cellar.url}"}},
			manifests.Step{ID: "near", Run: "look", When: `in.platform == "eks" || in.hops.kind == "citra"`, With: map[string]any{"other": `${in.platform == "eks" && has(in.hops.supplier)}`}})
	}
	for platform, want := range map[string]map[string]bool{
		"onprem": {"hops.kind": true, "hops.supplier": false, "cellar.url": false},
		"eks":    {"hops.kind": true, "hops.supplier": true, "cellar.url": true},
	} {
		list, err := Questions(s.list, &manifests.Site{Name: "cellar", Platform: platform, Airgap: "isolated"}, "v1")
		if err != nil {
			t.Fatal(err)
		}
		for name, asked := range want {
			if got := slices.ContainsFunc(list, func(q Question) bool { return q.Name == name }); got != asked {
				t.Errorf("%s asks for %s: %v, want %v", platform, name, got, asked)
			}
		}
	}
	// An input says itself where it is asked.
	in := s.list.Inputs["kettle.size"]
	in.Platforms = []string{"eks"}
	s.list.Inputs["kettle.size"] = in
	list, err := Questions(s.list, &manifests.Site{Name: "cellar", Platform: "onprem", Airgap: "isolated"}, "v1")
	if err != nil || slices.ContainsFunc(list, func(q Question) bool { return q.Name == "kettle.size" }) {
		t.Errorf("%v, %v", list, err)
	}
}
