package helm

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install/action/internal/charts"
	"github.com/airlock-project/airlock/install/internal/kube"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	helmtime "helm.sh/helm/v3/pkg/time"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// store puts a revision into the history; labels nil is one of the stock helm.
func (f *fake) store(t *testing.T, version int, status release.Status, labels map[string]string, at time.Time) *release.Release {
	t.Helper()
	c := carry(t, demoChart(), "")
	h, _, err := charts.Load(t.Context(), c, "demo")
	if err != nil {
		t.Fatal(err)
	}
	hc, err := h.Helm()
	if err != nil {
		t.Fatal(err)
	}
	r := &release.Release{
		Name: "prod", Namespace: "apps", Version: version, Chart: hc, Labels: labels,
		Manifest: "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: left}\n",
		Info:     &release.Info{Status: status, LastDeployed: helmtime.Time{Time: at}, FirstDeployed: helmtime.Time{Time: at}},
	}
	if err := storage.Init(f.memory).Create(r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRepair goes on from what runs that were killed leave.
func TestRepair(t *testing.T) {
	mine := func(v string) map[string]string { return map[string]string{labelRevision: v, labelOrigin: installed} }
	old := time.Now().Add(-2 * time.Hour)
	for name, c := range map[string]struct {
		prior func(f *fake)
		want  []string
	}{
		"install":        {func(f *fake) { f.store(t, 1, release.StatusPendingInstall, mine("1"), time.Now()) }, []string{"1 deployed"}},
		"failed install": {func(f *fake) { f.store(t, 1, release.StatusFailed, mine("1"), time.Now()) }, []string{"1 deployed"}},
		"upgrade of helm, long ago": {func(f *fake) {
			f.store(t, 1, release.StatusDeployed, nil, old)
			f.store(t, 2, release.StatusPendingUpgrade, nil, old)
		}, []string{"1 superseded", "2 failed", "3 superseded", "4 deployed"}},
		"install of helm of what is wanted": {func(f *fake) {
			f.apply(t, carry(t, demoChart(), ""), input(t, nil))
			r := f.latest(t)
			r.Labels, r.Info.Status = nil, release.StatusFailed
			if err := storage.Init(f.memory).Update(r); err != nil {
				t.Fatal(err)
			}
		}, []string{"1 failed", "2 deployed"}},
		"install of what is wanted": {func(f *fake) {
			f.apply(t, carry(t, demoChart(), ""), input(t, nil))
			r := f.latest(t)
			r.Info.Status = release.StatusPendingInstall
			if err := storage.Init(f.memory).Update(r); err != nil {
				t.Fatal(err)
			}
		}, []string{"1 failed", "2 deployed"}},
		"upgrade": {func(f *fake) {
			f.store(t, 1, release.StatusDeployed, mine("1"), old)
			f.store(t, 2, release.StatusPendingUpgrade, mine("2"), time.Now())
		}, []string{"1 superseded", "2 failed", "3 superseded", "4 deployed"}},
		"upgrade of what is wanted": {func(f *fake) {
			f.apply(t, carry(t, demoChart(), ""), input(t, nil))
			r := f.latest(t)
			again := *r
			again.Version, again.Labels, again.Info = 2, map[string]string{labelRevision: "2", labelChart: r.Labels[labelChart]}, &release.Info{Status: release.StatusPendingUpgrade, LastDeployed: helmtime.Now()}
			if err := storage.Init(f.memory).Create(&again); err != nil {
				t.Fatal(err)
			}
		}, []string{"1 superseded", "2 failed", "3 deployed"}},
		"rollback": {func(f *fake) {
			f.store(t, 1, release.StatusSuperseded, mine("1"), old)
			f.store(t, 2, release.StatusDeployed, mine("2"), old)
			f.store(t, 3, release.StatusPendingRollback, mine("3"), time.Now())
		}, []string{"1 superseded", "2 superseded", "3 failed", "4 superseded", "5 deployed"}},
		"upgrade, already superseded": {func(f *fake) {
			f.store(t, 1, release.StatusSuperseded, mine("1"), old)
			f.store(t, 2, release.StatusPendingUpgrade, mine("2"), time.Now())
		}, []string{"1 superseded", "2 superseded", "3 deployed"}},
		"removal": {func(f *fake) { f.store(t, 1, release.StatusUninstalling, mine("1"), old) }, []string{"1 deployed"}},
		"removed": {func(f *fake) { f.store(t, 1, release.StatusUninstalled, mine("1"), old) }, []string{"1 superseded", "2 deployed"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			c.prior(f)
			b, in := carry(t, demoChart(), ""), input(t, map[string]any{"values": []any{map[string]any{"greeting": "now"}}})
			if strings.HasSuffix(name, "wanted") {
				in = input(t, nil)
			}
			f.apply(t, b, in)
			f.wantHistory(t, c.want...)
			if c := f.plan(t, b, in); !c.Nothing {
				t.Errorf("something to do: %+v", c)
			}
		})
	}
}

// racing is a cluster in which another run is faster: its revision is there when
// the types are applied.
type racing struct {
	*fake
	other func()
}

func (r racing) Apply(ctx context.Context, o *unstructured.Unstructured, opts kube.ApplyOptions) (kube.Outcome, error) {
	if !opts.DryRun {
		r.other()
	}
	return r.fake.Apply(ctx, o, opts)
}

// TestRace: what another run has just begun is neither taken over nor undone.
func TestRace(t *testing.T) {
	f := newFake()
	other := sync.OnceFunc(func() {
		f.store(t, 1, release.StatusPendingInstall, map[string]string{labelRevision: "1", labelOrigin: installed, labelRun: "other"}, time.Now())
	})
	open := func(ctx context.Context, a arguments) (*session, error) {
		s, err := f.open(ctx, a)
		if err == nil {
			s.cluster = racing{f, other}
		}
		return s, err
	}
	res, err := Action{open: open}.apply(t.Context(), carry(t, demoChart(), ""), input(t, nil))
	if err != nil || len(res.Findings) == 0 || res.Findings[len(res.Findings)-1].Code != codeBusy {
		t.Errorf("%+v, %v", res.Findings, err)
	}
	f.wantHistory(t, "1 pending-install")
}

// TestFailsAgain: what fails after what a killed run left was removed is told of
// and undone as any other.
func TestFailsAgain(t *testing.T) {
	f := newFake()
	f.store(t, 1, release.StatusPendingInstall, map[string]string{labelRevision: "1", labelOrigin: installed}, time.Now())
	f.kube.WaitError = errors.New("timed out")
	res, err := Action{open: f.open}.apply(t.Context(), carry(t, demoChart(), ""), input(t, nil))
	if err != nil || len(res.Findings) == 0 || res.Findings[len(res.Findings)-1].Detail != "release prod was removed again: it never worked" {
		t.Errorf("%+v, %v", res.Findings, err)
	}
	f.wantHistory(t)
}

// TestRepairHooks: hooks are for what worked. Going back from a run that was
// killed, and taking away what never worked, run none.
func TestRepairHooks(t *testing.T) {
	undo := &release.Hook{Name: "undo", Kind: "Job", Path: "demo/templates/undo.yaml", Manifest: "apiVersion: batch/v1\nkind: Job\nmetadata: {name: undo-by-hook}\n", Events: []release.HookEvent{
		release.HookPreRollback, release.HookPostRollback, release.HookPreDelete, release.HookPostDelete,
	}}
	mine := func(v string) map[string]string { return map[string]string{labelRevision: v, labelOrigin: installed} }
	old := time.Now().Add(-2 * time.Hour)
	for name, c := range map[string]struct {
		status []release.Status
		runs   bool
	}{
		"back":         {[]release.Status{release.StatusDeployed, release.StatusPendingUpgrade}, false},
		"never worked": {[]release.Status{release.StatusPendingInstall}, false},
		"removal":      {[]release.Status{release.StatusUninstalling}, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			for i, status := range c.status {
				r := f.store(t, i+1, status, mine(strconv.Itoa(i+1)), old)
				r.Hooks = []*release.Hook{undo}
				if err := storage.Init(f.memory).Update(r); err != nil {
					t.Fatal(err)
				}
			}
			f.apply(t, carry(t, odd(map[string]string{"a.yaml": config("a", "")}), ""), input(t, nil))
			if got := strings.Contains(strings.Join(f.built, "\n"), "undo-by-hook"); got != c.runs {
				t.Errorf("its hooks run: %v", got)
			}
			// What is installed next may have the names of what goes.
			if removed := name != "back"; removed != slices.Contains(f.waits, "gone") {
				t.Errorf("it waits until %q", f.waits)
			}
		})
	}
}

// TestDecideDeployed: a revision that is deployed counts, whatever came after it.
func TestDecideDeployed(t *testing.T) {
	var history []*release.Release
	for i, status := range []release.Status{release.StatusDeployed, release.StatusSuperseded, release.StatusFailed} {
		history = append(history, &release.Release{Version: i + 1, Info: &release.Info{Status: status}})
	}
	d := decide(history, func(*release.Release) bool { return false }, time.Now())
	if d.deployed == nil || d.deployed.Version != 1 || !d.back {
		t.Errorf("%+v", d)
	}
}
