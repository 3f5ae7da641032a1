package main

import (
	"context"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/probe/vantage"
	"github.com/airlock-project/airlock/manifests"
	"github.com/spf13/cobra"
)

// inCluster lists the kinds of probe that can run in a pod: they need no bundle,
// no state directory and nothing of the operator's machine but files that go
// along.
func inCluster() []string {
	return []string{
		"blob.bucket", "blob.cors", "blob.presign", "dns.records", "git.lsremote", "grpc.health", "http.get", "mqtt.dial", "net.flows", "oidc.discovery",
		"otlp.export", "pg.conn", "registry.manifest", "tcp.dial", "tls.dial",
	}
}

// podProbes are the probes of these kinds.
func podProbes(probes map[string]install.Probe) map[string]install.Probe {
	out := make(map[string]install.Probe)
	for _, kind := range inCluster() {
		out[kind] = probes[kind]
	}
	return out
}

// probe is what the pod of a cluster.probe runs.
func (a *app) probe() *cobra.Command {
	return &cobra.Command{
		Use: "probe DIR", Short: "Run a probe that an installation sent into the cluster", Hidden: true, Args: args(cobra.ExactArgs(1)),
		Long: "Reads the task in DIR, which an installation mounts into a pod of its own, runs\nthe probe and writes its answer as one line.",
		RunE: func(cmd *cobra.Command, list []string) error { return a.runProbe(cmd.Context(), list[0]) },
	}
}

func (a *app) runProbe(ctx context.Context, dir string) error {
	hosts, err := a.hosts(remote.Options{})
	if err != nil {
		return err
	}
	probes, _ := a.kinds(hosts, nil, &manifests.Site{})
	return vantage.Perform(ctx, dir, podProbes(probes), a.stdout)
}
