package mirror

import (
	"errors"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2"
)

func TestMapFlatten(t *testing.T) {
	tests := []struct{ ref, want string }{
		{"quay.io/jetstack/x:v1", "x-89da11d2:v1"},
		{"quay.io/other/x:v1", "x-d39a0104:v1"},
		{"docker.io/postgres:16", "postgres-004148bc:16"},
		{"index.docker.io/library/postgres:16", "postgres-004148bc:16"},
		{"spacelift-backend:v3.0.0", "spacelift-backend-feb3a87e:v3.0.0"},
		{"registry.test:5000/a/b/c_d:1", "c_d-3384d844:1"},
	}
	for _, tt := range tests {
		p, err := Map(bundle.Item{Kind: bundle.KindImage, Ref: tt.ref}, digest.FromString("r"), Flatten)
		if err != nil || p.String() != tt.want {
			t.Errorf("Map(%q) = %s, %v; want %s", tt.ref, p, err, tt.want)
		}
	}
	if _, err := Map(bundle.Item{Ref: "x:1"}, digest.FromString("r"), "sideways"); err == nil {
		t.Error("an unknown mode is accepted")
	}
}

// What belongs to an image follows it wherever it is put.
func TestMappingMovesSignatures(t *testing.T) {
	tests := []struct {
		name    string
		mapping Mapping
		repo    string
		tag     string
	}{
		{"strip", Mapping{}, "airlock/jetstack/x", "v1"},
		{"keep", Mapping{Hosts: KeepHost}, "airlock/quay.io/jetstack/x", "v1"},
		{"suffix", Mapping{TagSuffix: "-b7"}, "airlock/jetstack/x", "v1-b7"},
		{"by reference", Mapping{Override: map[string]string{"quay.io/jetstack/x:v1": "our/controller:1.0"}, TagSuffix: "-b7"}, "airlock/our/controller", "1.0"},
		{"without tag", Mapping{Override: map[string]string{"quay.io/jetstack/x:v1": "our/controller"}}, "airlock/our/controller", "v1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reg := newOlareg(t, true)
			f := newFake(t)
			index, _, _, cosign := signed(f)
			o := options(t, reg)
			o.Mapping = tt.mapping
			m, result, err := run(t.Context(), f, o)
			if err != nil || result.LeftOut != 0 {
				t.Fatalf("%+v, %v", result, err)
			}
			if want := reg.host + "/" + tt.repo + ":" + tt.tag; m.Entries[0].Target != want {
				t.Errorf("target %s, want %s", m.Entries[0].Target, want)
			}
			repo := reg.repository(t, tt.repo)
			for tag, want := range map[string]digest.Digest{tt.tag: index.Digest, "sha256-" + index.Digest.Encoded() + ".sig": cosign.Digest} {
				if got, err := oras.Resolve(t.Context(), repo, tag, oras.DefaultResolveOptions); err != nil || got.Digest != want {
					t.Errorf("tag %s = %s, %v; want %s", tag, got.Digest, err, want)
				}
			}
		})
	}
}

func TestMappingRefuses(t *testing.T) {
	f := newFake(t)
	f.root("quay.io/a/x:1", f.image("one"))
	f.root("quay.io/a/y:1", f.image("two"))
	over := func(k, v string) Mapping { return Mapping{Override: map[string]string{k: v}} }
	long := strings.Repeat("a", 200)
	tests := []struct {
		name    string
		mapping Mapping
		limits  target.Limits
		check   func(*testing.T, error)
	}{
		{"unused", over("quay.io/a/z:1", "b"), target.Limits{}, func(t *testing.T, err error) {
			if diff := cmp.Diff([]string{"quay.io/a/z:1"}, as[*OverrideError](t, err).Unused); diff != "" {
				t.Error(diff)
			}
		}},
		{"collision", over("quay.io/a/x:1", "a/y:1"), target.Limits{}, func(t *testing.T, err error) {
			c := as[*CollisionError](t, err)
			if !strings.Contains(c.Error(), "quay.io/a/x:1") || !strings.Contains(c.Error(), "quay.io/a/y:1") {
				t.Errorf("error does not list both: %v", c)
			}
		}},
		{"override of no name", over("quay.io/a/x:1", "A"), target.Limits{}, isNameError},
		{"suffix of no tag", Mapping{TagSuffix: "+x"}, target.Limits{}, func(*testing.T, error) {}},
		{"too long", over("quay.io/a/x:1", long), target.Limits{RepositoryMax: 100}, isNameError},
		{"too short", over("quay.io/a/x:1", "b"), target.Limits{RepositoryMin: 4}, isNameError},
		{"too flat", Mapping{}, target.Limits{SegmentsMin: 4}, isNameError},
		{"too deep", Mapping{}, target.Limits{SegmentsMax: 2}, isNameError},
		{"own rule", Mapping{}, target.Limits{CheckRepository: func(string) error { return errors.New("no") }}, isNameError},
		{"blob too large", Mapping{}, target.Limits{BlobMax: 3}, func(*testing.T, error) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := makePlan(t.Context(), f, Options{To: "r.test/p", Mapping: tt.mapping, Target: &fakeTarget{limits: tt.limits}})
			if err == nil {
				t.Fatal("accepted")
			}
			tt.check(t, err)
		})
	}
}

func isNameError(t *testing.T, err error) {
	t.Helper()
	if e := as[*NameError](t, err); e.Ref == "" || e.Repository == "" {
		t.Errorf("%+v", e)
	}
}

// An override by name; two items of one name would collide, which is said.
func TestMappingByName(t *testing.T) {
	f := newFake(t)
	f.root("quay.io/a/x:1", f.image("one"))
	f.entries[0].Item.Name = "controller"
	plan, err := makePlan(t.Context(), f, Options{To: "r.test", Mapping: Mapping{Override: map[string]string{"controller": "c:2"}}})
	if err != nil || plan.Items[0].Place.String() != "c:2" {
		t.Errorf("%+v, %v", plan, err)
	}
}
