package helm

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chartutil"
	helmkube "helm.sh/helm/v3/pkg/kube"
	kubefake "helm.sh/helm/v3/pkg/kube/fake"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// fake is a cluster that is not there: releases are kept in memory, objects
// nowhere.
type fake struct {
	memory     *driver.Memory
	kube       *kubefake.FailingKubeClient
	namespaces []string
	crds       map[string]string // as applied, by name
	gone       []string          // names of objects that somebody removed
	sick       []workload
	applyErr   error
	tryErr     error
	forced     []string     // names of types whose fields were taken over
	served     []string     // names of types that were waited for
	built      []string     // what Helm made objects of
	waits      []string     // how it waited
	onWait     func() error // in place of waiting for workloads and jobs
}

// noting is Helm's client, and notes what it is asked.
type noting struct {
	*kubefake.FailingKubeClient
	f *fake
}

func (n noting) Build(r io.Reader, validate bool) (helmkube.ResourceList, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	n.f.built = append(n.f.built, string(text))
	return n.FailingKubeClient.Build(strings.NewReader(string(text)), validate)
}

func (n noting) WaitWithJobs(list helmkube.ResourceList, d time.Duration) error {
	n.f.waits = append(n.f.waits, "ready")
	if n.f.onWait != nil {
		return n.f.onWait()
	}
	return n.FailingKubeClient.WaitWithJobs(list, d)
}

func (n noting) WaitForDelete(list helmkube.ResourceList, d time.Duration) error {
	n.f.waits = append(n.f.waits, "gone")
	return n.FailingKubeClient.WaitForDelete(list, d)
}

func newFake() *fake {
	m := driver.NewMemory()
	m.SetNamespace("apps")
	return &fake{
		memory: m, namespaces: []string{"apps"}, crds: map[string]string{},
		kube: &kubefake.FailingKubeClient{PrintingKubeClient: kubefake.PrintingKubeClient{Out: io.Discard}},
	}
}

func (f *fake) open(context.Context, arguments) (*session, error) {
	caps := chartutil.DefaultCapabilities.Copy()
	return &session{cluster: f, cfg: &action.Configuration{
		Releases: storage.Init(f.memory), KubeClient: noting{f.kube, f}, Capabilities: caps, Log: func(string, ...any) {},
	}}, nil
}

func (f *fake) Apply(_ context.Context, o *unstructured.Unstructured, opts kube.ApplyOptions) (kube.Outcome, error) {
	if f.applyErr != nil {
		return kube.Outcome{}, f.applyErr
	}
	if opts.Force {
		f.forced = append(f.forced, o.GetName())
	}
	data, err := o.MarshalJSON()
	if err != nil {
		return kube.Outcome{}, err
	}
	change := kube.Changed
	switch f.crds[o.GetName()] {
	case string(data):
		change = kube.Unchanged
	case "":
		change = kube.Created
	}
	if !opts.DryRun {
		f.crds[o.GetName()] = string(data)
	}
	return kube.Outcome{Change: change}, nil
}

func (f *fake) found(_ context.Context, r Ref) (*unstructured.Unstructured, error) {
	text, ok := f.crds[r.Name]
	if !ok {
		return nil, nil //nolint:nilnil // as the interface has it
	}
	o := &unstructured.Unstructured{}
	return o, o.UnmarshalJSON([]byte(text))
}

func (f *fake) established(_ context.Context, name string) error {
	f.served = append(f.served, name)
	return nil
}

func (f *fake) look(_ context.Context, refs []Ref) (all, missing []Ref, err error) {
	for _, r := range refs {
		if slices.Contains(f.gone, r.Name) {
			missing = append(missing, r)
		}
	}
	return refs, missing, nil
}

func (f *fake) try(context.Context, trial, string) error { return f.tryErr }

func (f *fake) unready(context.Context, []Ref) ([]workload, error) { return f.sick, nil }

func (f *fake) namespace(_ context.Context, name string, create bool) (bool, error) {
	if create {
		f.namespaces = append(f.namespaces, name)
	}
	return slices.Contains(f.namespaces, name), nil
}

// history lists "revision status" of the release prod.
func (f *fake) history(t *testing.T) []string {
	t.Helper()
	s, err := f.open(t.Context(), arguments{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.history("prod")
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, r := range list {
		out = append(out, string(rune('0'+r.Version))+" "+r.Info.Status.String())
	}
	return out
}

func (f *fake) latest(t *testing.T) *release.Release {
	t.Helper()
	r, err := storage.Init(f.memory).Last("prod")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (f *fake) wantHistory(t *testing.T, want ...string) {
	t.Helper()
	if got := f.history(t); !slices.Equal(got, want) {
		t.Errorf("history %q, want %q", got, want)
	}
}

// apply runs the action and expects no finding that fails.
func (f *fake) apply(t *testing.T, b *carried, in install.Input) install.Result {
	t.Helper()
	res, err := Action{open: f.open}.apply(t.Context(), b, in)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range res.Findings {
		if c.Severity == "" {
			t.Fatalf("finding %s: %s", c.Code, c.Detail)
		}
	}
	return res
}

func (f *fake) plan(t *testing.T, b *carried, in install.Input) install.Change {
	t.Helper()
	c, err := Action{open: f.open}.plan(t.Context(), b, in)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
