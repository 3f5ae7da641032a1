package install

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/verify"
	"github.com/opencontainers/go-digest"
)

// fakeBundle is a carrier that holds nothing but what its fields say.
type fakeBundle struct {
	info    verify.Info
	entries []bundle.Entry
	blobs   map[digest.Digest][]byte
}

func (f *fakeBundle) Info() verify.Info { return f.info }

func (f *fakeBundle) Decision() verify.Decision {
	return verify.Decision{Policy: "key:SHA256:aa", Signers: []verify.Signer{{Name: "vendor", Role: "vendor", Fingerprint: "SHA256:aa"}}}
}

func (f *fakeBundle) Items() iter.Seq2[bundle.Entry, error] {
	return func(yield func(bundle.Entry, error) bool) {
		for _, e := range f.entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (f *fakeBundle) Manifest(d digest.Digest) ([]byte, bundle.Descriptor, bool) {
	raw, ok := f.blobs[d]
	return raw, bundle.Descriptor{Digest: d, Size: int64(len(raw))}, ok
}

func (f *fakeBundle) ReadBlob(_ context.Context, desc bundle.Descriptor) ([]byte, error) {
	raw, ok := f.blobs[desc.Digest]
	if !ok {
		return nil, errors.New("no such blob")
	}
	return raw, nil
}

// shop is a site with fake kinds whose behaviour a test turns.
type shop struct {
	t     *testing.T
	bun   *fakeBundle
	list  *manifests.Checklist
	opts  Options
	calls []string // names of what ran, in order
	fail  map[string]Finding
	err   map[string]error
	seen  map[string]map[string]any
	clock time.Time

	unseen bool // nobody can look whether an action was done
	hook   func(name string)
	made   map[string]bool // what was done and is still there
	does   map[string]bool // actions that say they changed something
	keeps  map[string][]Object
	place  string
	blind  error          // of Plan
	knows  map[string]any // outputs that Plan is certain of
	doc    []byte
}

func (s *shop) Codes() map[string][]string { return map[string][]string{"KET-01": {"name", "tool"}} }

func (s *shop) Run(ctx context.Context, in Input) (Result, error) { return s.call(ctx, "look ", in) }

func (s *shop) Apply(ctx context.Context, in Input) (Result, error) {
	name, _ := in.With["name"].(string)
	if in.Announce != nil {
		in.Announce(Change{Summary: "make " + name, Details: []string{fmt.Sprint(in.With["password"])}})
	}
	if err := in.Keeps(s.keeps[name]...); err != nil {
		return Result{}, err
	}
	res, err := s.call(ctx, "do ", in)
	res.Changed = s.does[name]
	s.made[name] = err == nil
	return res, err
}

func (s *shop) Plan(_ context.Context, in Input) (Change, error) {
	name, _ := in.With["name"].(string)
	s.seen["plan "+name] = in.With
	return Change{Summary: "make " + name, Details: []string{fmt.Sprint(in.With["password"])}, Nothing: s.made[name] && !s.unseen, Unseen: s.unseen, Outputs: s.knows}, s.blind
}

func (s *shop) Grounds(Input) any { return s.place }

func (s *shop) call(ctx context.Context, verb string, in Input) (Result, error) {
	name, _ := in.With["name"].(string)
	s.calls = append(s.calls, verb+name)
	s.seen[verb+name] = in.With
	if s.hook != nil {
		s.hook(name)
	}
	var res Result
	if out, ok := in.With["outputs"].(map[string]any); ok {
		res.Outputs = maps.Clone(out)
	}
	if f, ok := s.fail[name]; ok {
		res.Findings = append(res.Findings, f)
	}
	return res, errors.Join(s.err[name], ctx.Err())
}

func newShop(t *testing.T) *shop {
	t.Helper()
	data, err := os.ReadFile("testdata/brewery.yaml")
	if err != nil {
		t.Fatal(err)
	}
	list, err := manifests.ParseChecklist("brewery.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{
		t: t, list: list, doc: data, fail: make(map[string]Finding), err: make(map[string]error), seen: make(map[string]map[string]any), made: make(map[string]bool), does: make(map[string]bool),
		clock: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC),
		bun:   &fakeBundle{info: verify.Info{Digest: digest.FromString("bundle"), Info: bundle.Info{Product: "brewery", Version: "v1", Release: 3}}},
	}
	s.opts = Options{
		Site: &manifests.Site{Name: "cellar", Platform: "onprem", Airgap: "isolated", Inputs: map[string]any{
			"kettle.name": "kettle.example.internal", "cellar.password": "env:CELLAR_PASSWORD",
		}},
		SiteDir: t.TempDir(),
		State:   filepath.Join(t.TempDir(), "state"),
		Probes:  map[string]Probe{"look": s},
		Actions: map[string]Action{"change": s},
		Secret:  func(string) ([]byte, error) { return []byte("hunter2-and-more"), nil },
		Now:     func() time.Time { s.clock = s.clock.Add(time.Second); return s.clock },
		Actor:   "ops",
	}
	return s
}

func (s *shop) run() *Report {
	s.t.Helper()
	rep, err := s.try(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return rep
}

func (s *shop) try(ctx context.Context) (*Report, error) {
	s.calls = nil
	e, err := newEngine(s.bun, s.list, s.opts)
	if err != nil {
		return nil, err
	}
	e.parallel = 1 // in the checklist's order, so that tests can compare
	e.document, e.source = s.doc, digest.FromBytes(s.doc).String()
	return e.Run(ctx)
}

func states(rep *Report) map[string]State {
	out := make(map[string]State)
	for _, ph := range rep.Phases {
		for _, i := range ph.Items {
			out[i.ID] = i.State
		}
	}
	return out
}

func item(t *testing.T, rep *Report, id string) ItemReport {
	t.Helper()
	for _, ph := range rep.Phases {
		for _, i := range ph.Items {
			if i.ID == id {
				return i
			}
		}
	}
	t.Fatalf("no item %s in the report", id)
	return ItemReport{}
}

func wantStates(t *testing.T, rep *Report, want map[string]State) {
	t.Helper()
	got := states(rep)
	for id, w := range want {
		if got[id] != w {
			t.Errorf("%s is %s (%s), want %s", id, got[id], item(t, rep, id).Reason, w)
		}
	}
}
