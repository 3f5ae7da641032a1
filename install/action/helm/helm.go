// Package helm is the action helm.release, which installs a chart of the bundle
// into a cluster, and the probe helm.status, which looks at a release.
//
// A release is Helm's own: the stock helm lists it, shows its history and can
// roll it back. What differs from helm upgrade --install is what an enclave
// needs. Every image reference, hooks included, points at the enclave's registry
// by tag and digest, or nothing is changed. CustomResourceDefinitions of a chart
// are upgraded too. A run that was killed is repaired by the next. A release that
// is as wanted is left alone. And where pods do not become ready the reasons are
// told, before anything is rolled back.
//
// Helm reads no environment variable, no file and no network here: charts come
// out of the bundle, the cluster from a kubeconfig.
package helm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/action/internal/charts"
	"github.com/airlock-project/airlock/install/internal/kube"
	"github.com/airlock-project/airlock/manifests"
)

// Codes.
const (
	codePull     = "HELM-01"
	codeConfig   = "HELM-02"
	codeCrash    = "HELM-03"
	codeValues   = "HELM-04"
	codeUnready  = "HELM-05"
	codeRollout  = "HELM-06"
	codeBusy     = "HELM-07"
	codeOlder    = "HELM-08"
	codeImages   = "HELM-09"
	codeAbsent   = "HELM-10"
	codeConflict = "HELM-11"
	codeStatus   = "HELM-12"
)

// maxHistory is how many revisions of a release are kept.
const maxHistory = 10

// Action is helm.release. Its zero value is ready and safe for concurrent use
// with different releases.
type Action struct {
	// AllowOlder lets every step replace a release by an older chart, as its
	// argument allow_downgrade does.
	AllowOlder bool

	open opener // for tests; nil opens the cluster of the arguments
}

// arguments are the step's with.
type arguments struct {
	Kubeconfig      string                   `json:"kubeconfig"`
	Context         string                   `json:"context"`
	Chart           string                   `json:"chart"`   // the name it is carried under
	Release         string                   `json:"release"` // default: Chart
	Namespace       string                   `json:"namespace"`
	CreateNamespace bool                     `json:"create_namespace"`
	Base            charts.Base              `json:"base"`   // after the carried values
	Values          []map[string]any         `json:"values"` // in order, after the base; a later one wins
	Files           bool                     `json:"files"`  // then the site's values files for no chart in particular
	Map             *manifests.RelocationMap `json:"map"`    // where the images are
	Ignore          []string                 `json:"ignore"` // images left as they are
	Atomic          *bool                    `json:"atomic"` // default true: what fails is rolled back, or removed
	Timeout         string                   `json:"timeout"`
	AllowDowngrade  bool                     `json:"allow_downgrade"`
	ForceCRDs       bool                     `json:"force_crds"` // take fields of CRDs over from other managers
	Codes           map[string]string        `json:"codes"`      // HELM-09: ING-03
	Classes         kube.Causes              `json:"classes"`    // what a crash is, by the log; the first that matches counts

	timeout time.Duration // 0: as much as the step has
	planned bool          // nothing is done: an earlier item may yet make the namespace
}

// Codes implements install.Coder. What keeps any step from a cluster has the
// codes of install/internal/kube.
func (Action) Codes() map[string][]string {
	return kube.General(map[string][]string{
		codePull:     {"release", "workload", "pod", "container", "image", "reason"},
		codeConfig:   {"release", "workload", "pod", "container", "reason"},
		codeCrash:    {"release", "workload", "pod", "container", "reason"},
		codeValues:   {"chart", "reason"},
		codeUnready:  {"release", "workload", "ready", "want", "reason"},
		codeRollout:  {"release", "workload", "percent"},
		codeBusy:     {"release", "namespace", "status", "since"},
		codeOlder:    {"release", "have", "want"},
		codeImages:   {"chart", "images", "image", "reason"},
		codeAbsent:   {"chart", "have"},
		codeConflict: {"release", "object", "reason"},
	})
}

// Grounds implements install.Grounder: values files for the chart count.
func (Action) Grounds(in install.Input) any {
	return map[string]any{"values": charts.Grounds(in)}
}

// Plan says what would change, object by object, against the release as it is
// recorded. It asks the cluster and changes nothing in it. Where the kubeconfig
// or the map of the images is only made by an earlier item, it says what can be
// said without.
func (a Action) Plan(ctx context.Context, in install.Input) (install.Change, error) {
	return a.plan(ctx, in.Bundle, in)
}

// Apply installs or upgrades the release and waits until its workloads and jobs
// are ready. Its outputs are helm.revision, helm.status, helm.images (the
// references in the cluster) and helm.objects (apiVersion, kind, namespace, name
// of each); its evidence is the manifest without the data of Secrets.
func (a Action) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	return a.apply(ctx, in.Bundle, in)
}

// Objects renders what a step of this kind would put into a cluster, in the
// order of installation and with every image from the enclave's registry, for
// sites where something else applies it. CustomResourceDefinitions come first;
// hooks keep their annotations. No cluster is asked.
func Objects(ctx context.Context, in install.Input) (Rendered, error) {
	return objects(ctx, in.Bundle, in)
}

func objects(ctx context.Context, b charts.Carrier, in install.Input) (Rendered, error) {
	a, err := decode(in, true)
	if err != nil {
		return Rendered{}, err
	}
	p, err := prepare(ctx, b, a, in.Values, nil)
	if err != nil {
		return Rendered{}, err
	}
	return Rendered{Release: a.Release, Namespace: a.Namespace, Objects: p.placed()}, nil
}

// decode reads and checks the arguments. Without a map, strict refuses them;
// otherwise one that is not known yet is left out.
func decode(in install.Input, strict bool) (arguments, error) {
	if _, known := in.With["map"].(map[string]any); !known && !strict {
		with := make(map[string]any, len(in.With))
		for k, v := range in.With {
			if k != "map" {
				with[k] = v
			}
		}
		in.With = with
	}
	var a arguments
	if err := in.Decode(&a); err != nil {
		return a, err
	}
	if a.Release == "" {
		a.Release = a.Chart
	}
	switch {
	case a.Chart == "":
		return a, errors.New("want chart, the name of a carried chart")
	case a.Namespace == "":
		return a, errors.New("want namespace, where the release lives")
	case a.Map == nil && strict:
		return a, errors.New("want map, the relocation map of the mirrored images")
	}
	if a.Timeout != "" {
		d, err := time.ParseDuration(a.Timeout)
		if err != nil || d <= 0 {
			return a, fmt.Errorf("timeout %q is not a duration such as 10m", a.Timeout)
		}
		a.timeout = d
	}
	known := Action{}.Codes()
	for code := range a.Codes {
		if known[code] == nil {
			return a, fmt.Errorf("codes: %s is not a code of helm.release", code)
		}
	}
	return a, nil
}

// atomic is the argument's value with its default.
func (a arguments) atomic() bool { return a.Atomic == nil || *a.Atomic }

// findings puts the checklist's codes in place of ours.
func (a arguments) findings(list []install.Finding) []install.Finding {
	for i, f := range list {
		if code := a.Codes[f.Code]; code != "" {
			list[i].Code = code
		}
	}
	return list
}

// trouble is a finding that ends the work, as an error.
type trouble struct{ install.Finding }

func (t *trouble) Error() string { return t.Detail }
