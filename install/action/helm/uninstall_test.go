package helm

import (
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	helmtime "helm.sh/helm/v3/pkg/time"
)

func TestUninstall(t *testing.T) {
	f := newFake()
	o := Removal{Kubeconfig: "/k", Release: "prod", Namespace: "apps", open: f.open}
	if out, err := Uninstall(t.Context(), o); err != nil || out.Revision != 0 {
		t.Errorf("%+v, %v", out, err)
	}
	keeps := demoChart()
	keeps["templates/extra.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: keep, annotations: {helm.sh/resource-policy: keep}}\n"
	f.apply(t, carry(t, keeps, ""), input(t, nil))
	o.DryRun = true
	out, err := Uninstall(t.Context(), o)
	if err != nil || len(out.Objects) != 6 || len(out.Kept) != 1 || out.Kept[0].String() != "ConfigMap apps/keep" {
		t.Errorf("%+v, %v", out, err)
	}
	f.wantHistory(t, "1 deployed")
	o.DryRun = false
	if _, err := Uninstall(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	f.wantHistory(t)
	if _, err := Uninstall(t.Context(), Removal{}); err == nil {
		t.Error("no release is accepted")
	}
}

// TestUninstallForeign leaves releases that Airlock did not make.
func TestUninstallForeign(t *testing.T) {
	for name, c := range map[string]struct {
		prior func(f *fake)
		want  string
	}{
		"others": {func(f *fake) { f.store(t, 1, release.StatusDeployed, nil, time.Now()) }, "others installed it"},
		"before": {func(f *fake) {
			f.store(t, 1, release.StatusSuperseded, nil, time.Now())
			f.store(t, 2, release.StatusDeployed, map[string]string{labelRevision: "2"}, time.Now())
		}, "others installed it"},
		"before, and its first revision is gone": {func(f *fake) {
			f.store(t, 4, release.StatusSuperseded, map[string]string{labelRevision: "4"}, time.Now())
			f.store(t, 5, release.StatusDeployed, map[string]string{labelRevision: "5"}, time.Now())
		}, "others installed it"},
		"upgraded by others": {func(f *fake) {
			f.apply(t, carry(t, demoChart(), ""), input(t, nil))
			r := f.latest(t)
			again := *r
			again.Version, again.Info = 2, &release.Info{Status: release.StatusDeployed, LastDeployed: helmtime.Now()}
			if err := storage.Init(f.memory).Create(&again); err != nil {
				t.Fatal(err)
			}
		}, ""},
		"upgraded by Airlock": {func(f *fake) {
			f.apply(t, carry(t, demoChart(), ""), input(t, nil))
			f.apply(t, carry(t, demoChart(), ""), input(t, map[string]any{"values": []any{map[string]any{"greeting": "again"}}}))
			r := f.latest(t)
			if _, err := storage.Init(f.memory).Delete("prod", 1); err != nil || r.Version != 2 {
				t.Fatal(r.Version, err)
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			c.prior(f)
			before, err := storage.Init(f.memory).History("prod")
			if err != nil {
				t.Fatal(err)
			}
			out, err := Uninstall(t.Context(), Removal{Kubeconfig: "/k", Release: "prod", Namespace: "apps", open: f.open})
			if err != nil || out.Reason != c.want || out.Revision > 0 != (c.want == "") {
				t.Errorf("%+v, %v", out, err)
			}
			after, _ := storage.Init(f.memory).History("prod")
			if kept := len(after) == len(before); kept != (c.want != "") {
				t.Errorf("kept %v: %d revisions of %d", kept, len(after), len(before))
			}
		})
	}
}
