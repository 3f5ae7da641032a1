//go:build all

package main

import (
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/cluster"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rights are what a site with workers elsewhere, an ingress controller and
// certificates of its own needs: in the namespace, and in the whole cluster.
func rights() (inside, whole []rbacv1.PolicyRule) {
	rule := func(verbs, group string, resources ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: strings.Fields(verbs), APIGroups: []string{group}, Resources: resources}
	}
	const all = "get list create patch delete"
	inside = []rbacv1.PolicyRule{
		rule("get patch", "", "namespaces"),
		rule(all+" update", "", "secrets"),
		rule(all, "", "configmaps", "services", "serviceaccounts"),
		rule(all, "apps", "deployments"),
		rule(all, "networking.k8s.io", "ingresses"),
		rule(all, "batch", "jobs"),
		rule("get list", "", "pods"),
		rule("get list", "apps", "replicasets"),
		rule("list", "", "events", "resourcequotas"),
		rule("get", "", "pods/log"),
	}
	return inside, []rbacv1.PolicyRule{rule("list", "networking.k8s.io", "ingressclasses")}
}

// without takes a verb on a resource away.
func without(rules []rbacv1.PolicyRule, verb, resource string) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for _, r := range rules {
		for _, one := range r.Resources {
			for _, v := range r.Verbs {
				if one != resource || v != verb {
					out = append(out, rbacv1.PolicyRule{Verbs: []string{v}, APIGroups: r.APIGroups, Resources: []string{one}})
				}
			}
		}
	}
	return out
}

// backendVersions are those whose image the mirror holds, the same for all.
var backendVersions = []string{"v4.3.0", "v6.3.0", "v6.4.0"}

// backendMirror is a registry that holds the backend's images.
func backendMirror(t *testing.T) (host, digest string) {
	t.Helper()
	mirror := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(mirror.Close)
	host = strings.TrimPrefix(mirror.URL, "http://")
	img, err := random.Image(512, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range backendVersions {
		ref, err := name.ParseReference(host+"/airlock/spacelift-backend:"+version, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return host, sum.String()
}

// backendSecrets puts the Secrets of the backend into namespaces, as
// create-kubernetes-secrets does.
func backendSecrets(t *testing.T, c *cluster.Cluster, namespaces ...string) {
	t.Helper()
	for _, ns := range namespaces {
		for _, secret := range []string{"spacelift-shared", "spacelift-server", "spacelift-drain"} {
			o := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secret}, StringData: map[string]string{"KEY": "value"}}
			if _, err := c.Clientset.CoreV1().Secrets(ns).Create(t.Context(), o, metav1.CreateOptions{FieldManager: "tester"}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// backendGiven are the outputs of the rows before those about the cluster.
func backendGiven(kubeconfig, host, digest string) map[string]any {
	var images []any
	for _, version := range backendVersions {
		images = append(images, map[string]any{
			"kind": "image", "source": "spacelift-backend:" + version, "sourceDigest": digest, "target": host + "/airlock/spacelift-backend:" + version, "digest": digest,
		})
	}
	return map[string]any{
		"kubeconfig.file": kubeconfig, "image.backend.repository": host + "/airlock/spacelift-backend", "image.backend.tag": "v4.3.0", "image.backend.digest": digest,
		"relocation.map": map[string]any{"apiVersion": "airlock/v1", "kind": "RelocationMap", "bundle": "sha256:" + strings.Repeat("b", 64), "target": host, "entries": images},
	}
}

// TestRowsRights: with exactly the rights that the first item of the phase asks
// for, in a namespace that is there already, the rest of the phase passes; each
// right that is taken away is named by it.
func TestRowsRights(t *testing.T) {
	host, sum := backendMirror(t)
	box := cluster.Start(t, cluster.Options{Node: true, Mirror: host})
	ns := box.Namespace(t)
	class := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "nginx"}, Spec: networkingv1.IngressClassSpec{Controller: "k8s.io/ingress-nginx"}}
	if _, err := box.Clientset.NetworkingV1().IngressClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n := 0
	user := func(inside, whole []rbacv1.PolicyRule) string {
		n++
		u := fmt.Sprintf("rights-%d", n)
		box.User(t, u, whole...)
		return box.UserIn(t, u, ns, inside...)
	}
	inside, whole := rights()
	exact := user(inside, whole)
	in := map[string]any{
		"k8s.namespace": ns, "workers.kind": "docker", "hosts.server": netHost,
		"pull.username": "puller", "pull.password": "password-of-the-puller",
	}
	given := backendGiven(exact, host, sum)
	preflight := func(t *testing.T, kubeconfig string, want install.State, says ...string) {
		t.Helper()
		got := runRow(t, row{
			item: "configure-kubectl-credentials", inputs: map[string]any{"k8s.kubeconfig": kubeconfig, "k8s.namespace": ns, "workers.kind": "docker"},
			want: want, code: "K8S-03", says: []string{"cluster administrator"},
		})
		var refused []string
		for _, f := range got.Findings {
			what, _, _ := strings.Cut(strings.TrimPrefix(f.Cause, "forbidden: "), " (")
			refused = append(refused, what)
		}
		slices.Sort(refused)
		if !slices.Equal(refused, slices.Sorted(slices.Values(append(says, "list nodes")))) {
			t.Errorf("refused: %q, want %q and list nodes", refused, says)
		}
	}
	// That nodes cannot be listed is said, and keeps nothing from going on.
	t.Run("exact", func(t *testing.T) { preflight(t, exact, install.StateWarn) })
	for _, c := range []struct{ verb, resource, says string }{
		{"patch", "namespaces", "patch namespaces " + ns},
		{"update", "secrets", "update secrets"},
		{"delete", "deployments", "delete deployments.apps"},
		{"create", "ingresses", "create ingresses.networking.k8s.io"},
		{"list", "resourcequotas", "list resourcequotas"},
		{"get", "pods/log", "get pods/log"},
	} {
		t.Run(c.verb+" "+c.resource, func(t *testing.T) {
			preflight(t, user(without(inside, c.verb, c.resource), whole), install.StateFail, c.says)
		})
	}
	t.Run("nothing in the whole cluster", func(t *testing.T) {
		preflight(t, user(inside, []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"nodes"}}}), install.StateFail, "list ingressclasses.networking.k8s.io")
	})
	more := []bundle.Source{backendChart(t, nil)}
	for _, item := range []string{"create-kubernetes-namespace", "install-ingress-controller", "image-pull-credentials", "deploy-helm-chart"} {
		t.Run(item, func(t *testing.T) {
			if item == "deploy-helm-chart" {
				backendSecrets(t, box, ns)
			}
			runRow(t, row{item: item, inputs: in, given: given, more: more, registry: &manifests.SiteRegistry{To: host + "/airlock"}, want: install.StatePass})
		})
	}
}
