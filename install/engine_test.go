package install

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/manifests"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

func TestRun(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	rep := s.run()
	wantStates(t, rep, map[string]State{
		"clean-kettle": StatePass, "weigh-hops": StatePass, "brew": StatePass, "mash": StatePass, "boil": StatePass,
		"cool": StateSkipped, "taste": StateWaiting, "export": StateSkipped,
	})
	if rep.Status != StatusWaiting {
		t.Errorf("status %s, want waiting", rep.Status)
	}
	if d := cmp.Diff([]string{"look kettle.example.internal", "look hops", "do mash", "look mash", "do boil"}, s.calls); d != "" {
		t.Error(d)
	}
	want := map[string]any{"name": "boil", "password": "hunter2-and-more", "gravity": "g12"}
	if d := cmp.Diff(want, s.seen["do boil"]); d != "" {
		t.Error(d)
	}
	if got := s.seen["look mash"]["seen"]; got != int64(12) {
		t.Errorf("the item's own output reached its probe as %#v", got)
	}
	if got := item(t, rep, "taste").Reason; got != "brewer has to state: I drank from kettle.example.internal" {
		t.Errorf("reason %q", got)
	}
	if got := item(t, rep, "cool").Reason; got != "condition is false: in.kettle.size > 100" {
		t.Errorf("reason %q", got)
	}
	if got := item(t, rep, "export").Reason; got != "platform onprem is not one of eks" {
		t.Errorf("reason %q", got)
	}
	if _, err := VerifyState(s.opts.State, nil); err != nil {
		t.Error(err)
	}
}

func TestFailureBlocksDependantsOnly(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.fail["kettle.example.internal"] = Finding{Code: "KET-01", Fields: map[string]string{"name": "kettle", "tool": "a brush"}, Detail: "mould"}
	rep := s.run()
	wantStates(t, rep, map[string]State{"clean-kettle": StateFail, "weigh-hops": StatePass, "mash": StateBlocked, "boil": StateBlocked, "brew": StateBlocked, "taste": StateBlocked})
	if rep.Status != StatusFailed {
		t.Errorf("status %s", rep.Status)
	}
	f := item(t, rep, "clean-kettle").Findings[0]
	want := FindingReport{Step: "look", Code: "KET-01", Severity: SeverityFail, Cause: "kettle kettle is dirty", Fix: "scrub kettle with a brush", Detail: "mould"}
	if d := cmp.Diff(want, f); d != "" {
		t.Error(d)
	}
	if rep.Left[0].Item != "clean-kettle" || rep.Left[0].What != "KET-01: scrub kettle with a brush" {
		t.Errorf("left %+v", rep.Left[0])
	}
}

// TestSaidOnce: two probes of one item that see the same say it once.
func TestSaidOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	clean := &s.list.Items[0]
	again := clean.Probes[0]
	again.ID, again.Severity = "look-again", "warn"
	third := clean.Probes[0]
	third.ID = "look-once-more"
	clean.Probes = append(clean.Probes, again, third)
	s.fail["kettle.example.internal"] = Finding{Code: "KET-01", Fields: map[string]string{"name": "kettle", "tool": "a brush"}, Detail: "mould"}
	var got []string
	for _, f := range item(t, s.run(), "clean-kettle").Findings {
		got = append(got, f.Step+" "+string(f.Severity))
	}
	if want := []string{"look fail", "look-again warn"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestKeepGoingStartsIndependentActions(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		s := newShop(t)
		mash := slices.IndexFunc(s.list.Items, func(i manifests.Item) bool { return i.ID == "mash" })
		s.list.Items[mash].Needs = nil
		s.err["kettle.example.internal"] = errors.New("no light")
		s.opts.KeepGoing = keep
		want := StateBlocked
		if keep {
			want = StatePass
		}
		wantStates(t, s.run(), map[string]State{"clean-kettle": StateFail, "weigh-hops": StatePass, "mash": want})
	}
}

// TestLaterFailureStopsNothing: an action does not wait for what a later phase
// finds.
func TestLaterFailureStopsNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	at := func(id string) *manifests.Item {
		return &s.list.Items[slices.IndexFunc(s.list.Items, func(i manifests.Item) bool { return i.ID == id })]
	}
	at("clean-kettle").Phase, at("mash").Needs = "p3", nil
	s.err["kettle.example.internal"] = errors.New("no light")
	wantStates(t, s.run(), map[string]State{"clean-kettle": StateFail, "mash": StatePass})
}

func TestSeverities(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		finding, step string
		want          State
		status        Status
	}{
		{"fail", "", StateFail, StatusFailed},
		{"", "", StateFail, StatusFailed},
		{"warn", "fail", StateWarn, StatusWaiting},
		{"fail", "warn", StateWarn, StatusWaiting},
		{"fail", "info", StatePass, StatusWaiting},
		{"info", "warn", StatePass, StatusWaiting},
	} {
		s := newShop(t)
		s.list.Items[0].Probes[0].Severity = c.step
		s.fail["kettle.example.internal"] = Finding{Severity: Severity(c.finding), Detail: "x"}
		rep := s.run()
		if got := states(rep)["clean-kettle"]; got != c.want || rep.Status != c.status {
			t.Errorf("%q under step %q: %s, %s; want %s, %s", c.finding, c.step, got, rep.Status, c.want, c.status)
		}
	}
}

func TestOptionalFailureIsPartial(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.fail["hops"] = Finding{Detail: "too light"}
	s.opts.Phases = "1-2"
	if rep := s.run(); rep.Status != StatusPartial {
		t.Errorf("status %s", rep.Status)
	}
}

func TestUnavailableIsNeverPassed(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	delete(s.opts.Actions, "change")
	rep := s.run()
	wantStates(t, rep, map[string]State{"clean-kettle": StatePass, "mash": StateUnavailable, "boil": StateUnavailable, "brew": StateUnavailable, "taste": StateBlocked})
	if rep.Status != StatusPartial {
		t.Errorf("status %s", rep.Status)
	}
	if got := item(t, rep, "mash").Reason; got != "this version of Airlock has no step change" {
		t.Errorf("reason %q", got)
	}
}

func TestSelection(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.opts.Phases = "2"
	wantStates(t, s.run(), map[string]State{"clean-kettle": StatePending, "mash": StateBlocked})
	s.opts.Phases, s.opts.Items = "", []string{"clean-kettle"}
	if rep := s.run(); rep.Status != StatusSoFar || !strings.Contains(rep.Text(), "Status: selected items done; 3 items left") {
		t.Errorf("status %s:\n%s", rep.Status, rep.Text())
	}
	s.opts.Phases, s.opts.Items = "1", nil
	if rep := s.run(); rep.Status != StatusSoFar {
		t.Errorf("a phase ends as %s, an item as %s", rep.Status, StatusSoFar)
	}
	s.opts.Phases, s.opts.Items = "", []string{"brew"}
	rep := s.run()
	wantStates(t, rep, map[string]State{"clean-kettle": StatePass, "mash": StatePass, "boil": StatePass, "taste": StatePending})
	if rep.Status != StatusSoFar || !strings.Contains(rep.Text(), "selected items done; 1 item left") {
		t.Errorf("status %s:\n%s", rep.Status, rep.Text())
	}
	for _, o := range []Options{{Phases: "9"}, {Phases: "2-1"}, {Phases: "x"}, {Items: []string{"nope"}}} {
		s.opts.Phases, s.opts.Items = o.Phases, o.Items
		_, err := s.try(t.Context())
		if _, ok := errors.AsType[*SelectionError](err); !ok {
			t.Errorf("%+v: error %v, want *SelectionError", o, err)
		}
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	recipe := filepath.Join(t.TempDir(), "recipe")
	if err := os.WriteFile(recipe, []byte("hops"), 0o600); err != nil {
		t.Fatal(err)
	}
	everything := []string{"look kettle.example.internal", "look hops", "do mash", "look mash", "do boil"}
	for name, c := range map[string]struct {
		change func(s *shop)
		want   []string
	}{
		"nothing changed": {func(*shop) {}, nil},
		"an input":        {func(s *shop) { s.opts.Site.Inputs["kettle.size"] = int64(11) }, []string{"look kettle.example.internal", "do mash", "look mash", "do boil"}},
		"another bundle":  {func(s *shop) { s.bun.info.Digest = digest.FromString("other") }, everything},
		"the definition": {func(s *shop) {
			for i := range s.list.Items {
				if s.list.Items[i].ID == "boil" {
					s.list.Items[i].Steps[0].With["more"] = "heat"
				}
			}
		}, []string{"do boil"}},
		"a secret": {func(s *shop) { s.opts.Secret = func(string) ([]byte, error) { return []byte("other-password"), nil } }, []string{"do boil"}},
		"a file's content": {func(s *shop) {
			if err := os.WriteFile(recipe, []byte("more hops"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"do mash", "look mash", "do boil"}},
		"too old":         {func(s *shop) { s.clock = s.clock.Add(2 * time.Hour) }, []string{"look kettle.example.internal", "do mash", "look mash", "do boil"}},
		"the clock back":  {func(s *shop) { s.clock = s.clock.Add(-24 * time.Hour) }, []string{"look kettle.example.internal", "do mash", "look mash", "do boil"}},
		"work undone":     {func(s *shop) { s.made["boil"] = false }, []string{"do boil"}},
		"earlier undone":  {func(s *shop) { s.made["mash"] = false }, []string{"do mash", "look mash", "do boil"}},
		"not to be seen":  {func(s *shop) { s.blind = errors.New("no light") }, []string{"do mash", "look mash", "do boil"}},
		"another place":   {func(s *shop) { s.place = "attic" }, everything},
		"without resume":  {func(s *shop) { s.opts.Resume = false }, everything},
		"an unused input": {func(s *shop) { s.opts.Site.Inputs["hops.kind"] = "saaz" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			for i := range s.list.Items { // a secret output is not kept, which is another test
				delete(s.list.Items[i].Outputs, "mash.key")
			}
			s.opts.Site.Inputs["recipe"] = "file:" + recipe
			first := s.run()
			s.opts.Resume = true
			c.change(s)
			second := s.run()
			if d := cmp.Diff(c.want, s.calls); d != "" {
				t.Error(d)
			}
			if same := first.RunID == second.RunID; same != s.opts.Resume {
				t.Errorf("run ids %s and %s", first.RunID, second.RunID)
			}
			if _, err := VerifyState(s.opts.State, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSecretOutputIsMadeAgain(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.run()
	s.opts.Resume = true
	s.run()
	if d := cmp.Diff([]string{"do mash", "look mash", "do boil"}, s.calls); d != "" {
		t.Error(d)
	}
}

func TestInterruptedRunGoesOn(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the lamp went out")
	s.hook = func(name string) {
		if name == "boil" {
			cancel(why)
		}
	}
	rep, err := s.try(ctx)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, why) || rep == nil || !rep.Stopped {
		t.Fatalf("report %v, error %v", rep, err)
	}
	if e, ok := errors.AsType[*InterruptedError](err); !ok || e.Item != "boil" || rep.Interrupted != "boil" {
		t.Errorf("%+v, %s: want boil", e, rep.Interrupted)
	}
	if text := rep.Text(); !strings.Contains(text, "the run was interrupted while boil was running") {
		t.Error(text)
	}
	if again, err := ReadReport(s.opts.State); err != nil || again.Text() != rep.Text() {
		t.Errorf("read back: %v, %v", again, err)
	}
	wantStates(t, rep, map[string]State{"mash": StatePass, "boil": StateRunning, "taste": StatePending})
	s.hook, s.opts.Resume = nil, true
	rep = s.run()
	wantStates(t, rep, map[string]State{"boil": StatePass, "taste": StateWaiting})
	if got := item(t, rep, "boil").Attempt; got != 2 {
		t.Errorf("attempt %d", got)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.list.Items[0].Probes[0].Timeout = "10ms"
	s.hook = func(name string) {
		if strings.HasPrefix(name, "kettle") {
			time.Sleep(30 * time.Millisecond)
		}
	}
	got := item(t, s.run(), "clean-kettle")
	if got.State != StateFail || !strings.Contains(got.Findings[0].Detail, "no end after 10ms") {
		t.Errorf("%+v", got)
	}
}

func TestStepCondition(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.list.Items[0].Probes[0].When = "in.kettle.size > 100"
	rep := s.run()
	wantStates(t, rep, map[string]State{"clean-kettle": StatePass})
	if slices.Contains(s.calls, "look kettle.example.internal") {
		t.Error("the probe ran")
	}
}

func TestOutputsAreChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		outputs map[string]any
		want    string
	}{
		"missing":    {map[string]any{"mash.gravity": 12}, "output mash.key was not produced"},
		"wrong type": {map[string]any{"mash.gravity": "12", "mash.key": "k"}, "output mash.gravity: want a whole number, got text"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			for i := range s.list.Items {
				if s.list.Items[i].ID == "mash" {
					s.list.Items[i].Steps[0].With["outputs"] = c.outputs
				}
			}
			got := item(t, s.run(), "mash")
			if got.State != StateFail || !strings.Contains(got.Findings[len(got.Findings)-1].Detail, c.want) {
				t.Errorf("%+v, want %q", got.Findings, c.want)
			}
		})
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.opts.DryRun = true
	rep := s.run()
	wantStates(t, rep, map[string]State{"clean-kettle": StatePass, "mash": StatePlanned, "boil": StatePlanned, "cool": StateSkipped, "taste": StatePending})
	if text := rep.Text(); rep.Status != StatusPlanned || !strings.Contains(text, "Status: planned") {
		t.Errorf("status %s:\n%s", rep.Status, text)
	}
	if got := item(t, rep, "boil").Plan[0]; got.Summary != "make boil" || got.Details[0] != "[secret cellar.password]" {
		t.Errorf("plan %+v", got)
	}
	if slices.ContainsFunc(s.calls, func(c string) bool { return strings.HasPrefix(c, "do ") }) {
		t.Errorf("a dry run did %v", s.calls)
	}
	if _, err := os.Stat(s.opts.State); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dry run made the state directory: %v", err)
	}
	s.opts.DryRun = false
	s.run()
	before := dirSum(t, s.opts.State)
	s.opts.DryRun = true
	s.run()
	if d := cmp.Diff(before, dirSum(t, s.opts.State)); d != "" {
		t.Error(d)
	}
}

// TestDryRunExpects plans later items with what an item will give now, not with
// what it gave when it ran last, and never with a secret.
func TestDryRunExpects(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.run()
	s.opts.DryRun = true
	for name, c := range map[string]struct {
		knows map[string]any
		want  string
	}{
		"nothing certain": {nil, "g12"},
		"certain":         {map[string]any{"mash.gravity": int64(15), "undeclared": "x"}, "g15"},
	} {
		s.knows = c.knows
		s.run()
		if got := s.seen["plan boil"]["gravity"]; got != c.want {
			t.Errorf("%s: planned with %v, want %s", name, got, c.want)
		}
	}
}

// TestDryRunOfOne: what an item needs counts for a plan of it alone as it does for
// a run of it: not if it rests on something else now.
func TestDryRunOfOne(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.run()
	s.opts.Items = []string{"boil"}
	s.opts.DryRun = true
	wantStates(t, s.run(), map[string]State{"mash": StatePass, "boil": StatePlanned})
	s.opts.Site.Inputs["recipe"] = "another.txt"
	for _, s.opts.DryRun = range []bool{true, false} {
		rep := s.run()
		wantStates(t, rep, map[string]State{"mash": StateStale, "boil": StateBlocked})
		if got := item(t, rep, "boil"); !strings.Contains(got.Reason, "mash (stale)") || len(got.Plan) > 0 {
			t.Errorf("dry run %v: %+v", s.opts.DryRun, got)
		}
	}
}

func dirSum(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		out[path] = sumOf(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestMismatch(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *shop){
		"product":  func(s *shop) { s.bun.info.Product = "bakery" },
		"platform": func(s *shop) { s.opts.Site.Platform = "gke" },
		"audience": func(s *shop) { s.bun.info.Audience = []string{"attic"} },
		"state": func(s *shop) {
			s.run()
			s.opts.Site.Name = "attic"
		},
	} {
		s := newShop(t)
		change(s)
		_, err := s.try(t.Context())
		if _, ok := errors.AsType[*MismatchError](err); !ok {
			t.Errorf("%s: error %v, want *MismatchError", name, err)
		}
	}
}

// TestUnseenStands: what nobody can see is done again only where what it rests
// on has changed.
func TestUnseenStands(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.unseen = true
	delete(s.list.Items[3].Outputs, "mash.key") // of the secret one is made again
	s.list.Items[3].Steps[0].With["outputs"] = map[string]any{"mash.gravity": int64(12)}
	s.run()
	s.opts.Resume = true
	s.run()
	if slices.Contains(s.calls, "do boil") || slices.Contains(s.calls, "do mash") {
		t.Errorf("nothing has changed, and it did %v", s.calls)
	}
	s.opts.Secret = func(string) ([]byte, error) { return []byte("another password"), nil }
	s.run()
	if !slices.Contains(s.calls, "do boil") {
		t.Errorf("its password has changed, and it did %v", s.calls)
	}
}

// TestAnnounced shows what a step is about to change before it does, without
// secrets.
func TestAnnounced(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	var said []string
	s.opts.Listener = func(e Event) {
		if e.Op == "step-planned" {
			said = append(said, e.Item+": "+e.Plan.Summary+" "+strings.Join(e.Plan.Details, "\n"))
			if slices.Contains(s.calls, "do "+e.Item) {
				t.Errorf("%s was done before it was told", e.Item)
			}
		}
	}
	s.run()
	if text := strings.Join(said, "\n"); !strings.Contains(text, "mash: make mash") || !strings.Contains(text, "[secret cellar.password]") || strings.Contains(text, "hunter2-and-more") {
		t.Errorf("announced:\n%s", text)
	}
}
