package install

import (
	"errors"
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
