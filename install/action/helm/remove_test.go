package helm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	helmkube "helm.sh/helm/v3/pkg/kube"
	kubefake "helm.sh/helm/v3/pkg/kube/fake"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
)

// hooked is the demo chart with a hook for its removal.
func hooked() map[string]string {
	files := demoChart()
	files["templates/last.yaml"] = config("farewell, annotations: {helm.sh/hook: 'pre-delete,post-delete'}", "")
	return files
}

// removeProd removes the release prod.
func removeProd(t *testing.T, open opener) {
	t.Helper()
	if _, err := Uninstall(t.Context(), Removal{Kubeconfig: "/k", Release: "prod", Namespace: "apps", open: open}); err != nil {
		t.Error(err)
	}
}

// installDemo installs the demo chart.
func installDemo(t *testing.T, open opener) {
	t.Helper()
	if res, err := (Action{open: open}).apply(t.Context(), carry(t, demoChart(), ""), input(t, nil)); err != nil || !res.Changed {
		t.Errorf("%+v, %v", res, err)
	}
}

// builder notes what Helm makes objects of.
type builder struct {
	*kubefake.FailingKubeClient
	seen *bytes.Buffer
}

func (b builder) Build(r io.Reader, validate bool) (helmkube.ResourceList, error) {
	if _, err := io.Copy(b.seen, r); err != nil {
		return nil, err
	}
	return b.FailingKubeClient.Build(b.seen, validate)
}

// TestRemovalHooks: those of a release that never worked are not run, neither
// when it is undone, nor by whoever goes on with that, nor at its removal.
func TestRemovalHooks(t *testing.T) {
	failed := func(t *testing.T, f *fake, status release.Status, labels map[string]string) {
		t.Helper()
		f.apply(t, carry(t, hooked(), ""), input(t, nil))
		r := f.latest(t)
		r.Info.Status = status
		maps.Copy(r.Labels, labels)
		if err := storage.Init(f.memory).Update(r); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		prior func(t *testing.T, f *fake)
		act   func(t *testing.T, open opener)
		runs  bool
	}{
		"undo": {func(_ *testing.T, f *fake) { f.kube.WaitError = errors.New("timed out") }, func(t *testing.T, open opener) {
			t.Helper()
			res, err := Action{open: open}.apply(t.Context(), carry(t, hooked(), ""), input(t, nil))
			if err != nil || len(res.Findings) == 0 || res.Findings[len(res.Findings)-1].Detail != "release prod was removed again: it never worked" {
				t.Errorf("%+v, %v", res.Findings, err)
			}
		}, false},
		"undo that was killed": {func(t *testing.T, f *fake) {
			t.Helper()
			failed(t, f, release.StatusUninstalling, map[string]string{labelHooks: unhooked})
		}, installDemo, false},
		"removal that was killed": {func(t *testing.T, f *fake) {
			t.Helper()
			failed(t, f, release.StatusUninstalling, nil)
		}, installDemo, true},
		"removal of what failed": {func(t *testing.T, f *fake) {
			t.Helper()
			failed(t, f, release.StatusFailed, nil)
		}, removeProd, false},
		"removal of what worked": {func(t *testing.T, f *fake) {
			t.Helper()
			failed(t, f, release.StatusDeployed, nil)
		}, removeProd, true},
		"removal after an upgrade that failed": {func(t *testing.T, f *fake) {
			t.Helper()
			failed(t, f, release.StatusDeployed, nil)
			r := *f.latest(t)
			r.Version, r.Info = 2, &release.Info{Status: release.StatusFailed}
			if err := storage.Init(f.memory).Create(&r); err != nil {
				t.Fatal(err)
			}
		}, removeProd, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			c.prior(t, f)
			var made bytes.Buffer
			c.act(t, func(ctx context.Context, a arguments) (*session, error) {
				s, err := f.open(ctx, a)
				if err == nil {
					s.cfg.KubeClient = builder{f.kube, &made}
				}
				return s, err
			})
			if runs := strings.Contains(made.String(), "farewell"); runs != c.runs {
				t.Errorf("hooks run: %v, want %v\n%s", runs, c.runs, made.String())
			}
		})
	}
}

// TestKeeps: a release is written down before it is begun, and not begun if that
// fails.
func TestKeeps(t *testing.T) {
	f := newFake()
	in := input(t, nil)
	var kept []install.Object
	in.Keep = func(list []install.Object) error {
		kept = list
		return errors.New("the disk is full")
	}
	if _, err := (Action{open: f.open}).apply(t.Context(), carry(t, demoChart(), ""), in); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("it ended with %v", err)
	}
	if !slices.Contains(kept, install.Release("apps", "prod")) {
		t.Errorf("%+v", kept)
	}
	f.wantHistory(t)
	if len(f.crds) != 0 {
		t.Error("types were applied")
	}
}
