package install

// Every step that talks to a cluster may meet these (package install/internal/kube).
// An item may explain them in words of its own.
var clusterMessages = map[string]message{
	"K8S-01": own("the program {{.plugin}}, with which the kubeconfig logs in, gave no credentials: {{.reason}}", "run it by hand as the same user, or give a kubeconfig with a token or a client certificate"),
	"K8S-02": own("the certificate of {{.server}} is not trusted, or it refuses ours: {{.reason}}", "put the cluster's authority into the kubeconfig as certificate-authority-data; a client certificate may have expired"),
	"K8S-03": own("forbidden: {{.verb}} {{.resource}} ({{.reason}})", "have a cluster administrator bind a role that allows it to this user"),
	"K8S-05": own("the API server {{.server}} gives no answer that can be used: {{.reason}}", "look at the server's address in the kubeconfig, at firewalls and proxies in between, and at the health of the control plane; then run the same command again"),
	"K8S-06": own("the API server {{.server}} does not know the user of the kubeconfig", "log in again and give the new kubeconfig: tokens and certificates expire"),
	"K8S-07": own("the kubeconfig {{.file}} cannot be used: {{.reason}}", "correct it, or give another one: kubernetes in the site file names file and context"),
	"K8S-08": own("{{.fields}} of {{.object}} belongs to {{.owners}}, which wants something else there", "settle with whoever runs {{.owners}} which of both sets it; nothing is taken over unasked"),
	"K8S-09": own("the API server refuses {{.object}}: {{.reason}}", "correct the value that it comes from; where a policy of the cluster refuses it, ask whoever made the policy"),
	"K8S-10": own("the API server {{.server}} knows no {{.kind}} in {{.version}}", "install what brings this kind first, or take a newer cluster"),
	"NS-01":  own("the namespace {{.namespace}} is {{.phase}}", "have a missing one made first; with one that is going, see to what holds it and wait until it is gone"),
}
