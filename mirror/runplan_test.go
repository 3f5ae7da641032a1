package mirror

import (
	"bytes"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// saved is a plan that went through a file.
func saved(t *testing.T, f *fakeBundle, o Options) *Document {
	t.Helper()
	d, err := dryRun(t.Context(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ReadDocument(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, back); diff != "" {
		t.Errorf("read back (-was +is):\n%s", diff)
	}
	again, err := dryRun(t.Context(), f, o)
	if err != nil || !cmp.Equal(d, again) {
		t.Errorf("the same again is not the same: %v\n%s", err, cmp.Diff(d, again))
	}
	return back
}

// forPlan takes from the options what the plan has.
func forPlan(o Options) Options {
	o.To, o.Mapping = "", Mapping{}
	return o
}

func TestRunPlan(t *testing.T) {
	registries(t, func(t *testing.T, reg *registry) {
		f := newFake(t)
		signed(f)
		shared := f.layer(1, 3<<20)
		f.root("ghcr.io/b/y:1", f.image("y", shared))
		o := options(t, reg)
		o.Mapping = Mapping{Hosts: KeepHost, TagSuffix: "-r1"}
		d := saved(t, f, o)
		if d.Totals.Absent != 2 || d.Totals.Mounts == 0 || d.Items[1].Manifests != 6 {
			t.Errorf("plan %+v", d)
		}
		reg.requests()
		m, result, err := runPlan(t.Context(), f, d, forPlan(o))
		if err != nil || result.Pushed != 2 || len(m.Entries) != 2 {
			t.Fatalf("%+v, %v", result, err)
		}
		if result.Sent != d.Totals.Blobs || result.Bytes != d.Totals.Bytes || result.Reused != d.Totals.Mounts {
			t.Errorf("did %+v, planned %+v", result, d.Totals)
		}
		checkEstimate(t, d, reg)
		repo := reg.repository(t, "airlock/quay.io/jetstack/x")
		if _, err := repo.Resolve(t.Context(), "v1-r1"); err != nil {
			t.Error(err)
		}
		// All is as the plan wanted it: there is nothing left to do.
		if _, result, err = runPlan(t.Context(), f, d, forPlan(o)); err != nil || result.Unchanged != 2 || result.Sent != 0 {
			t.Errorf("the same again: %+v, %v", result, err)
		}
	})
}

// checkEstimate compares a plan's requests with those of the run. Asking for
// tags and for the referrers API comes on top, and so does keeping the fallback
// index where there is no such API.
func checkEstimate(t *testing.T, d *Document, reg *registry) {
	t.Helper()
	asks, fallback := 0, 0
	log := reg.requests()
	for _, r := range log {
		switch {
		case r.method == http.MethodGet:
			asks++
		case r.method == http.MethodPut && fallbackTag.MatchString(r.path):
			fallback++
		}
	}
	for _, it := range d.Items {
		asks += len(it.Tags)
	}
	if got := len(log) - asks - fallback; got != d.Totals.Requests {
		t.Errorf("%d requests, planned %d: %v", got, d.Totals.Requests, log)
	}
}

var fallbackTag = regexp.MustCompile(`/manifests/sha256-[0-9a-f]{64}$`)

func TestRunPlanMoved(t *testing.T) {
	type world struct {
		f   *fakeBundle
		reg *registry
		ft  *fakeTarget
		d   *Document
		o   *Options
	}
	push := func(t *testing.T, w *world, ref, content string) {
		g := newFake(t)
		g.root(ref, g.image(content))
		if _, _, err := run(t.Context(), g, options(t, w.reg)); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name   string
		change func(*testing.T, *world)
		want   string
	}{
		{"other bundle", func(_ *testing.T, w *world) { w.d.Bundle = digest.FromString("other") }, "is for the bundle"},
		{"other kind of registry", func(_ *testing.T, w *world) { w.o.Target = nil }, `kind "fake", not "oci"`},
		{"tag appeared", func(t *testing.T, w *world) { push(t, w, "quay.io/a/x:1", "other") }, "tag airlock/a/x:1 was absent"},
		{"repository vanished", func(_ *testing.T, w *world) {
			w.ft.state.Repositories = map[string]target.Presence{"airlock/a/x": target.Missing}
		}, "repository airlock/a/x was present and is missing"},
		{"something to make", func(_ *testing.T, w *world) {
			w.ft.state.Actions = []target.Action{{Kind: "create-project", Name: "airlock"}}
		}, "made first"},
		{"signature not in the plan", func(_ *testing.T, w *world) {
			w.d.Blobs = w.d.Blobs[:len(w.d.Blobs)-1]
		}, "more blobs have to be sent"},
		{"other shard", func(_ *testing.T, w *world) { w.d.Shard = "0/2" }, "for shard 0/2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{f: newFake(t), reg: newOlareg(t, true), ft: &fakeTarget{}}
			w.ft.state.Repositories = map[string]target.Presence{"airlock/a/x": target.Present}
			same := w.f.image("same")
			w.f.root("quay.io/a/same:1", same)
			o := options(t, w.reg)
			w.o = &o
			o.Target = w.ft
			if _, _, err := run(t.Context(), w.f, o); err != nil {
				t.Fatal(err)
			}
			w.f.root("quay.io/a/x:1", w.f.image("x", w.f.layer(1, 100)))
			w.f.entry(bundle.KindImage, "", bundle.RoleReferrer, w.f.artifact("application/vnd.test.signature", "s", same))
			w.d = saved(t, w.f, o)
			tt.change(t, w)
			w.reg.requests()
			_, _, err := runPlan(t.Context(), w.f, w.d, forPlan(o))
			if moved := as[*MovedError](t, err); !strings.Contains(err.Error(), tt.want) || len(moved.Changes) != 1 {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			for _, r := range w.reg.requests() {
				if r.writes() {
					t.Errorf("%s was sent", r)
				}
			}
			if len(w.ft.prepared) != 0 {
				t.Error("something was made")
			}
		})
	}
}

func TestReadDocumentRefuses(t *testing.T) {
	good := `{"apiVersion":"airlock/v1","kind":"MirrorPlan","bundle":"` + digest.FromString("b").String() + `","target":"r.test"}`
	if _, err := ReadDocument(strings.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{
		"empty":         "",
		"unknown field": strings.Replace(good, `"target"`, `"traget"`, 1),
		"other kind":    strings.Replace(good, "MirrorPlan", "Lock", 1),
		"other version": strings.Replace(good, "airlock/v1", "airlock/v9", 1),
		"no digest":     strings.Replace(good, "sha256:", "md5:", 1),
		"trailing":      good + good,
		"negative":      strings.Replace(good, `"target"`, `"totals":{"bytes":-1},"target"`, 1),
		"cut":           good[:len(good)-1],
	} {
		if _, err := ReadDocument(strings.NewReader(s)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzReadDocument(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"airlock/v1","kind":"MirrorPlan","bundle":"sha256:0000000000000000000000000000000000000000000000000000000000000000"}`))
	f.Add([]byte(`{"apiVersion":"airlock/v1","kind":"MirrorPlan","items":[{"tags":[{"tag":"x"}]}]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := ReadDocument(bytes.NewReader(raw))
		if err != nil {
			return
		}
		again, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ReadDocument(bytes.NewReader(again))
		if err != nil {
			t.Fatalf("own output is refused: %v", err)
		}
		if err := moved(d, back); err != nil {
			t.Errorf("a plan moved by being written: %v", err)
		}
	})
}

// A run that was cut short is carried on by the plan it carries out: what is as
// the plan wanted it has not moved.
func TestRunPlanGoesOn(t *testing.T) {
	registries(t, func(t *testing.T, reg *registry) {
		f := newFake(t)
		signed(f)
		f.root("ghcr.io/b/y:1", f.image("y", f.layer(1, 3<<20)))
		f.root("ghcr.io/b/z:1", f.image("z", f.layer(1, 3<<20)))
		o := options(t, reg)
		ft := &fakeTarget{state: target.State{
			Repositories: map[string]target.Presence{"airlock/b/y": target.Missing},
			Actions:      []target.Action{{Kind: "create-repository", Name: "airlock/b/y"}},
		}}
		o.Target = ft
		d := saved(t, f, o)
		reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/b/z/manifests/1") {
				answerWith(http.StatusForbidden, "DENIED")(w, r)
				return true
			}
			return false
		})
		_, _, err := runPlan(t.Context(), f, d, forPlan(o))
		if p := as[*PartialError](t, err); p.Done != 2 {
			t.Fatalf("done %d, want 2", p.Done)
		}
		reg.setFault(nil)
		ft.state = target.State{Repositories: map[string]target.Presence{"airlock/b/y": target.Present}}
		if _, result, err := runPlan(t.Context(), f, d, forPlan(o)); err != nil || result.Pushed != 1 || result.Unchanged != 2 {
			t.Errorf("%+v, %v", result, err)
		}
	})
}

// A plan that says itself that it cannot be carried out is not.
func TestRunPlanRefusesFatalNotices(t *testing.T) {
	reg := newOlareg(t, true)
	f := newFake(t)
	f.root("quay.io/a/x:1", f.image("x"))
	o := options(t, reg)
	d := saved(t, f, o)
	d.Notices = []target.Notice{{Code: target.CleanUp, Text: "old"}, {Code: target.QuotaExceeded, Fatal: true, Text: "full"}}
	reg.requests()
	_, _, err := runPlan(t.Context(), f, d, forPlan(o))
	if e := as[*RefusedError](t, err); len(e.Notices) != 1 || len(reg.requests()) != 0 {
		t.Errorf("%+v", e)
	}
}

func TestMovedErrorIsBounded(t *testing.T) {
	var list []string
	for i := range 40 {
		list = append(list, "change "+strconv.Itoa(i))
	}
	s := (&MovedError{Changes: list}).Error()
	if !strings.Contains(s, "change 4;") || !strings.Contains(s, "and 35 more") || strings.Contains(s, "change 5") {
		t.Error(s)
	}
}
