//go:build all

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/cluster"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/testdata/pki"
	"github.com/airlock-project/airlock/testdata/spacelift"
	"github.com/google/go-cmp/cmp"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// clusterRows are the rows about the cluster on a real control plane, whose node
// pulls images and runs nothing.
type clusterRows struct {
	*cluster.Cluster
	dynamic dynamic.Interface
	guest   string // kubeconfig of a user who may list nodes, and no more
}

func TestRowsCluster(t *testing.T) {
	reg := httptest.NewServer(olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}}))
	defer reg.Close()
	host := strings.TrimPrefix(reg.URL, "http://")
	if err := fixture.Push(t.Context(), host, "demo/web:1"); err != nil {
		t.Fatal(err)
	}
	c := &clusterRows{Cluster: cluster.Start(t, cluster.Options{Node: true, Mirror: host})}
	var err error
	if c.dynamic, err = dynamic.NewForConfig(c.REST); err != nil {
		t.Fatal(err)
	}
	c.guest = c.User(t, "guest", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"list"}})
	t.Run("kubectl", c.kubectl)
	t.Run("namespace", c.namespaces)
	t.Run("limits", c.limits)
	t.Run("ingress", c.ingress)
	t.Run("eks-class", c.eksClass)
	t.Run("issuer", c.issuer)
	t.Run("pull", c.pull)
	t.Run("disable-admin", c.disableAdmin)
	t.Run("telemetry", c.telemetry)
}

// run runs cases of an item that gets the administrator's kubeconfig unless the
// case gives another.
func (c *clusterRows) run(t *testing.T, item string, inputs map[string]any, cases []row) {
	t.Helper()
	for _, r := range cases {
		r.item = item
		own := maps.Clone(inputs)
		maps.Copy(own, r.inputs)
		r.inputs = own
		if r.given == nil {
			r.given = map[string]any{"kubeconfig.file": c.Kubeconfig}
		}
		t.Run(r.name, func(t *testing.T) { runRow(t, r) })
	}
}

// put applies objects as another field manager.
func (c *clusterRows) put(t *testing.T, r schema.GroupVersionResource, namespace string, objects ...map[string]any) {
	t.Helper()
	for _, o := range objects {
		raw, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		name := o["metadata"].(map[string]any)["name"].(string)
		force := true
		if _, err := c.dynamic.Resource(r).Namespace(namespace).Patch(t.Context(), name, types.ApplyPatchType, raw, metav1.PatchOptions{FieldManager: "terraform", Force: &force}); err != nil {
			t.Fatal(err)
		}
	}
}

func core(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: resource}
}

func (c *clusterRows) kubectl(t *testing.T) {
	other := pki.New(t, "another CA")
	raw, err := os.ReadFile(c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "kubeconfig")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := string(raw)
	untrusted := write(fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}]\nusers: [{name: u, user: {token: none-at-all}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n", c.Server, other.File(t)))
	plugin := write("apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: \"https://a.example\"}}]\nusers: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: airlock-no-such-plugin, interactiveMode: Never}}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n")
	c.run(t, "configure-kubectl-credentials", map[string]any{"k8s.kubeconfig": c.Kubeconfig}, []row{
		{name: "good", inputs: map[string]any{"workers.kind": "docker"}, want: install.StatePass, more: []bundle.Source{backendChart(t, nil)}, given: map[string]any{}},
		{name: "no chart", want: install.StateWarn, given: map[string]any{}},
		{name: "few rights", inputs: map[string]any{"k8s.kubeconfig": c.guest}, want: install.StateFail, code: "K8S-03", says: []string{"get namespaces", "cluster administrator"}, given: map[string]any{}},
		{name: "plugin", inputs: map[string]any{"k8s.kubeconfig": plugin}, want: install.StateFail, code: "K8S-01", says: []string{"airlock-no-such-plugin", "client certificate"}, given: map[string]any{}},
		{name: "other authority", inputs: map[string]any{"k8s.kubeconfig": untrusted}, want: install.StateFail, code: "K8S-02", says: []string{strings.TrimPrefix(c.Server, "https://"), "certificate-authority-data"}, given: map[string]any{}},
		{name: "other context", inputs: map[string]any{"k8s.context": "nothing"}, want: install.StateFail, code: "K8S-07", says: []string{"nothing", "k8s.context"}, given: map[string]any{}},
		{name: "other cluster", inputs: map[string]any{"k8s.cluster": "production"}, want: install.StateFail, code: "K8S-14", says: []string{"production"}, given: map[string]any{}},
	})
	if now, err := os.ReadFile(c.Kubeconfig); err != nil || string(now) != text {
		t.Errorf("the user's kubeconfig has changed: %v", err)
	}
}

func (c *clusterRows) namespaces(t *testing.T) {
	small, held := c.Namespace(t), c.Namespace(t)
	c.put(t, core("resourcequotas"), small, map[string]any{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": map[string]any{"name": "small"}, "spec": map[string]any{"hard": map[string]any{"pods": "3"}}})
	c.put(t, core("configmaps"), held, map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "m", "finalizers": []any{"example.org/held"}}})
	if err := c.Clientset.CoreV1().Namespaces().Delete(t.Context(), held, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := c.Clientset.CoreV1().ConfigMaps(held).Patch(context.Background(), "m", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
			t.Error(err)
		}
	})
	c.run(t, "create-kubernetes-namespace", map[string]any{"k8s.namespace": "spacelift-rows", "workers.namespace": "workers-rows"}, []row{
		{name: "good", inputs: map[string]any{"k8s.pod_security": "baseline"}, want: install.StatePass},
		{name: "again", inputs: map[string]any{"k8s.pod_security": "baseline"}, want: install.StatePass},
		{name: "all", inputs: map[string]any{"k8s.pod_security": "baseline", "tls.mode": "cert-manager", "ingress.install": true}, want: install.StatePass},
		{name: "eks", platform: "eks", inputs: map[string]any{"k8s.namespace": "spacelift-eks", "workers.namespace": "workers-eks", "k8s.pod_security": "privileged"}, want: install.StatePass},
	})
	const level, gate = "pod-security.kubernetes.io/enforce", "eks.amazonaws.com/pod-readiness-gate-inject"
	for name, want := range map[string][2]string{
		"spacelift-rows": {"baseline", ""}, "spacelift-eks": {"privileged", "enabled"}, "workers-rows": {"baseline", ""}, "workers-eks": {"privileged", ""},
		controllerNamespace: {"privileged", ""}, "cert-manager": {"baseline", ""}, "ingress-nginx": {"baseline", ""},
	} {
		ns, err := c.Clientset.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || ns.Labels[level] != want[0] || ns.Labels[gate] != want[1] {
			t.Errorf("namespace %s: labels %v, %v", name, ns.Labels, err)
		}
	}
	c.run(t, "create-kubernetes-namespace", map[string]any{"k8s.namespace": "spacelift-rows", "workers.namespace": "workers-rows"}, []row{
		{name: "terminating", inputs: map[string]any{"k8s.namespace": held}, want: install.StateFail, code: "NS-01", says: []string{held, "Terminating", "finalizer"}},
		{name: "quota", inputs: map[string]any{"k8s.namespace": small}, want: install.StateFail, code: "NS-02", says: []string{"small", "9 are needed", "three pods each"}},
		{name: "few rights", given: map[string]any{"kubeconfig.file": c.guest}, want: install.StateFail, code: "K8S-03", says: []string{"namespaces", "administrator"}},
	})
}

// limits: a namespace that is there may have limits which keep the pods of the
// chart out.
func (c *clusterRows) limits(t *testing.T) {
	var of [4]string
	for i, item := range []map[string]any{
		{"type": "Container", "default": map[string]any{"memory": "128Mi"}, "defaultRequest": map[string]any{"memory": "64Mi"}},
		{"type": "Container", "max": map[string]any{"cpu": "150m"}},
		{"type": "Pod", "min": map[string]any{"memory": "64Mi"}},
		{"type": "Container", "default": map[string]any{"memory": "1Gi", "cpu": "2"}, "max": map[string]any{"memory": "4Gi", "cpu": "4"}, "min": map[string]any{"memory": "1Mi"}},
	} {
		of[i] = c.Namespace(t)
		c.put(t, core("limitranges"), of[i], map[string]any{"apiVersion": "v1", "kind": "LimitRange", "metadata": map[string]any{"name": "site"}, "spec": map[string]any{"limits": []any{item}}})
	}
	strict, narrow := c.Namespace(t), c.Namespace(t)
	quota := func(ns, name string, hard map[string]any) {
		c.put(t, core("resourcequotas"), ns, map[string]any{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": map[string]any{"name": name}, "spec": map[string]any{"hard": hard}})
	}
	quota(strict, "strict", map[string]any{"limits.memory": "64Gi"})
	quota(narrow, "narrow", map[string]any{"requests.memory": "1Gi"})
	quota(of[3], "roomy", map[string]any{"limits.memory": "64Gi", "limits.cpu": "64", "requests.cpu": "8"})
	in := func(ns string) map[string]any {
		return map[string]any{"k8s.namespace": ns, "workers.kind": "docker"}
	}
	c.run(t, "create-kubernetes-namespace", map[string]any{}, []row{
		{name: "small default", inputs: in(of[0]), want: install.StateFail, code: "NS-03", says: []string{"limit range site", "the pods of server", "128Mi memory", "200Mi", "server.resources"}},
		{name: "no limit", inputs: in(of[1]), want: install.StateFail, code: "NS-03", says: []string{"150m cpu", "none"}},
		{name: "least", inputs: in(of[2]), want: install.StateFail, code: "NS-03", says: []string{"the pods of scheduler", "64Mi memory", "50Mi"}},
		{name: "quota of limits", inputs: in(strict), want: install.StateFail, code: "NS-02", says: []string{"strict", "no limits.memory", "LimitRange"}},
		{name: "quota of requests", inputs: in(narrow), want: install.StateFail, code: "NS-02", says: []string{"narrow", "1050Mi are needed"}},
		{name: "limits that fit", inputs: in(of[3]), want: install.StatePass},
	})
	// What the rows say is what the server does: of the pods that the row lets in,
	// and of those that it does not, the server says the same.
	for ns, want := range map[string]bool{of[0]: false, of[1]: false, strict: false, of[3]: true} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "server"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "demo/web:1", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse("200m"), "memory": resource.MustParse("200Mi")},
		}}}}}
		if _, err := c.Clientset.CoreV1().Pods(ns).Create(t.Context(), p, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); (err == nil) != want {
			t.Errorf("the server says of a pod of the server's: %v", err)
		}
	}
}

func (c *clusterRows) ingress(t *testing.T) {
	ns := c.Namespace(t)
	classes := schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "ingressclasses"}
	class := func(name, controller string) map[string]any {
		return map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": map[string]any{"name": name}, "spec": map[string]any{"controller": controller}}
	}
	c.put(t, classes, "", class("nginx", "k8s.io/ingress-nginx"), class("f5", "nginx.org/ingress-controller"))
	c.run(t, "install-ingress-controller", map[string]any{"k8s.namespace": ns, "hosts.server": netHost}, []row{
		{name: "good", want: install.StatePass},
		{name: "no class", inputs: map[string]any{"ingress.class": "traefik"}, want: install.StateFail, code: "ING-01", says: []string{"traefik", "nginx (k8s.io/ingress-nginx)", "ingress.install"}},
		{name: "limit", inputs: map[string]any{"ingress.class": "f5"}, want: install.StateWarn, code: "ING-04", says: []string{"1m", "raise it"}},
	})
	hooks := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"}
	c.put(t, hooks, "", map[string]any{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": map[string]any{"name": "rows"}, "webhooks": []any{map[string]any{
		"name": "rows.example.org", "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": []any{"v1"}, "timeoutSeconds": 1,
		"clientConfig":      map[string]any{"url": "https://127.0.0.1:1/"},
		"namespaceSelector": map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": ns}},
		"rules":             []any{map[string]any{"apiGroups": []any{"networking.k8s.io"}, "apiVersions": []any{"v1"}, "operations": []any{"CREATE"}, "resources": []any{"ingresses"}}},
	}}})
	for end := time.Now().Add(20 * time.Second); ; { // the API server takes a moment to learn of it
		got := runQuiet(t, row{item: "install-ingress-controller", inputs: map[string]any{"k8s.namespace": ns, "hosts.server": netHost}, given: map[string]any{"kubeconfig.file": c.Kubeconfig}})
		if got == install.StateFail || time.Now().After(end) {
			break
		}
	}
	c.run(t, "install-ingress-controller", map[string]any{"k8s.namespace": ns, "hosts.server": netHost}, []row{
		{name: "not admitted", want: install.StateFail, code: "ING-06", says: []string{"rows.example.org", "API server reach"}},
	})
}

// runQuiet runs an item and returns its state, whatever it is.
func runQuiet(t *testing.T, r row) install.State {
	t.Helper()
	c := rowChecklist(t, r)
	site, _ := rowSite(t, r, c)
	b := rowBundle(t, r, c)
	a := &app{output: "text"}
	hosts, target, err := a.siteRegistry(t.Context(), site, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o := install.Options{Site: site, SiteDir: t.TempDir(), State: t.TempDir(), Actor: "tester"}
	if err := os.Chmod(o.State, 0o700); err != nil {
		t.Fatal(err)
	}
	o.Probes, o.Actions = a.kinds(hosts, target, site)
	o.Actions["test.give"] = give(r.given)
	rep, err := install.Run(t.Context(), b, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, ph := range rep.Phases {
		for _, it := range ph.Items {
			if it.ID == r.item {
				return it.State
			}
		}
	}
	return ""
}

// types makes types that take anything, with a status.
func (c *clusterRows) types(t *testing.T, group, scope string, kinds map[string]string) {
	t.Helper()
	r := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	for kind, plural := range kinds {
		c.put(t, r, "", map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{
				"name":        plural + "." + group,
				"annotations": map[string]any{"api-approved.kubernetes.io": "unapproved, a stand-in"}, // where group is Kubernetes' own
			},
			"spec": map[string]any{"group": group, "scope": scope, "names": map[string]any{"kind": kind, "plural": plural}, "versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true, "subresources": map[string]any{"status": map[string]any{}},
				"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
			}}},
		})
		for end := time.Now().Add(30 * time.Second); ; {
			_, err := c.dynamic.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: plural}).List(t.Context(), metav1.ListOptions{})
			if err == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
}

func (c *clusterRows) eksClass(t *testing.T) {
	const item = "eks-ingress-class"
	in := map[string]any{"aws.private_subnet_ids": []any{"subnet-a", "subnet-b"}, "tls.acm_arn": rowCert}
	c.run(t, item, in, []row{{name: "no Auto Mode", platform: "eks", want: install.StateFail, code: "ING-08", says: []string{"IngressClassParams", "Auto Mode"}}})
	c.types(t, "eks.amazonaws.com", "Cluster", map[string]string{"IngressClassParams": "ingressclassparams"})
	params := schema.GroupVersionResource{Group: "eks.amazonaws.com", Version: "v1", Resource: "ingressclassparams"}
	c.run(t, item, in, []row{{name: "good", platform: "eks", want: install.StatePass}})
	o, err := c.dynamic.Resource(params).Get(t.Context(), "spacelift", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if raw, _ := json.Marshal(o.Object["spec"]); !strings.Contains(string(raw), `"scheme":"internal"`) || !strings.Contains(string(raw), "subnet-b") || !strings.Contains(string(raw), rowCert) {
		t.Errorf("%s", raw)
	}
	c.put(t, params, "", map[string]any{"apiVersion": "eks.amazonaws.com/v1", "kind": "IngressClassParams", "metadata": map[string]any{"name": "spacelift"}, "spec": map[string]any{"scheme": "internet-facing"}})
	c.run(t, item, in, []row{{name: "of the module", platform: "eks", want: install.StateFail, code: "ING-05", says: []string{"scheme", "terraform", "internet-facing"}}})
}

// manager stands in for cert-manager: issuers are ready at once, and what is asked
// for is issued by an authority.
func (c *clusterRows) manager(t *testing.T, ca *pki.Authority) {
	ready := []byte(`{"status":{"conditions":[{"type":"Ready","status":"True","reason":"Stand-in"}]}}`)
	issuers := schema.GroupVersionResource{Group: "cert-manager.io", Version: "v1", Resource: "clusterissuers"}
	certificates := c.dynamic.Resource(schema.GroupVersionResource{Group: "cert-manager.io", Version: "v1", Resource: "certificates"}).Namespace("cert-manager")
	path, key := pki.Files(t, ca.Server(t, []string{"probe." + netHost}))
	var pair [2][]byte
	for i, p := range []string{path, key} {
		var err error
		if pair[i], err = os.ReadFile(p); err != nil {
			t.Fatal(err)
		}
	}
	tend(t, 100*time.Millisecond, func(ctx context.Context) {
		if list, err := c.dynamic.Resource(issuers).List(ctx, metav1.ListOptions{}); err == nil {
			for _, o := range list.Items {
				// What has just changed is seen at the next tick.
				_, _ = c.dynamic.Resource(issuers).Patch(ctx, o.GetName(), types.MergePatchType, ready, metav1.PatchOptions{}, "status")
			}
		}
		list, err := certificates.List(ctx, metav1.ListOptions{})
		if err != nil {
			return
		}
		for _, o := range list.Items {
			name, _, _ := unstructured.NestedString(o.Object, "spec", "secretName")
			raw, _ := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": map[string]any{"name": name}, "data": map[string]any{"tls.crt": pair[0], "tls.key": pair[1]}})
			force := true
			_, err := c.Clientset.CoreV1().Secrets("cert-manager").Patch(ctx, name, types.ApplyPatchType, raw, metav1.PatchOptions{FieldManager: "cert-manager", Force: &force})
			if err == nil {
				// As above.
				_, _ = certificates.Patch(ctx, o.GetName(), types.MergePatchType, ready, metav1.PatchOptions{}, "status")
				if _, err := certificates.Get(ctx, o.GetName(), metav1.GetOptions{}); apierrors.IsNotFound(err) {
					_ = c.Clientset.CoreV1().Secrets("cert-manager").Delete(ctx, name, metav1.DeleteOptions{}) // or the test finds it
				}
			}
		}
	})
}

func (c *clusterRows) issuer(t *testing.T) {
	c.types(t, "cert-manager.io", "Cluster", map[string]string{"ClusterIssuer": "clusterissuers"})
	c.types(t, "cert-manager.io", "Namespaced", map[string]string{"Certificate": "certificates"})
	c.put(t, core("namespaces"), "", map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "cert-manager"}})
	ca, other := pki.New(t, "enclave CA"), pki.New(t, "another CA")
	c.manager(t, ca)
	chain, key := pki.Files(t, ca.Server(t, []string{"ca.example"}))
	keyText, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]any{
		"tls.mode": "cert-manager", "hosts.server": netHost, "tls.ca_file": ca.File(t),
		"issuer.kind": "ca", "issuer.ca_cert_file": chain, "issuer.ca_key": string(keyText),
	}
	issuers := schema.GroupVersionResource{Group: "cert-manager.io", Version: "v1", Resource: "clusterissuers"}
	c.put(t, issuers, "", map[string]any{"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": map[string]any{"name": "owned"}, "spec": map[string]any{"selfSigned": map[string]any{"a": "b"}, "ca": map[string]any{"secretName": "theirs"}}})
	kind := func(name, kind string, more map[string]any) map[string]any {
		out := map[string]any{"issuer.kind": kind, "issuer.name": name}
		maps.Copy(out, more)
		return out
	}
	c.run(t, "create-cluster-issuer", in, []row{
		{name: "ca", want: install.StatePass},
		{name: "self-signed", inputs: kind("self", "selfSigned", nil), want: install.StatePass},
		{name: "vault", inputs: kind("vault", "vault", map[string]any{"issuer.vault_url": "https://vault.example:8200", "issuer.vault_token": "hvs.token-of-vault"}), want: install.StatePass},
		{name: "vault login", inputs: kind("vault-login", "vault", map[string]any{
			"issuer.vault_url": "https://vault.example:8200", "issuer.vault_path": "pki-site/sign/spacelift", "issuer.vault_role": "enclave", "issuer.server_ca_file": other.File(t),
		}), want: install.StatePass},
		{name: "acme", inputs: kind("acme", "acme-internal", map[string]any{"issuer.acme_url": "https://acme.example/directory", "ingress.class": "enclave"}), want: install.StatePass},
		{name: "acme with a login", inputs: kind("acme-login", "acme-internal", map[string]any{
			"issuer.acme_url": "https://acme.example/directory", "pull.username": "puller", "pull.password": "password-of-the-puller",
		}), want: install.StatePass},
		{name: "public ACME", after: "choose-issuer", inputs: map[string]any{"issuer.kind": "acme-internal", "issuer.name": "public", "issuer.acme_url": "https://acme-v02.api.letsencrypt.org/directory"}, want: install.StateBlocked},
		{name: "not trusted", inputs: map[string]any{"tls.ca_file": other.File(t)}, want: install.StateFail, code: "ISS-04", says: []string{"enclave-ca", "enclave CA", "issuer.ca_cert_file"}},
		{name: "of somebody else", inputs: map[string]any{"issuer.name": "owned"}, want: install.StateFail, code: "ISS-05", says: []string{"spec.ca.secretName", "terraform", "issuer.name"}},
		{name: "few rights", given: map[string]any{"kubeconfig.file": c.guest}, want: install.StateFail, code: "K8S-03", says: []string{"get secrets", "administrator"}},
	})
	if o, err := c.dynamic.Resource(issuers).Get(t.Context(), "public", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a public issuer is there: %v, %v", o, err)
	}
	less := maps.Clone(in)
	delete(less, "issuer.ca_key")
	c.run(t, "create-cluster-issuer", less, []row{{name: "no key", want: install.StateFail, code: "ISS-02", says: []string{"enclave-ca", "cert-manager", "tls.key"}}})
	read := func(path string) []byte {
		t.Helper()
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	bundle := func(path string) string { return base64.StdEncoding.EncodeToString(read(path)) }
	for name, want := range map[string]map[string]any{
		"enclave-ca": {"ca": map[string]any{"secretName": "enclave-ca"}},
		"self":       {"selfSigned": map[string]any{}},
		"vault": {"vault": map[string]any{
			"server": "https://vault.example:8200", "path": "pki/sign/spacelift", "caBundle": bundle(ca.File(t)),
			"auth": map[string]any{"tokenSecretRef": map[string]any{"name": "vault-vault", "key": "token"}},
		}},
		"vault-login": {"vault": map[string]any{
			"server": "https://vault.example:8200", "path": "pki-site/sign/spacelift", "caBundle": bundle(other.File(t)),
			"auth": map[string]any{"kubernetes": map[string]any{"role": "enclave", "mountPath": "/v1/auth/kubernetes", "serviceAccountRef": map[string]any{"name": "cert-manager"}}},
		}},
		"acme": {"acme": map[string]any{
			"server": "https://acme.example/directory", "caBundle": bundle(ca.File(t)), "privateKeySecretRef": map[string]any{"name": "acme-account"},
			"solvers": []any{map[string]any{"http01": map[string]any{"ingress": map[string]any{"ingressClassName": "enclave"}}}},
		}},
		"acme-login": {"acme": map[string]any{
			"server": "https://acme.example/directory", "caBundle": bundle(ca.File(t)), "privateKeySecretRef": map[string]any{"name": "acme-login-account"},
			"solvers": []any{map[string]any{"http01": map[string]any{"ingress": map[string]any{
				"ingressClassName": "nginx", "podTemplate": map[string]any{"spec": map[string]any{"imagePullSecrets": []any{map[string]any{"name": "enclave-registry"}}}},
			}}}},
		}},
	} {
		o, err := c.dynamic.Resource(issuers).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, o.Object["spec"]); d != "" {
			t.Errorf("issuer %s: %s", name, d)
		}
	}
	for name, want := range map[string]map[string]string{"enclave-ca": {"tls.crt": chain, "tls.key": key}, "vault-vault": {"token": rowFile(t, []byte("hvs.token-of-vault"))}} {
		s, err := c.Clientset.CoreV1().Secrets("cert-manager").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || len(s.Data) != len(want) {
			t.Fatalf("secret %s has %d keys, %v", name, len(s.Data), err)
		}
		for k, path := range want {
			// A secret of the site has no line end.
			if strings.TrimSpace(string(s.Data[k])) != strings.TrimSpace(string(read(path))) {
				t.Errorf("secret %s: %s is not what the site gives", name, k)
			}
		}
	}
	// A stand-in that is just issuing makes the Secret again and sees afterwards that
	// nobody wants it.
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		list, err := c.Clientset.CoreV1().Secrets("cert-manager").List(t.Context(), metav1.ListOptions{})
		if err == nil && !strings.Contains(fmt.Sprint(list.Items), "airlock-probe") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("what a probe made is left: %v", err)
		}
	}
}

func (c *clusterRows) pull(t *testing.T) {
	ns, workers := c.Namespace(t), c.Namespace(t)
	for _, name := range []string{controllerNamespace, "cert-manager", "ingress-nginx"} {
		c.put(t, core("namespaces"), "", map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}})
	}
	in := map[string]any{"k8s.namespace": ns, "workers.namespace": workers, "pull.username": "puller", "pull.password": "password-of-the-puller"}
	registry := &manifests.SiteRegistry{To: "registry.example:5000/mirror"}
	held := func(namespaces ...string) {
		t.Helper()
		for _, name := range []string{ns, workers, controllerNamespace, "cert-manager", "ingress-nginx"} {
			s, err := c.Clientset.CoreV1().Secrets(name).Get(t.Context(), "enclave-registry", metav1.GetOptions{})
			if want := slices.Contains(namespaces, name); (err == nil) != want {
				t.Errorf("namespace %s has a pull secret: %v, want %v", name, err == nil, want)
			} else if want && (s.Type != corev1.SecretTypeDockerConfigJson || !strings.Contains(string(s.Data[corev1.DockerConfigJsonKey]), `"registry.example:5000":{"auth":"`)) {
				t.Errorf("namespace %s: %s %d keys", name, s.Type, len(s.Data))
			}
		}
	}
	c.run(t, "image-pull-credentials", in, []row{
		{name: "docker workers", inputs: map[string]any{"workers.kind": "docker"}, registry: registry, want: install.StatePass},
	})
	held(ns)
	c.run(t, "image-pull-credentials", in, []row{{name: "workers in the cluster", registry: registry, want: install.StatePass}})
	held(ns, workers, controllerNamespace)
	c.run(t, "image-pull-credentials", in, []row{
		{name: "eks", platform: "eks", registry: registry, inputs: map[string]any{"tls.mode": "acm"}, want: install.StatePass},
		{name: "good", registry: registry, inputs: map[string]any{"tls.mode": "cert-manager", "ingress.install": true}, want: install.StatePass},
		{name: "again", registry: registry, inputs: map[string]any{"tls.mode": "cert-manager", "ingress.install": true}, want: install.StatePass},
		{name: "no namespace", registry: registry, inputs: map[string]any{"k8s.namespace": "no-such-namespace"}, want: install.StateFail, code: "PULL-01", says: []string{"no-such-namespace", "does not exist"}},
		{name: "no namespace of workers", registry: registry, inputs: map[string]any{"workers.namespace": "no-such-workers"}, want: install.StateFail, code: "PULL-01", says: []string{"no-such-workers", "does not exist"}},
		{name: "few rights", registry: registry, given: map[string]any{"kubeconfig.file": c.guest}, want: install.StateFail, code: "PULL-01", says: []string{ns, "may not get secrets"}},
	})
	held(ns, workers, controllerNamespace, "cert-manager", "ingress-nginx")
	for _, name := range []string{"spacelift-backend", "spacelift-server", "spacelift-drain", "spacelift-scheduler", "spacelift-vcs-gateway"} {
		sa, err := c.Clientset.CoreV1().ServiceAccounts(ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || len(sa.ImagePullSecrets) != 1 || sa.Labels["app.kubernetes.io/managed-by"] != "Helm" {
			t.Errorf("%s: %+v, %v", name, sa, err)
		}
	}
}

// backend puts deployments there that read a secret, and waits until they are up.
func (c *clusterRows) backend(t *testing.T, ns, secret string, names ...string) {
	t.Helper()
	deployments := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	for _, name := range names {
		labels := map[string]any{"app": name}
		c.put(t, deployments, ns, map[string]any{
			"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": name},
			"spec": map[string]any{"replicas": 1, "selector": map[string]any{"matchLabels": labels}, "template": map[string]any{
				"metadata": map[string]any{"labels": labels},
				"spec":     map[string]any{"containers": []any{map[string]any{"name": "c", "image": "demo/web:1", "envFrom": []any{map[string]any{"secretRef": map[string]any{"name": secret}}}}}},
			}},
		})
		for end := time.Now().Add(time.Minute); ; {
			d, err := c.Clientset.AppsV1().Deployments(ns).Get(t.Context(), name, metav1.GetOptions{})
			if err != nil || time.Now().After(end) {
				t.Fatalf("%s is not up: %v", name, err)
			}
			if d.Status.AvailableReplicas == 1 {
				break
			}
		}
	}
}

func (c *clusterRows) secret(t *testing.T, ns, name string, data map[string]any) {
	t.Helper()
	raw, _ := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": name}, "stringData": data})
	if _, err := c.Clientset.CoreV1().Secrets(ns).Patch(t.Context(), name, types.ApplyPatchType, raw, metav1.PatchOptions{FieldManager: "airlock"}); err != nil {
		t.Fatal(err)
	}
}

func (c *clusterRows) disableAdmin(t *testing.T) {
	s := spacelift.Start(t, spacelift.Options{})
	ns, bare := c.Namespace(t), c.Namespace(t)
	c.secret(t, ns, "spacelift-server", map[string]any{"ADMIN_USERNAME": "root", "ADMIN_PASSWORD": "first-password-of-root", "OTHER": "kept"})
	c.backend(t, ns, "spacelift-server", "spacelift-server")
	in := at(s, map[string]any{"k8s.namespace": ns, "admin.disable": true, "sso.type": "oidc"})
	c.run(t, "prove-other-login", in, []row{
		{name: "no key", inputs: map[string]any{"api.key_id": ""}, want: install.StateFail, code: "DIS-01", says: []string{"api.key_id", "second administrator"}},
		{name: "wrong key", inputs: map[string]any{"api.key_secret": "3f1c9f0e-of-somebody-else"}, want: install.StateFail, code: "DIS-01", says: []string{"other way in"}},
		{name: "good", want: install.StatePass},
	})
	// A way in that is not proven stops the item that would close the other.
	c.run(t, "disable-admin-login", in, []row{
		{name: "wrong key", after: "prove-other-login", inputs: map[string]any{"api.key_secret": "3f1c9f0e-of-somebody-else"}, want: install.StateBlocked},
		{name: "no secret", inputs: map[string]any{"k8s.namespace": bare}, want: install.StateFail, code: "DIS-02", says: []string{"there is no secret", "spacelift-server"}},
	})
	before, err := c.Clientset.CoreV1().Secrets(ns).Get(t.Context(), "spacelift-server", metav1.GetOptions{})
	if err != nil || string(before.Data["ADMIN_PASSWORD"]) != "first-password-of-root" {
		t.Errorf("%d keys, %v", len(before.Data), err)
	}
	if d, err := c.Clientset.AppsV1().Deployments(ns).Get(t.Context(), "spacelift-server", metav1.GetOptions{}); err != nil || d.Generation != 1 {
		t.Errorf("restarted: generation %d, %v", d.Generation, err)
	}
	c.run(t, "disable-admin-login", in, []row{{name: "good", after: "prove-other-login", want: install.StatePass}})
	got, err := c.Clientset.CoreV1().Secrets(ns).Get(t.Context(), "spacelift-server", metav1.GetOptions{})
	if err != nil || len(got.Data["ADMIN_PASSWORD"]) > 0 || string(got.Data["OTHER"]) != "kept" {
		t.Errorf("%d keys, %v", len(got.Data), err)
	}
}

func (c *clusterRows) telemetry(t *testing.T) {
	ns, bare, half := c.Namespace(t), c.Namespace(t), c.Namespace(t)
	for _, n := range []string{ns, half} {
		c.secret(t, n, "spacelift-shared", map[string]any{"OBSERVABILITY_VENDOR": "Disabled", "SERVER_DOMAIN": netHost})
	}
	readers := []string{"spacelift-server", "spacelift-drain", "spacelift-scheduler", "spacelift-vcs-gateway"}
	c.backend(t, ns, "spacelift-shared", readers...)
	time.Sleep(1100 * time.Millisecond) // a change in the second in which a Secret was made cannot be told from its making
	in := map[string]any{"k8s.namespace": ns, "telemetry.vendor": "OpenTelemetry", "telemetry.endpoint": "http://otel.site-a.example:4317"}
	c.run(t, "telemetry-rollout", in, []row{
		{name: "good", want: install.StatePass},
		{name: "disabled", inputs: map[string]any{"telemetry.vendor": "Disabled"}, want: install.StateSkipped},
		{name: "no secret", inputs: map[string]any{"k8s.namespace": bare}, want: install.StateFail, code: "TEL-05", says: []string{"there is no secret", "create-kubernetes-secrets"}},
		{name: "no deployment", inputs: map[string]any{"k8s.namespace": half}, want: install.StateFail, code: "TEL-06", says: []string{"spacelift-server", "no deployment"}},
	})
	for _, name := range readers {
		d, err := c.Clientset.AppsV1().Deployments(ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || d.Spec.Template.Annotations["airlock-project.io/secrets"] == "" {
			t.Errorf("%s was not restarted: %v, %v", name, d.Spec.Template.Annotations, err)
		}
	}
	// A chart of later versions has no scheduler, and few sites have a gateway.
	few := c.Namespace(t)
	c.secret(t, few, "spacelift-shared", map[string]any{"OBSERVABILITY_VENDOR": "Disabled"})
	c.backend(t, few, "spacelift-shared", "spacelift-server", "spacelift-drain")
	c.run(t, "telemetry-rollout", in, []row{{name: "without scheduler and gateway", inputs: map[string]any{"k8s.namespace": few}, want: install.StatePass}})
}
