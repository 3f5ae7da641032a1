package install

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/airlock-project/airlock/manifests"
)

// meeting is a probe and an action that ends only when as many as size are in
// it at once, or when nobody came for a while.
type meeting struct {
	size int

	mu    sync.Mutex
	in    int
	full  chan struct{}
	order []string
}

func (m *meeting) attend(ctx context.Context, in Input) (Result, error) {
	name, _ := in.With["name"].(string)
	m.mu.Lock()
	m.order = append(m.order, name)
	if m.in++; m.in == m.size {
		close(m.full)
	}
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	select {
	case <-m.full:
		return Result{}, nil
	case <-ctx.Done():
		return Result{}, errors.New("it was alone")
	}
}

func (m *meeting) Run(ctx context.Context, in Input) (Result, error)   { return m.attend(ctx, in) }
func (m *meeting) Apply(ctx context.Context, in Input) (Result, error) { return m.attend(ctx, in) }
func (m *meeting) Plan(context.Context, Input) (Change, error)         { return Change{}, nil }

func meet(id, kind string, needs ...string) manifests.Item {
	s := []manifests.Step{{ID: "meet", Run: "meet", With: map[string]any{"name": id}}}
	it := manifests.Item{ID: id, Phase: "p1", Kind: kind, Needs: needs}
	if it.Steps = s; kind == manifests.ItemCheck {
		it.Steps, it.Probes = nil, s
	}
	return it
}

func runMeeting(t *testing.T, m *meeting, keepGoing bool, items ...manifests.Item) *Report {
	t.Helper()
	s := newShop(t)
	s.list.Items, s.list.Phases, s.list.Inputs = items, s.list.Phases[:1], nil
	s.opts.Site.Inputs, s.opts.KeepGoing = nil, keepGoing
	m.full = make(chan struct{})
	s.opts.Probes, s.opts.Actions = map[string]Probe{"meet": m}, map[string]Action{"meet": m}
	e, err := newEngine(s.bun, s.list, s.opts)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := e.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyState(s.opts.State, nil); err != nil {
		t.Error(err)
	}
	return rep
}

func TestIndependentItemsRunSideBySide(t *testing.T) {
	t.Parallel()
	m := &meeting{size: 3}
	rep := runMeeting(t, m, false, meet("a", manifests.ItemCheck), meet("b", manifests.ItemCheck), meet("c", manifests.ItemCheck))
	wantStates(t, rep, map[string]State{"a": StatePass, "b": StatePass, "c": StatePass})
}

func TestActionsRunSideBySideWithKeepGoing(t *testing.T) {
	t.Parallel()
	m := &meeting{size: 2}
	rep := runMeeting(t, m, true, meet("a", manifests.ItemAction), meet("b", manifests.ItemAction))
	wantStates(t, rep, map[string]State{"a": StatePass, "b": StatePass})
}

// TestActionsWaitForWhatIsBefore: otherwise whether an action starts would
// depend on how fast an earlier item fails.
func TestActionsWaitForWhatIsBefore(t *testing.T) {
	t.Parallel()
	m := &meeting{size: 1}
	rep := runMeeting(t, m, false, meet("a", manifests.ItemCheck), meet("b", manifests.ItemAction), meet("c", manifests.ItemAction, "a"), meet("d", manifests.ItemCheck, "c"))
	wantStates(t, rep, map[string]State{"a": StatePass, "b": StatePass, "c": StatePass, "d": StatePass})
	if want := []string{"a", "b", "c", "d"}; !slices.Equal(m.order, want) {
		t.Errorf("order %v, want %v", m.order, want)
	}
}

// TestRetry: a step that fails is tried again, and only its last try counts.
func TestRetry(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	i := slices.IndexFunc(s.list.Items, func(it manifests.Item) bool { return it.ID == "clean-kettle" })
	s.list.Items[i].Probes[0].Retry = &manifests.Retry{Times: 2, Backoff: "1ms"}
	tries := 0
	s.fail["kettle.example.internal"] = Finding{Code: "KET-01", Fields: map[string]string{"name": "k", "tool": "brush"}}
	s.hook = func(name string) {
		if name != "kettle.example.internal" {
			return
		}
		if tries++; tries == 3 {
			delete(s.fail, name)
		}
	}
	rep := s.run()
	if got := item(t, rep, "clean-kettle"); got.State != StatePass || len(got.Findings) != 0 || tries != 3 {
		t.Errorf("%s after %d tries with %v, want pass after 3", got.State, tries, got.Findings)
	}
	s.fail["kettle.example.internal"], tries = Finding{Code: "KET-01", Fields: map[string]string{"name": "k", "tool": "brush"}}, 10
	if got := item(t, s.run(), "clean-kettle"); got.State != StateFail || tries != 13 {
		t.Errorf("%s after %d tries, want fail after 13", got.State, tries)
	}
}
