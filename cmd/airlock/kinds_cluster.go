package main

import (
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/action/helm"
	kubeaction "github.com/airlock-project/airlock/install/action/kube"
	"github.com/airlock-project/airlock/install/probe/kube"
	"github.com/airlock-project/airlock/install/probe/kube/certmanager"
	"github.com/airlock-project/airlock/install/probe/kube/workload"
)

// clusterKinds registers the steps about a Kubernetes cluster.
func clusterKinds(probes map[string]install.Probe, actions map[string]install.Action) {
	probes["k8s.version"] = kube.Version{}
	probes["k8s.rbac"] = kube.RBAC{Render: helm.Preview}
	probes["k8s.crd"] = kube.CRD{}
	probes["k8s.webhook"] = kube.Webhook{}
	probes["k8s.ingress"] = kube.Ingress{}
	probes["k8s.workload"] = workload.Probe{}
	probes["certmanager.issuer"] = certmanager.Issuer{}
	actions["k8s.kubeconfig"] = kubeaction.Kubeconfig{}
	actions["k8s.apply"] = kubeaction.Apply{}
	actions["k8s.secret"] = kubeaction.Secret{}
	actions["k8s.restart"] = kubeaction.Restart{}
}
