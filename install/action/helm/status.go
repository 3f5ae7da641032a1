package helm

import (
	"context"
	"errors"
	"fmt"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube"
	"helm.sh/helm/v3/pkg/release"
)

// Status is the probe helm.status: a release is there, and as it should be.
type Status struct {
	open opener // for tests
}

// wanted are the probe's with.
type wanted struct {
	Kubeconfig string `json:"kubeconfig"`
	Context    string `json:"context"`
	Release    string `json:"release"`
	Namespace  string `json:"namespace"`
	Status     string `json:"status"`  // default: deployed
	Chart      string `json:"chart"`   // its name; "" is any
	Version    string `json:"version"` // of the chart; "" is any
	Code       string `json:"code"`    // instead of HELM-12
}

// Codes implements install.Coder.
func (Status) Codes() map[string][]string {
	return kube.General(map[string][]string{codeStatus: {"release", "namespace", "want", "have", "reason"}})
}

// Run looks. Its outputs are helm.revision, helm.status and helm.version, that of
// the chart.
func (s Status) Run(ctx context.Context, in install.Input) (install.Result, error) {
	w := wanted{Status: release.StatusDeployed.String(), Code: codeStatus}
	if err := in.Decode(&w); err != nil {
		return install.Result{}, err
	}
	if w.Release == "" || w.Namespace == "" {
		return install.Result{}, errors.New("want release and namespace")
	}
	if in.GitOps {
		return w.applied(ctx)
	}
	at := kube.Access{}
	session, err := Action{open: s.open}.session(ctx, arguments{Kubeconfig: w.Kubeconfig, Context: w.Context, Release: w.Release, Namespace: w.Namespace})
	if err != nil {
		return at.Failed(err, map[string]string{"namespace": w.Namespace})
	}
	history, err := session.history(w.Release)
	if err != nil {
		return at.Failed(err, map[string]string{"namespace": w.Namespace})
	}
	miss := func(want, have, reason string) install.Finding {
		return install.Finding{
			Code: w.Code, Detail: fmt.Sprintf("release %s in namespace %s is %s, want %s: %s", w.Release, w.Namespace, have, want, reason),
			Fields: map[string]string{"release": w.Release, "namespace": w.Namespace, "want": want, "have": have, "reason": reason},
		}
	}
	if len(history) == 0 {
		return install.Result{Findings: []install.Finding{miss(w.Status, "not there", "no revision of it is recorded")}}, nil
	}
	r := history[len(history)-1]
	var res install.Result
	res.Outputs = map[string]any{"helm.revision": r.Version, "helm.status": r.Info.Status.String()}
	if have := r.Info.Status.String(); have != w.Status {
		res.Findings = append(res.Findings, miss(w.Status, have, fmt.Sprintf("revision %d: %s", r.Version, r.Info.Description)))
	}
	if r.Chart == nil || r.Chart.Metadata == nil {
		return res, nil
	}
	m := r.Chart.Metadata
	res.Outputs["helm.version"] = m.Version
	if w.Chart != "" && w.Chart != m.Name || w.Version != "" && w.Version != m.Version {
		res.Findings = append(res.Findings, miss(w.Chart+" "+w.Version, m.Name+" "+m.Version, "it was made of another chart"))
	}
	return res, nil
}
