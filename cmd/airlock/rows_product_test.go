package main

// Kinds that the issue about Kubernetes brings.
func init() {
	for _, kind := range []string{
		"k8s.kubeconfig", "k8s.apply", "k8s.secret", "k8s.restart", "k8s.version", "k8s.rbac", "k8s.workload", "k8s.crd", "k8s.webhook",
		"k8s.ingress", "certmanager.issuer", "helm.release",
	} {
		unavailable[kind] = true
	}
}
