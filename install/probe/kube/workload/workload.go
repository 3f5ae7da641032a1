// Package workload is the probe k8s.workload: do the workloads of a namespace
// run as they should, with which images and which secrets, and if not, why?
package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
)

// Codes, beside the general ones.
const (
	codePull     = "HELM-01"
	codeConfig   = "HELM-02"
	codeCrash    = "HELM-03"
	codeReady    = "HELM-05"
	codeDigest   = "POD-01"
	codeRestarts = "POD-02"
	codeAsked    = "POD-03"
	codeServed   = "SVC-01"
	codeKeys     = "SEC-01"
	codeStale    = "SEC-04"
	codeQuota    = "NS-02"
	codeLimits   = "NS-03"
	codeResource = "RES-01"
)

// Probe is k8s.workload. Its zero value is ready and safe for concurrent use.
type Probe struct{}

type arguments struct {
	cluster.Access
	Namespace  string         `json:"namespace"`
	Active     bool           `json:"active"`     // the namespace has to be there and not on its way out
	Quota      map[string]any `json:"quota"`      // resource: amount that has to fit into every ResourceQuota
	Containers []incoming     `json:"containers"` // of one container each, that LimitRange and ResourceQuota have to let in

	Deployments  []string       `json:"deployments"`
	DaemonSets   []string       `json:"daemonsets"`
	StatefulSets []string       `json:"statefulsets"`
	Digest       string         `json:"digest"`  // every pod runs an image of this digest
	Digests      []string       `json:"digests"` // or of one of these: an index and its parts
	MaxRestarts  *int           `json:"max_restarts"`
	Classes      cluster.Causes `json:"classes"`  // what a crash is, by the log; the first that matches counts
	Asked        []asked        `json:"asked"`    // what the kubelet has to ask of a workload's pods
	Services     []served       `json:"services"` // that lead to pods which are ready

	Secrets  []secret `json:"secrets"`
	Replaced bool     `json:"replaced"` // a later item replaces pods: that they are older than a secret is a warning

	Kind       string            `json:"kind"`        // of a custom resource
	APIVersion string            `json:"api_version"` // group/version; without it the one that is served
	Name       string            `json:"name"`
	Equal      []string          `json:"equal"`    // two paths in it that have to hold the same
	Members    *members          `json:"members"`  // objects that belong to it; as many as the first path says have to be as they should
	Selector   string            `json:"selector"` // of the pods that show why they do not
	Fields     map[string]string `json:"fields"`   // more fields for the messages
}

// secret is a Secret that has to be there, with keys that are not empty.
type secret struct {
	Name string   `json:"name"`
	Keys []string `json:"keys"`
	Type string   `json:"type"` // what needs the keys, for the message
}

// members are custom resources that belong to another, such as the workers of a
// pool: an annotation of theirs is its name.
type members struct {
	Kind       string `json:"kind"`
	Annotation string `json:"annotation"`
	Path       string `json:"path"` // in each
	Is         string `json:"is"`   // what has to be there
}

// UnmarshalJSON takes a name alone too.
func (s *secret) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, &s.Name) == nil {
		return nil
	}
	type plain secret
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode((*plain)(s)); err != nil {
		return errors.New("secrets are names, or {name, keys, type}")
	}
	return nil
}

// extra are the fields that an item may add, for its own words.
var extra = []string{"pool", "endpoint", "host", "service", "name"}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	pod := []string{"namespace", "workload", "pod", "container", "image", "ready", "want", "reason", "events", "log", "class"}
	out := cluster.General(map[string][]string{
		codePull: pod, codeConfig: pod, codeCrash: pod, codeReady: pod,
		codeDigest:   {"namespace", "workload", "pod", "image", "digest", "want", "reason"},
		codeRestarts: {"namespace", "workload", "pod", "restarts", "max", "reason"},
		codeAsked:    {"namespace", "workload", "container", "path", "reason"},
		codeServed:   {"namespace", "service", "reason"},
		codeKeys:     {"namespace", "secret", "key", "type", "have", "missing", "reason"},
		codeStale:    {"namespace", "secret", "workload", "pod", "reason"},
		codeQuota:    {"namespace", "quota", "reason"},
		codeLimits:   {"namespace", "limits", "reason"},
		codeResource: {"namespace", "kind", "name", "actual", "want", "reason"},
	})
	for code := range out {
		out[code] = append(slices.Clone(out[code]), extra...)
	}
	return out
}

// work is one run.
type work struct {
	arguments
	*cluster.Client
	findings []install.Finding
}

// Run looks at everything that it is given and reports all that is wrong.
func (Probe) Run(ctx context.Context, in install.Input) (install.Result, error) {
	w := &work{}
	if err := in.Decode(&w.arguments); err != nil {
		return install.Result{}, err
	}
	if err := w.check(); err != nil {
		return install.Result{}, err
	}
	var err error
	if w.Client, err = w.Open(ctx); err != nil {
		return w.Failed(err, w.base())
	}
	for _, look := range []func(context.Context) error{w.namespace, w.quotas, w.limits, w.secrets, w.workloads, w.questions, w.services, w.resource} {
		if err := look(ctx); err != nil {
			f, ok := w.Finding(err, w.base())
			if !ok {
				return install.Result{Findings: w.findings}, err
			}
			w.findings = append(w.findings, f)
			break
		}
	}
	return install.Result{Findings: w.findings}, nil
}

func (w *work) check() error {
	if w.Namespace == "" {
		return errors.New("want a namespace")
	}
	if (w.Kind == "") != (w.Name == "") || len(w.Equal) != 0 && len(w.Equal) != 2 {
		return errors.New("a custom resource has kind, name and equal: [path, path]")
	}
	if m := w.Members; m != nil && (len(w.Equal) == 0 || m.Kind == "" || m.Annotation == "" || m.Path == "") {
		return errors.New("members have a kind, the annotation that names what they belong to, and a path; it wants equal")
	}
	for name := range w.Fields {
		if !slices.Contains(extra, name) {
			return fmt.Errorf("fields has %q; it may have %s", name, strings.Join(extra, ", "))
		}
	}
	for _, a := range w.Asked {
		if err := a.check(); err != nil {
			return err
		}
	}
	return nil
}

// base are the fields that every finding has.
func (w *work) base() map[string]string {
	out := map[string]string{"namespace": w.Namespace}
	maps.Copy(out, w.Fields)
	return out
}

func (w *work) find(code, detail string, fields map[string]string) *install.Finding {
	all := w.base()
	maps.Copy(all, fields)
	w.findings = append(w.findings, w.Report(code, detail, all))
	return &w.findings[len(w.findings)-1]
}
