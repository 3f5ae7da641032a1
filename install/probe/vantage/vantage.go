// Package vantage is the probe cluster.probe: another probe, run from inside the
// cluster. What the operator's machine reaches says little of what pods reach.
//
// The probe runs as a Job with Airlock's own image, out of the enclave's
// registry: its arguments travel as a Secret that belongs to the Job, and its
// answer comes back in the pod's log, bound to the task by a digest. Job, Secret
// and pod are removed whatever happens; if this process dies, the cluster removes
// them itself when the Job's time is over.
package vantage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube"
)

// Codes.
const (
	codeStart  = "CLU-01"
	codeAnswer = "CLU-02"
)

// noImage says why nothing can run.
const noImage = "the bundle carries none of Airlock (tools: in its definition)"

// defaultTimeout is for pulling the image and running the probe.
const defaultTimeout = 5 * time.Minute

// Probe is cluster.probe. It is safe for concurrent use.
type Probe struct {
	// Probes are those that can run in the cluster, by kind.
	Probes map[string]install.Probe

	run func(ctx context.Context, c kube.Config, j kube.Job) ([]byte, error) // for tests
}

// arguments are the step's with.
type arguments struct {
	Kubeconfig     string   `json:"kubeconfig"`
	Context        string   `json:"context"`
	Namespace      string   `json:"namespace"`
	Image          string   `json:"image"` // Airlock's own, repository:tag@digest
	PullSecret     string   `json:"pull_secret"`
	ServiceAccount string   `json:"service_account"`
	Timeout        string   `json:"timeout"`
	Run            string   `json:"run"` // the probe
	With           any      `json:"with"`
	Files          []string `json:"files"` // arguments of the probe, dotted, that are paths: the files go along
}

// Codes implements install.Coder: those of every probe that can run, and its
// own.
func (p Probe) Codes() map[string][]string {
	codes := make(map[string][]string)
	for _, kind := range slices.Sorted(maps.Keys(p.Probes)) {
		c, ok := p.Probes[kind].(install.Coder)
		if !ok {
			continue
		}
		for code, fields := range c.Codes() { // probes share codes
			codes[code] = append(codes[code], fields...)
		}
	}
	codes[codeStart] = []string{"namespace", "image", "reason"}
	codes[codeAnswer] = []string{"namespace", "reason"}
	return codes
}

// Run runs the probe in the cluster and reports what it found as its own
// findings.
func (p Probe) Run(ctx context.Context, in install.Input) (install.Result, error) {
	a, wait, err := decode(in)
	if err != nil {
		return install.Result{}, err
	}
	if p.Probes[a.Run] == nil {
		return install.Result{}, fmt.Errorf("cluster.probe cannot run %q; it can run %v", a.Run, slices.Sorted(maps.Keys(p.Probes)))
	}
	if in.GitOps {
		return install.Result{Findings: []install.Finding{install.Untried(install.SeverityWarn, a.Run+" from a pod in namespace "+a.Namespace)}}, nil
	}
	if a.Image == "" {
		return install.Result{Findings: []install.Finding{{
			Code: codeStart, Detail: noImage, Fields: map[string]string{"namespace": a.Namespace, "image": "Airlock's own image", "reason": noImage},
		}}}, nil
	}
	with, _ := a.With.(map[string]any)
	content, sum, err := pack(a.Run, clone(with), a.Files)
	if err != nil {
		return install.Result{}, err
	}
	run := p.run
	if run == nil {
		run = runJob
	}
	log, err := run(ctx, kube.Config{Kubeconfig: a.Kubeconfig, Context: a.Context}, kube.Job{
		Namespace: a.Namespace, Prefix: "airlock-probe", Image: a.Image, PullSecret: a.PullSecret, ServiceAccount: a.ServiceAccount,
		Args: []string{"probe", Dir}, Mount: Dir, Content: content, Timeout: wait, MaxLog: maxAnswer,
	})
	if e, ok := errors.AsType[*kube.JobError](err); ok {
		return install.Result{Findings: []install.Finding{{
			Code: codeStart, Detail: e.Error(), Fields: map[string]string{"namespace": a.Namespace, "image": a.Image, "reason": e.Reason},
		}}}, nil
	}
	if err != nil {
		return install.Result{}, fmt.Errorf("run %s in namespace %s: %w", a.Run, a.Namespace, err)
	}
	return a.result(log, sum)
}

// result takes the answer out of the log.
func (a arguments) result(log []byte, sum string) (install.Result, error) {
	r, err := unpack(log, sum)
	if err != nil {
		if last := tail(log); last != "" {
			err = fmt.Errorf("%w; it ends with: %s", err, last)
		}
	}
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		return install.Result{Findings: []install.Finding{{ //nolint:nilerr // what the pod could not do is a finding
			Code: codeAnswer, Detail: err.Error(), Fields: map[string]string{"namespace": a.Namespace, "reason": err.Error()},
		}}}, nil
	}
	for i := range r.Result.Findings {
		f := &r.Result.Findings[i]
		f.Detail = "from a pod in namespace " + a.Namespace + ": " + f.Detail
	}
	for i := range r.Result.Evidence {
		r.Result.Evidence[i].Name += " (cluster)"
	}
	// Outputs of the same probe here and there have the same names; here counts.
	r.Result.Outputs = nil
	return r.Result, nil
}

// tail is the end of a log, for a message; the engine takes secrets out.
func tail(log []byte) string {
	const most = 400
	text := strings.TrimSpace(string(log[max(0, len(log)-most):]))
	return kube.Clean(text)
}

func decode(in install.Input) (arguments, time.Duration, error) {
	a := arguments{Timeout: defaultTimeout.String()}
	if err := in.Decode(&a); err != nil {
		return a, 0, err
	}
	for name, v := range map[string]string{"kubeconfig": a.Kubeconfig, "namespace": a.Namespace, "run": a.Run} {
		if v == "" {
			return a, 0, fmt.Errorf("step argument %q is missing", name)
		}
	}
	wait, err := time.ParseDuration(a.Timeout)
	if err != nil || wait <= 0 {
		return a, 0, fmt.Errorf("timeout %q is not a duration such as 5m", a.Timeout)
	}
	return a, wait, nil
}

func runJob(ctx context.Context, c kube.Config, j kube.Job) ([]byte, error) {
	client, err := kube.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	return client.Run(ctx, j)
}

// clone copies the maps, because paths in them are replaced.
func clone(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		if sub, ok := v.(map[string]any); ok {
			v = clone(sub)
		}
		out[k] = v
	}
	return out
}
