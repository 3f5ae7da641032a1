package mirror

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/mirror/target/oci"
	"github.com/google/go-cmp/cmp"
)

var (
	_ Target = oci.Target{}
	_ Target = (*fakeTarget)(nil)
)

// fakeTarget says what a test wants an adapter to say.
type fakeTarget struct {
	plain
	limits target.Limits
	state  target.State

	mu       sync.Mutex
	asked    []target.Request
	prepared []target.Action
	fail     error
}

func (f *fakeTarget) Kind() string          { return "fake" }
func (f *fakeTarget) Limits() target.Limits { return f.limits }

func (f *fakeTarget) Inspect(_ context.Context, r target.Request) (target.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r)
	return f.state, nil
}

func (f *fakeTarget) Prepare(_ context.Context, list []target.Action) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.prepared = append(f.prepared, list...)
	return f.fail
}

func TestTargetIsAskedAndPrepared(t *testing.T) {
	reg := newOlareg(t, true)
	f := newFake(t)
	img := f.image("x", f.layer(1, 1000))
	f.root("quay.io/a/x:1", img)
	f.root("quay.io/a/x:2", img)
	create := target.Action{Kind: "create-repository", Name: "airlock/a/x"}
	ft := &fakeTarget{state: target.State{
		Repositories: map[string]target.Presence{"airlock/a/x": target.Missing}, Actions: []target.Action{create},
		Notices: []target.Notice{{Code: target.CleanUp, Text: "old tags go"}},
	}}
	o := options(t, reg)
	o.Target = ft
	if _, _, err := run(t.Context(), f, o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]target.Action{create}, ft.prepared); diff != "" {
		t.Errorf("prepared (-want +got):\n%s", diff)
	}
	need := ft.asked[0].Repositories[0]
	if need.Name != "airlock/a/x" || len(need.Tags) != 2 || need.Manifests != 2 || need.Bytes < 2000 {
		t.Errorf("asked for %+v", need)
	}
	// A repository that is not there is not asked for tags: Harbor would say 401.
	if first := reg.requests()[0]; first.method != "POST" {
		t.Errorf("first request is %s", first)
	}
}

func TestTargetRefuses(t *testing.T) {
	fatal := target.Notice{Code: target.QuotaExceeded, Fatal: true, Repository: "airlock/a/x", Text: "5 GB are missing", Remedy: "ask for more"}
	for name, tt := range map[string]struct {
		target *fakeTarget
		check  func(error) bool
	}{
		"fatal notice": {
			&fakeTarget{state: target.State{Notices: []target.Notice{{Code: target.CleanUp, Text: "x"}, fatal}}},
			func(err error) bool {
				e, ok := errors.AsType[*RefusedError](err)
				return ok && cmp.Equal(e.Notices, []target.Notice{fatal}) && strings.Contains(err.Error(), "5 GB")
			},
		},
		"not prepared": {
			&fakeTarget{fail: errors.ErrUnsupported, state: target.State{Actions: []target.Action{{Kind: "create-project", Name: "airlock"}}}},
			func(err error) bool { return errors.Is(err, errors.ErrUnsupported) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			reg := newOlareg(t, true)
			f := newFake(t)
			f.root("quay.io/a/x:1", f.image("x"))
			o := options(t, reg)
			o.Target = tt.target
			_, _, err := run(t.Context(), f, o)
			if !tt.check(err) {
				t.Errorf("error %v", err)
			}
			for _, r := range reg.requests() {
				if r.method != "HEAD" {
					t.Errorf("%s was sent", r)
				}
			}
		})
	}
}

// Where the registry cannot mount between projects, or at all, none is asked for.
func TestCrossMount(t *testing.T) {
	tests := []struct {
		mount  target.Mount
		mounts []string // from=
		sent   int
	}{
		{target.MountTry, []string{"p/a", "p/a", "q/a"}, 1},
		{target.MountProject, []string{"p/a", "p/a", "q/a"}, 2},
		{target.MountNever, nil, 3},
	}
	for _, tt := range tests {
		t.Run(string(tt.mount), func(t *testing.T) {
			reg := newOlareg(t, true)
			f := newFake(t)
			img := f.image("x")
			for _, ref := range []string{"p/a:1", "p/b:1", "q/a:1"} {
				f.root(ref, img)
			}
			o := options(t, reg)
			o.To, o.Target = reg.host, &fakeTarget{state: target.State{CrossMount: tt.mount}}
			_, result, err := run(t.Context(), f, o)
			if err != nil || result.Sent != tt.sent {
				t.Fatalf("%+v, %v", result, err)
			}
			n := 0
			for _, r := range reg.requests() {
				if strings.Contains(r.query, "mount=") {
					n++
				}
			}
			if n != len(tt.mounts) {
				t.Errorf("%d mounts were asked for, want %d", n, len(tt.mounts))
			}
		})
	}
}

func TestOCITargetPrepares(t *testing.T) {
	if err := (oci.Target{}).Prepare(t.Context(), nil); err != nil {
		t.Error(err)
	}
	err := (oci.Target{}).Prepare(t.Context(), []target.Action{{Kind: "create-repository", Name: "x"}})
	if p := as[*target.Problem](t, err); p.Code != target.RepositoryMissing || p.Remedy == "" {
		t.Errorf("%+v", p)
	}
}

// onPush says that a registry makes a repository when something is pushed.
func onPush(repository string) *fakeTarget {
	return &fakeTarget{state: target.State{Repositories: map[string]target.Presence{repository: target.OnPush}}}
}
