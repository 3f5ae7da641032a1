// Package kube holds the probes of a Kubernetes cluster: its version and nodes,
// the rights of whoever installs, types, webhooks and ingress classes. They
// change nothing; what they try out is a dry run of the server.
package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Codes of k8s.version, beside the general ones.
const (
	codeReady = "K8S-11"
	codeNodes = "K8S-12"
	codeClock = "K8S-13"
)

const (
	defaultSkew = 60 * time.Second
	// maxNodes bounds how many nodes are looked at.
	maxNodes = 1000
)

// Version is the probe k8s.version. Its zero value is ready and safe for
// concurrent use.
type Version struct{}

type versionArguments struct {
	cluster.Access
	Min     string `json:"min"`      // the oldest version, major.minor
	Nodes   bool   `json:"nodes"`    // look at the nodes too
	MaxSkew string `json:"max_skew"` // between the server's clock and ours; default 60s
}

// Codes implements install.Coder.
func (Version) Codes() map[string][]string {
	return cluster.General(map[string][]string{
		cluster.CodeOld: {"server", "version", "want", "reason"},
		codeReady:       {"server", "reason"},
		codeNodes:       {"server", "node", "reason"},
		codeClock:       {"server", "skew", "max", "reason"},
	})
}

// Run asks the API server what it is. Its outputs are k8s.version and, with
// nodes, k8s.node_platforms: os/arch of every node, each once.
func (Version) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a versionArguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	limit := defaultSkew
	if a.MaxSkew != "" {
		d, err := time.ParseDuration(a.MaxSkew)
		if err != nil || d <= 0 {
			return install.Result{}, fmt.Errorf("max_skew %q is not a duration such as 60s", a.MaxSkew)
		}
		limit = d
	}
	c, err := a.Open(ctx)
	if err != nil {
		return a.Failed(err, nil)
	}
	v, err := c.Version(ctx)
	if err != nil {
		return a.Failed(err, nil)
	}
	res := install.Result{Outputs: map[string]any{"k8s.version": v.Git}}
	if err := a.old(c, v, &res); err != nil {
		return res, err
	}
	if skew := v.Skew.Abs(); skew > limit {
		f := a.Report(codeClock, fmt.Sprintf("the API server's clock is %s off", v.Skew), map[string]string{"server": c.Server(), "skew": v.Skew.String(), "max": limit.String()})
		f.Severity = install.SeverityWarn
		res.Findings = append(res.Findings, f)
	}
	unready, err := c.Unready(ctx)
	if err != nil {
		return a.Failed(err, nil)
	}
	if len(unready) > 0 {
		res.Findings = append(res.Findings, a.Report(codeReady, strings.Join(unready, "; "), map[string]string{"server": c.Server()}))
	}
	if a.Nodes {
		return a.nodes(ctx, c, res)
	}
	return res, nil
}

// old compares major and minor; what a vendor adds does not count.
func (a versionArguments) old(c *cluster.Client, v cluster.Version, res *install.Result) error {
	if a.Min == "" {
		return nil
	}
	want, err := semver.NewVersion(a.Min)
	if err != nil {
		return fmt.Errorf("min %q is not a version such as 1.26", a.Min)
	}
	have, err := semver.NewVersion(v.Git)
	if err != nil {
		return fmt.Errorf("read the version of %s: %q is none", c.Server(), v.Git)
	}
	if have.Major() > want.Major() || have.Major() == want.Major() && have.Minor() >= want.Minor() {
		return nil
	}
	f, ok := a.Finding(&cluster.TooOldError{Server: c.Server(), Version: v.Git, Want: a.Min}, nil)
	if !ok {
		return errors.New("no code for an old server")
	}
	res.Findings = append(res.Findings, f)
	return nil
}

// nodes looks whether there are any, and whether they are ready. None at all is
// a warning: some clusters make them when pods want them.
func (a versionArguments) nodes(ctx context.Context, c *cluster.Client, res install.Result) (install.Result, error) {
	list, err := c.Clientset().CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: maxNodes})
	if err != nil {
		err = c.Explain(err)
		f, ok := a.Finding(err, nil)
		if !ok {
			return res, fmt.Errorf("list nodes of %s: %w", c.Server(), err)
		}
		// Who may only look into namespaces can install all the same.
		if _, forbidden := errors.AsType[*cluster.ForbiddenError](err); forbidden {
			f.Severity = install.SeverityWarn
			res.Outputs["k8s.node_platforms"] = []any{}
		}
		res.Findings = append(res.Findings, f)
		return res, nil
	}
	platforms, ready := []string{}, 0
	for i := range list.Items {
		n := &list.Items[i]
		if info := n.Status.NodeInfo; info.OperatingSystem != "" && info.Architecture != "" {
			platforms = append(platforms, cluster.Clean(info.OperatingSystem+"/"+info.Architecture))
		}
		reason := notReady(n)
		if reason == "" {
			ready++
			continue
		}
		f := a.Report(codeNodes, fmt.Sprintf("node %s is not ready: %s", n.Name, reason), map[string]string{"server": c.Server(), "node": n.Name, "reason": reason})
		f.Severity = install.SeverityWarn
		res.Findings = append(res.Findings, f)
	}
	if ready == 0 {
		f := a.Report(codeNodes, fmt.Sprintf("none of %d nodes is ready", len(list.Items)), map[string]string{"server": c.Server(), "node": "every node"})
		if len(list.Items) == 0 {
			f.Severity = install.SeverityWarn
		}
		res.Findings = append(res.Findings, f)
	}
	slices.Sort(platforms)
	out := []any{}
	for _, p := range slices.Compact(platforms) {
		out = append(out, p)
	}
	res.Outputs["k8s.node_platforms"] = out
	return res, nil
}

// notReady says why a node takes no pods, "" if it does.
func notReady(n *corev1.Node) string {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return ""
		}
		if c.Type == corev1.NodeReady {
			return cluster.Clean(strings.TrimPrefix(c.Reason+": "+c.Message, ": "))
		}
	}
	return "it has not reported yet"
}
