package helm

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube"
	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	helmtime "helm.sh/helm/v3/pkg/time"
)

func TestInstall(t *testing.T) {
	f, b, in := newFake(), carry(t, demoChart(), "greeting: carried\n"), input(t, nil)
	c := f.plan(t, b, in)
	text := c.Summary + "\n" + strings.Join(c.Details, "\n")
	for _, want := range []string{
		"install release prod in namespace apps as revision 1: chart demo 1.0.0", "add Deployment prod\n", "add Job prod-migrate", "apply CustomResourceDefinition gadgets.demo.test",
	} {
		if !strings.Contains(text+"\n", want) {
			t.Errorf("plan lacks %q:\n%s", want, text)
		}
	}
	f.wantHistory(t)
	if len(f.crds) > 0 || c.Nothing {
		t.Errorf("a plan changed something, or saw nothing to do: %v", f.crds)
	}
	res := f.apply(t, b, in)
	f.wantHistory(t, "1 deployed")
	if res.Outputs["helm.revision"] != 1 || res.Outputs["helm.status"] != "deployed" || !res.Changed {
		t.Errorf("outputs %v", res.Outputs)
	}
	r := f.latest(t)
	sum := "@sha256:" + strings.Repeat("a", 64)
	for _, want := range []string{
		"image: harbor:5000/airlock/demo/web:1" + sum, "--runner-image=harbor:5000/airlock/demo/tool:2" + sum, "- harbor:5000/airlock/helper:3" + sum,
		"value: harbor:5000/airlock/helper:3" + sum, "image: harbor:5000/airlock/demo/sub:4" + sum, "# Source: demo/templates/web.yaml",
	} {
		if !strings.Contains(r.Manifest, want) {
			t.Errorf("the manifest lacks %q:\n%s", want, r.Manifest)
		}
	}
	if len(r.Hooks) != 1 || !strings.Contains(r.Hooks[0].Manifest, "harbor:5000/airlock/demo/tool:2"+sum) || strings.Contains(r.Manifest+r.Hooks[0].Manifest, "quay.io") {
		t.Errorf("hooks are not relocated: %+v", r.Hooks)
	}
	if r.Info.Notes != "carried\n" || r.Labels[labelRevision] != "1" || f.crds["gadgets.demo.test"] == "" {
		t.Errorf("notes %q, labels %v", r.Info.Notes, r.Labels)
	}
	if n := len(res.Outputs["helm.images"].([]any)); n != 4 {
		t.Errorf("%d images: %v", n, res.Outputs["helm.images"])
	}
	evidence := string(res.Evidence[0].Data)
	if !strings.Contains(evidence, "greeting: (not shown)") || strings.Contains(evidence, "carried") {
		t.Errorf("evidence:\n%s", evidence)
	}
}

// TestNothing is what a resumed run rests on: random values and the revision's
// number are no change, everything else is.
func TestNothing(t *testing.T) {
	f, b, in := newFake(), carry(t, demoChart(), ""), input(t, nil)
	f.apply(t, b, in)
	in.With["values"] = []any{map[string]any{"greeting": "second"}}
	f.apply(t, b, in)
	if c := f.plan(t, b, in); !c.Nothing {
		t.Fatalf("something to do: %+v", c)
	}
	res := f.apply(t, b, in)
	if res.Changed || res.Outputs["helm.revision"] != 2 {
		t.Errorf("a second time: %+v", res)
	}
	f.wantHistory(t, "1 superseded", "2 deployed")
	newer := demoChart()
	newer["templates/NOTES.txt"] = "changed\n"
	for name, c := range map[string]struct {
		b    *carried
		with map[string]any
		do   func()
	}{
		"values":     {b, map[string]any{"values": []any{map[string]any{"greeting": "third"}}}, nil},
		"the chart":  {carry(t, newer, ""), nil, nil},
		"registry":   {b, map[string]any{"map": relocation(t, "other:5000", fixedSum)}, nil},
		"a lost one": {b, nil, func() { f.gone = []string{"prod-sub"} }},
		"a CRD":      {b, nil, func() { f.crds["gadgets.demo.test"] = "{}" }},
	} {
		crd := f.crds["gadgets.demo.test"]
		with := map[string]any{"values": in.With["values"]}
		if c.with != nil {
			with = c.with
		}
		if c.do != nil {
			c.do()
		}
		if got := f.plan(t, c.b, input(t, with)); got.Nothing {
			t.Errorf("%s: nothing to do", name)
		}
		f.gone, f.crds["gadgets.demo.test"] = nil, crd // each by itself
	}
}

// TestWaits: a release is ready when its workloads and jobs are, and gone when its
// objects are.
func TestWaits(t *testing.T) {
	f, b := newFake(), carry(t, odd(map[string]string{"a.yaml": config("a", "")}), "")
	want := func(when string, waits ...string) {
		t.Helper()
		if !slices.Equal(f.waits, waits) {
			t.Errorf("%s: it waits until %q, want %q", when, f.waits, waits)
		}
		f.waits = nil
	}
	f.apply(t, b, input(t, nil))
	want("install", "ready")
	f.apply(t, b, input(t, map[string]any{"values": []any{map[string]any{"a": 1}}}))
	want("upgrade", "ready")
	if _, err := Uninstall(t.Context(), Removal{Kubeconfig: "/k", Release: "prod", Namespace: "apps", open: f.open}); err != nil {
		t.Fatal(err)
	}
	want("uninstall", "gone")
}

// TestValuesAreNotKept: a value that nobody gives any more is the chart's again.
func TestValuesAreNotKept(t *testing.T) {
	f, b := newFake(), carry(t, demoChart(), "")
	f.apply(t, b, input(t, map[string]any{"values": []any{map[string]any{"greeting": "once"}}}))
	f.apply(t, b, input(t, nil))
	if n := f.latest(t).Info.Notes; n != "hello\n" {
		t.Errorf("notes %q", n)
	}
}

func TestSiteValues(t *testing.T) {
	f, b, in := newFake(), carry(t, demoChart(), "greeting: carried\n"), input(t, map[string]any{"values": []any{map[string]any{"greeting": "step"}}})
	in.Values = []install.ValuesFile{{Name: "a.yaml", Data: []byte("greeting: file\n")}, {Chart: "other", Name: "b.yaml", Data: []byte("greeting: other\n")}}
	f.apply(t, b, in)
	if n := f.latest(t).Info.Notes; n != "step\n" {
		t.Errorf("a file for the product's chart reached another: %q", n)
	}
	in.With["files"] = true
	f.apply(t, b, in)
	if n := f.latest(t).Info.Notes; n != "file\n" {
		t.Errorf("notes %q", n)
	}
	in.Values[1].Chart = "demo"
	f.apply(t, b, in)
	if n := f.latest(t).Info.Notes; n != "other\n" {
		t.Errorf("notes %q", n)
	}
}

func TestUpgradeShowsChanges(t *testing.T) {
	f, b := newFake(), carry(t, demoChart(), "")
	f.apply(t, b, input(t, map[string]any{"values": []any{map[string]any{"replicas": 3, "extra": true}}}))
	in := input(t, map[string]any{"values": []any{map[string]any{"replicas": 4, "image": "quay.io/demo/web:9", "greeting": "geheim"}}})
	c := f.plan(t, b, in)
	text := strings.Join(c.Details, "\n")
	for _, want := range []string{
		"change Deployment prod: spec.replicas (3 -> 4)", "spec.template.spec.containers[0].image (harbor:5000/airlock/demo/web:1@", "remove ConfigMap prod-extra",
		"change Secret prod: stringData.greeting", "careful: Deployment prod may lose 3 of 4 replicas",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	for _, not := range []string{"geheim", "hello", "Deployment prod-sub", "data.made"} {
		if strings.Contains(text, not) {
			t.Errorf("%q in:\n%s", not, text)
		}
	}
	// A run shows the same, before it changes anything.
	var said []install.Change
	in.Announce = func(c install.Change) {
		said = append(said, c)
		f.wantHistory(t, "1 deployed")
	}
	res := f.apply(t, b, in)
	if d := cmp.Diff([]install.Change{c}, said); d != "" {
		t.Errorf("announced:\n%s", d)
	}
	f.apply(t, b, in)
	if len(said) != 1 {
		t.Error("it announces what it does not do")
	}
	i := slices.IndexFunc(res.Findings, func(f install.Finding) bool { return f.Code == "HELM-06" })
	if i < 0 || res.Findings[i].Fields["percent"] != "75%" || res.Findings[i].Fields["workload"] != "Deployment prod" {
		t.Errorf("findings %+v", res.Findings)
	}
}

// TestRefused ends with a code, and with nothing changed.
func TestRefused(t *testing.T) {
	conflict := &kube.ConflictError{Object: "CustomResourceDefinition gadgets.demo.test", Fields: []string{".spec"}, Owners: []string{"helm"}}
	older := demoChart()
	older["Chart.yaml"] = strings.ReplaceAll(older["Chart.yaml"], "1.0.0", "0.9.0")
	for name, c := range map[string]struct {
		chart map[string]string
		with  map[string]any
		prior func(t *testing.T, f *fake)
		code  string
		says  []string
	}{
		"schema":       {demoChart(), map[string]any{"values": []any{map[string]any{"replicas": "many"}}}, nil, "HELM-04", []string{"replicas"}},
		"unknown key":  {demoChart(), map[string]any{"values": []any{map[string]any{"colour": "red"}}}, nil, "HELM-04", []string{"colour"}},
		"not mirrored": {demoChart(), map[string]any{"values": []any{map[string]any{"image": "quay.io/demo/other:1"}}}, nil, "HELM-09", []string{"quay.io/demo/other:1 in Deployment/prod spec.template.spec.containers[0].image"}},
		"hook not mirrored": {func() map[string]string {
			c := demoChart()
			c["templates/hook.yaml"] = strings.ReplaceAll(c["templates/hook.yaml"], "quay.io/demo/tool:2", "quay.io/demo/other:1")
			return c
		}(), nil, nil, "HELM-09", []string{"Job/prod-migrate"}},
		"its own code": {demoChart(), map[string]any{"values": []any{map[string]any{"image": "other"}}, "codes": map[string]any{"HELM-09": "ING-03"}}, nil, "ING-03", []string{"other"}},
		"absent":       {demoChart(), map[string]any{"chart": "nine"}, nil, "HELM-10", []string{"demo"}},
		"older": {
			older, nil, func(t *testing.T, f *fake) { f.apply(t, carry(t, demoChart(), ""), input(t, nil)) }, "HELM-08",
			[]string{"demo 1.0.0", "demo 0.9.0"},
		},
		"another chart": {
			demoChart(), nil, func(t *testing.T, f *fake) {
				r := f.store(t, 1, release.StatusDeployed, map[string]string{labelOrigin: installed}, time.Now())
				r.Chart.Metadata.Name = "other"
				if err := storage.Init(f.memory).Update(r); err != nil {
					t.Fatal(err)
				}
			}, "HELM-08", []string{"other 1.0.0", "demo 1.0.0"},
		},
		"busy":          {demoChart(), nil, func(t *testing.T, f *fake) { f.store(t, 1, release.StatusPendingInstall, nil, time.Now()) }, "HELM-07", []string{"pending-install"}},
		"long pending":  {demoChart(), nil, func(t *testing.T, f *fake) { f.store(t, 1, release.StatusPendingInstall, nil, time.Unix(0, 0)) }, "HELM-07", []string{"pending-install"}},
		"others failed": {demoChart(), nil, func(t *testing.T, f *fake) { f.store(t, 1, release.StatusFailed, nil, time.Unix(0, 0)) }, "HELM-07", []string{"failed"}},
		"others remove": {demoChart(), nil, func(t *testing.T, f *fake) {
			r := f.store(t, 1, release.StatusUninstalling, nil, time.Unix(0, 0))
			r.Info.Deleted = helmtime.Now()
			if err := storage.Init(f.memory).Update(r); err != nil {
				t.Fatal(err)
			}
		}, "HELM-07", []string{"uninstalling"}},
		"CRD of another": {demoChart(), nil, func(_ *testing.T, f *fake) { f.applyErr = conflict }, "HELM-11", []string{"helm"}},
	} {
		t.Run(name, func(t *testing.T) {
			f, b, in := newFake(), carry(t, c.chart, ""), input(t, c.with)
			if c.prior != nil {
				c.prior(t, f)
			}
			before := f.history(t)
			res, err := Action{open: f.open}.apply(t.Context(), b, in)
			if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != c.code {
				t.Fatalf("%+v, %v", res, err)
			}
			for _, want := range c.says {
				if !strings.Contains(res.Findings[0].Detail, want) {
					t.Errorf("%q lacks %q", res.Findings[0].Detail, want)
				}
			}
			f.wantHistory(t, before...)
			if _, err := (Action{open: f.open}).plan(t.Context(), b, in); err == nil {
				t.Error("the plan does not say so")
			}
		})
	}
}

func TestDowngrade(t *testing.T) {
	older := demoChart()
	older["Chart.yaml"] = strings.ReplaceAll(older["Chart.yaml"], "1.0.0", "0.9.0")
	f, b := newFake(), carry(t, older, "")
	f.apply(t, carry(t, demoChart(), ""), input(t, nil))
	f.apply(t, b, input(t, map[string]any{"allow_downgrade": true}))
	f.apply(t, carry(t, demoChart(), ""), input(t, nil))
	if _, err := (Action{open: f.open, AllowOlder: true}).apply(t.Context(), b, input(t, nil)); err != nil {
		t.Fatal(err)
	}
	f.wantHistory(t, "1 superseded", "2 superseded", "3 superseded", "4 deployed")
}

// TestFailure tells the reasons and undoes what failed.
func TestFailure(t *testing.T) {
	sick := []workload{{Name: "Deployment apps/prod", Want: 3, Pods: []kube.Reason{
		{Class: kube.ClassPull, Pod: "prod-1", Container: "web", Image: "harbor:5000/airlock/demo/web:1", Reason: "ImagePullBackOff", Message: "not found"},
		{Class: kube.ClassPull, Pod: "prod-2", Container: "web", Image: "harbor:5000/airlock/demo/web:1", Reason: "ErrImagePull", Message: "not found"},
		{Class: kube.ClassConfig, Pod: "prod-3", Container: "init", Reason: "CreateContainerConfigError", Message: "secret \"x\" not found"},
		{Class: kube.ClassCrash, Pod: "prod-4", Container: "web", Reason: "CrashLoopBackOff", Log: []string{"starting", "cannot reach database"}},
		{Class: kube.ClassPending, Pod: "prod-5", Reason: "Unschedulable", Message: "insufficient cpu"},
	}}}
	f, b := newFake(), carry(t, demoChart(), "")
	f.sick, f.kube.WaitError = sick, errors.New("timed out waiting for the condition")
	res, err := Action{open: f.open}.apply(t.Context(), b, input(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range res.Findings {
		got = append(got, c.Code+" "+c.Fields["pod"]+" "+c.Fields["reason"])
	}
	want := []string{
		"HELM-01 prod-1 ImagePullBackOff: not found", "HELM-02 prod-3 CreateContainerConfigError: secret \"x\" not found",
		"HELM-03 prod-4 CrashLoopBackOff: cannot reach database", "HELM-05  Unschedulable: insufficient cpu", "  ", "  ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("findings %q\nwant %q", got, want)
	}
	if d := res.Findings[len(res.Findings)-1].Detail; d != "release prod was removed again: it never worked" {
		t.Error(d)
	}
	f.wantHistory(t)
	f.kube.WaitError = nil
	f.apply(t, b, input(t, nil))
	f.kube.WatchUntilReadyError = errors.New("job failed: BackoffLimitExceeded") // the hook of the upgrade
	f.sick = nil
	res, err = Action{open: f.open}.apply(t.Context(), b, input(t, map[string]any{"values": []any{map[string]any{"replicas": 2}}}))
	if err != nil || res.Findings[1].Code != "HELM-05" || !strings.Contains(res.Findings[1].Fields["reason"], "BackoffLimitExceeded") {
		t.Fatalf("%+v, %v", res, err)
	}
	f.wantHistory(t, "1 superseded", "2 failed", "3 deployed")
	f.kube.WatchUntilReadyError, f.kube.WaitError = nil, errors.New("timed out")
	if _, err = (Action{open: f.open}).apply(t.Context(), b, input(t, map[string]any{"atomic": false, "values": []any{map[string]any{"replicas": 2}}})); err != nil {
		t.Fatal(err)
	}
	f.wantHistory(t, "1 superseded", "2 failed", "3 deployed", "4 failed")
}

// TestInterrupted leaves the release to the next run.
func TestInterrupted(t *testing.T) {
	begun := func(t *testing.T) (*fake, context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(t.Context())
		return newFake(), ctx, cancel
	}
	b := carry(t, demoChart(), "")
	f, ctx, cancel := begun(t)
	f.kube.WaitError = context.Canceled
	cancel()
	if _, err := (Action{open: f.open}).apply(ctx, b, input(t, nil)); err == nil {
		t.Error("no error")
	}
	f, ctx, cancel = begun(t)
	f.onWait = func() error { cancel(); return context.Canceled }
	res, err := Action{open: f.open}.apply(ctx, b, input(t, nil))
	if err == nil || len(res.Findings) > 0 {
		t.Errorf("%+v, %v", res.Findings, err)
	}
	// What is there in part is in the record, so that it can be uninstalled.
	if len(res.Evidence) != 1 {
		t.Errorf("%d records of what was made", len(res.Evidence))
	}
	if n := len(f.history(t)); n != 1 {
		t.Errorf("%d revisions are left to the next run", n)
	}
}

// TestUnrecorded: where Helm ends before it records a revision, what works is not
// touched.
func TestUnrecorded(t *testing.T) {
	f, b := newFake(), carry(t, demoChart(), "")
	f.apply(t, b, input(t, nil))
	f.kube.BuildError = errors.New("no kind Gadget")
	res, err := Action{open: f.open}.apply(t.Context(), b, input(t, map[string]any{"values": []any{map[string]any{"replicas": 2}}}))
	if err == nil || !strings.Contains(err.Error(), "no kind Gadget") {
		t.Errorf("%+v, %v", res.Findings, err)
	}
	f.wantHistory(t, "1 deployed")
}

func TestHistoryIsBounded(t *testing.T) {
	f, b := newFake(), carry(t, demoChart(), "")
	for i := range 13 {
		f.apply(t, b, input(t, map[string]any{"values": []any{map[string]any{"replicas": i + 1}}}))
	}
	if n := len(f.history(t)); n != maxHistory {
		t.Errorf("%d revisions", n)
	}
}

func TestNamespace(t *testing.T) {
	f, b := newFake(), carry(t, demoChart(), "")
	f.namespaces = nil
	if _, err := (Action{open: f.open}).apply(t.Context(), b, input(t, nil)); err == nil || !strings.Contains(err.Error(), "no namespace apps") {
		t.Error(err)
	}
	// An item that is only planned may make it.
	if c := f.plan(t, b, input(t, nil)); !strings.Contains(c.Details[0], "no namespace apps") || !slices.Contains(c.Details, "add Deployment prod") {
		t.Errorf("%+v", c)
	}
	in := input(t, map[string]any{"create_namespace": true})
	if c := f.plan(t, b, in); c.Details[0] != "add Namespace apps" || len(f.namespaces) > 0 {
		t.Errorf("%+v", c)
	}
	f.apply(t, b, in)
	if len(f.namespaces) != 1 {
		t.Error("the namespace was not made")
	}
}

// TestPlanBeforeTheCluster says what can be said.
func TestPlanBeforeTheCluster(t *testing.T) {
	f, b := newFake(), carry(t, demoChart(), "")
	c := f.plan(t, b, input(t, map[string]any{"map": "(known later)", "kubeconfig": "(known later)"}))
	if c.Nothing || c.Summary != "install or upgrade release prod in namespace apps with chart demo 1.0.0" {
		t.Errorf("%+v", c)
	}
	c = f.plan(t, b, input(t, map[string]any{"map": "(known later)"}))
	if c.Nothing || !strings.Contains(c.Details[len(c.Details)-1], "known later") {
		t.Errorf("%+v", c)
	}
	if _, err := (Action{open: f.open}).plan(t.Context(), b, input(t, map[string]any{"kubeconfig": "(known later)", "values": []any{map[string]any{"replicas": "x"}}})); err == nil {
		t.Error("values that break the schema are not told before the cluster is there")
	}
}

func TestArguments(t *testing.T) {
	for _, more := range []map[string]any{
		{"chart": ""}, {"namespace": ""}, {"map": nil}, {"colour": "red"}, {"timeout": "soon"}, {"timeout": "-1s"}, {"codes": map[string]any{"X-01": "Y-01"}},
	} {
		f := newFake()
		if _, err := (Action{open: f.open}).apply(t.Context(), carry(t, demoChart(), ""), input(t, more)); err == nil {
			t.Errorf("%v is accepted", more)
		}
	}
}

func TestBudget(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(100*time.Hour))
	defer cancel()
	about := func(got, want time.Duration) {
		t.Helper()
		if got > want || got < want-time.Minute {
			t.Errorf("%s, want %s", got, want)
		}
	}
	about(budget(t.Context(), arguments{}), defaultTimeout)
	about(budget(ctx, arguments{}), 75*time.Hour)
	about(budget(ctx, arguments{timeout: time.Hour}), time.Hour)
	about(budget(ctx, arguments{timeout: 90 * time.Hour}), 75*time.Hour)
}

func TestStatus(t *testing.T) {
	f := newFake()
	run := func(more map[string]any) install.Result {
		t.Helper()
		with := map[string]any{"kubeconfig": "/k", "release": "prod", "namespace": "apps"}
		maps.Copy(with, more)
		res, err := Status{open: f.open}.Run(t.Context(), install.Input{With: with})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	if res := run(nil); len(res.Findings) != 1 || res.Findings[0].Fields["have"] != "not there" {
		t.Errorf("%+v", res)
	}
	f.store(t, 1, release.StatusDeployed, nil, time.Now())
	if res := run(map[string]any{"chart": "demo", "version": "1.0.0"}); len(res.Findings) != 0 || res.Outputs["helm.revision"] != 1 {
		t.Errorf("%+v", res)
	}
	for _, other := range []map[string]any{{"version": "2.0.0"}, {"chart": "other"}} {
		if res := run(other); len(res.Findings) != 1 || res.Findings[0].Code != "HELM-12" {
			t.Errorf("%v: %+v", other, res)
		}
	}
	f.store(t, 2, release.StatusFailed, nil, time.Now())
	if res := run(map[string]any{"code": "HELM-05"}); len(res.Findings) != 1 || res.Findings[0].Code != "HELM-05" || res.Findings[0].Fields["have"] != "failed" {
		t.Errorf("%+v", res)
	}
}

// TestObjects renders for sites where something else applies.
func TestObjects(t *testing.T) {
	out, err := objects(t.Context(), carry(t, demoChart(), ""), input(t, map[string]any{"kubeconfig": ""}))
	if err != nil || out.Release != "prod" || len(out.Objects) != 8 {
		t.Fatalf("%d objects, %v", len(out.Objects), err)
	}
	if out.Objects[0].Kind() != "CustomResourceDefinition" || out.Objects[1].Kind() != "Job" {
		t.Errorf("order: %s, %s", out.Objects[0].Kind(), out.Objects[1].Kind())
	}
	for _, o := range out.Objects[1:] {
		data, err := o.YAML()
		if err != nil || !strings.Contains(string(data), "namespace: apps") || strings.Contains(string(data), "quay.io") {
			t.Errorf("%v\n%s", err, data)
		}
	}
	_, err = objects(t.Context(), carry(t, demoChart(), ""), input(t, map[string]any{"values": []any{map[string]any{"image": "quay.io/demo/other:1"}}}))
	if err == nil || !strings.Contains(err.Error(), "quay.io/demo/other:1 in ") {
		t.Error(err)
	}
}

func TestUnavailable(t *testing.T) {
	for text, want := range map[string][2]int{
		"{}": {0, 1}, "{replicas: 4}": {1, 4}, "{replicas: 3, strategy: {type: Recreate}}": {3, 3},
		"{replicas: 3, strategy: {rollingUpdate: {maxUnavailable: 90%}}}": {2, 3}, "{replicas: 3, strategy: {rollingUpdate: {maxUnavailable: 5}}}": {3, 3},
		"{replicas: 3, strategy: {rollingUpdate: {maxUnavailable: x}}}": {0, 3},
	} {
		objects, err := chart.Parse("kind: Deployment\napiVersion: apps/v1\nspec: " + text + "\n")
		if err != nil {
			t.Fatal(err)
		}
		down, replicas := unavailable(objects[0].Tree["spec"].(map[string]any))
		if [2]int{down, replicas} != want {
			t.Errorf("%s: %d of %d, want %v", text, down, replicas, want)
		}
	}
}
