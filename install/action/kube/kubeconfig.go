package kube

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	"github.com/airlock-project/airlock/install/internal/place"
)

// codeOther is a kubeconfig of another cluster.
const codeOther = "K8S-14"

// configName is the file in the directory of secrets.
const configName = "kubeconfig"

// Kubeconfig is the action k8s.kubeconfig: a kubeconfig of the installation's
// own, with one context and nothing beside it to get lost. The user's stays as
// it is. Its zero value is ready and safe for concurrent use.
type Kubeconfig struct{}

type configArguments struct {
	From    string            `json:"from"`    // a kubeconfig
	Context string            `json:"context"` // of it; default is its current one
	Cluster string            `json:"cluster"` // the name of the cluster that it has to be
	Codes   map[string]string `json:"codes"`
}

// Codes implements install.Coder.
func (Kubeconfig) Codes() map[string][]string {
	return map[string][]string{
		cluster.CodePlugin: {"plugin", "file", "reason"},
		cluster.CodeConfig: {"file", "reason"},
		codeOther:          {"file", "cluster", "have", "reason"},
	}
}

// making is one run. The data holds secrets.
type making struct {
	configArguments
	data []byte
}

func (a configArguments) access() cluster.Access { return cluster.Access{Codes: a.Codes} }

// begin reads the source. ok is false if the result says what is wrong with it.
func begin(in install.Input) (m making, res install.Result, err error) {
	if err := in.Decode(&m.configArguments); err != nil {
		return m, res, err
	}
	from := m.From
	if from != "" && !filepath.IsAbs(from) {
		from = filepath.Join(in.Site, from)
	}
	c := cluster.Config{Kubeconfig: from, Context: m.Context}
	if m.data, err = cluster.Dedicated(c); err != nil {
		res, err = m.access().Failed(err, map[string]string{"file": from})
		return m, res, err
	}
	if m.Cluster == "" {
		return m, res, nil
	}
	names, err := cluster.Names(c)
	if err != nil {
		return m, res, err
	}
	for _, name := range names {
		// EKS and GKE put account and place before the name.
		if name == m.Cluster || strings.HasSuffix(name, "/"+m.Cluster) || strings.HasSuffix(name, "_"+m.Cluster) {
			return m, res, nil
		}
	}
	have := strings.Join(names, ", ")
	res.Findings = append(res.Findings, m.access().Report(codeOther, "context and cluster of the kubeconfig are "+have+", not "+m.Cluster,
		map[string]string{"file": from, "cluster": m.Cluster, "have": have}))
	return m, res, nil
}

// Plan says whether a file is to be written.
func (Kubeconfig) Plan(_ context.Context, in install.Input) (install.Change, error) {
	m, res, err := begin(in)
	if err != nil {
		return install.Change{}, err
	}
	c := install.Change{Summary: "write a kubeconfig of one context"}
	for _, f := range res.Findings {
		c.Details = append(c.Details, f.Detail)
	}
	if len(res.Findings) == 0 && in.Secrets != "" && place.Same(in.Secrets, configName, m.data, 0o600) {
		return install.Change{Summary: "the kubeconfig is as it should be", Nothing: true}, nil
	}
	return c, nil
}

// Apply writes the file, of mode 0600, whole or not at all. Its output
// kubeconfig.file is the path.
func (Kubeconfig) Apply(_ context.Context, in install.Input) (install.Result, error) {
	m, res, err := begin(in)
	if err != nil || len(res.Findings) > 0 {
		return res, err
	}
	if place.Same(in.Secrets, configName, m.data, 0o600) {
		path, err := filepath.Abs(filepath.Join(in.Secrets, configName))
		res.Outputs = map[string]any{"kubeconfig.file": path}
		return res, err
	}
	path, err := place.Set(in.Secrets, configName, m.data, 0o600)
	if err != nil {
		return res, err
	}
	res.Changed, res.Outputs = true, map[string]any{"kubeconfig.file": path}
	return res, nil
}
