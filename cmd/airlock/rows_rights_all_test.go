//go:build all

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/cluster"
	"github.com/airlock-project/airlock/testdata/pki"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// rightsIssuer are the inputs of an issuer of the enclave's authority.
func rightsIssuer(t *testing.T, ca *pki.Authority) map[string]any {
	t.Helper()
	chain, key := pki.Files(t, ca.Server(t, []string{"ca.example"}))
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"tls.mode": "cert-manager", "tls.ca_file": ca.File(t), "issuer.kind": "ca", "issuer.ca_cert_file": chain, "issuer.ca_key": string(text)}
}

// spare are rights that no row of a test uses.
var spare = map[string]string{
	"list jobs.batch": "Helm lists before it watches where an API server has no streaming lists",
}

// tried is what is done without a right to it, and may be refused.
var tried = map[string]string{
	"list statefulsets.apps": "to say why there is no pod", "list daemonsets.apps": "to say why there is no pod", "list jobs.batch": "to say why there is no pod",
}

// TestRowsRightsOnprem: a site with cert-manager and an ingress controller from
// the bundle, in namespaces that are there already.
func TestRowsRightsOnprem(t *testing.T) {
	t.Parallel()
	b := newRightsBox(t)
	ns := b.Namespace(t)
	for _, n := range []string{"cert-manager", "ingress-nginx"} {
		if _, err := b.Clientset.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var sources rightsSources
	sources.add(t, "spacelift", func(t *testing.T, v variant) (bundle.Source, []string) { return spaceliftChart(t, v), nil })
	sources.add(t, "cert-manager", certManager)
	sources.add(t, "ingress-nginx", ingressNginx)
	ca := pki.New(t, "enclave CA")
	in := map[string]any{
		"k8s.namespace": ns, "workers.kind": "docker", "hosts.server": netHost, "hosts.vcs_gateway": "localhost", "ingress.class": "nginx", "ingress.install": true, "ingress.address": "10.0.0.9",
		"pull.username": "puller", "pull.password": "password-of-the-puller", "db.url": "postgres://spacelift:pw-of-db@db.site-a.example:5432/spacelift",
	}
	maps.Copy(in, rightsIssuer(t, ca))
	site := rightsSite{works: []string{ns}, spare: map[string]string{
		"create namespaces":                    "they are there",
		"list challenges.acme.cert-manager.io": "of an ACME issuer that does not issue is said why",
	}}
	b.check(t, site, row{inputs: in, more: sources.with(t, good)}, func(t *testing.T, kubeconfig, holder string) {
		do := b.rows(t, row{inputs: in, given: b.mirror(t, kubeconfig, sources.images...)})
		b.addresses(t, "10.0.0.9")
		url, caBundle := hook(t)
		do(row{item: "create-kubernetes-namespace", want: install.StatePass})
		for item, c := range map[string]struct{ chart, unreachable string }{"install-ingress-controller": {"ingress-nginx", "ING-06"}, "install-cert-manager": {"cert-manager", "CM-02"}} {
			do(row{item: item, more: sources.with(t, broken, c.chart), limit: limit, want: install.StateFail, code: "HELM-03"})
			// Who has what the chart gives may give it.
			do(row{item: item, more: sources.with(t, good, c.chart), given: map[string]any{"kubeconfig.file": holder}, want: install.StateFail, code: c.unreachable})
			do(row{item: item, more: sources.with(t, newer, c.chart), want: install.StateFail, code: c.unreachable})
		}
		b.reachable(t, url, caBundle)
		do(row{item: "install-ingress-controller", more: sources.with(t, newer, "ingress-nginx"), want: install.StatePass})
		do(row{item: "install-cert-manager", more: sources.with(t, newer, "cert-manager"), want: install.StatePass})
		b.issue(t, ca)
		do(row{item: "create-cluster-issuer", want: install.StatePass})
		do(row{item: "image-pull-credentials", want: install.StatePass})
		do(row{item: "reach-from-cluster", limit: "20s", want: install.StateFail, code: "CLU-02"})
		backendSecrets(t, b.Cluster, ns)
		deploy(t, &sources, do)
		do(row{item: "vcs-gateway", want: install.StateFail, code: "VGW-02"})
	})
}

// rows returns a function that runs rows as the site's user, with what all have
// in common.
func (b *rightsBox) rows(t *testing.T, all row) func(row) *install.ItemReport {
	return func(r row) (got *install.ItemReport) {
		t.Helper()
		given := maps.Clone(all.given)
		maps.Copy(given, r.given)
		in := maps.Clone(all.inputs)
		maps.Copy(in, r.inputs)
		r.platform, r.inputs, r.given, r.registry = all.platform, in, given, &manifests.SiteRegistry{To: b.host + "/airlock"}
		t.Run(r.item, func(t *testing.T) { got = runRow(t, r) })
		return got
	}
}

// deploy runs the row about Spacelift itself, and once more for a newer chart.
func deploy(t *testing.T, sources *rightsSources, do func(row) *install.ItemReport) {
	t.Helper()
	do(row{item: "deploy-helm-chart", more: sources.with(t, good, "spacelift"), want: install.StatePass})
	do(row{item: "deploy-helm-chart", more: sources.with(t, newer, "spacelift"), want: install.StatePass})
}

// TestRowsRights: a site that brings its certificates and its ingress controller,
// in a namespace that is there already: next to nothing in the whole cluster.
func TestRowsRights(t *testing.T) {
	t.Parallel()
	b := newRightsBox(t)
	ns := b.Namespace(t)
	class := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "nginx"}, Spec: networkingv1.IngressClassSpec{Controller: "k8s.io/ingress-nginx"}}
	if _, err := b.Clientset.NetworkingV1().IngressClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var sources rightsSources
	sources.add(t, "spacelift", func(t *testing.T, v variant) (bundle.Source, []string) { return spaceliftChart(t, v), nil })
	in := map[string]any{
		"k8s.namespace": ns, "workers.kind": "docker", "hosts.server": netHost, "hosts.vcs_gateway": "localhost", "db.url": "postgres://spacelift:pw-of-db@db.site-a.example:5432/spacelift",
		"pull.username": "puller", "pull.password": "password-of-the-puller",
	}
	site := rightsSite{spare: map[string]string{"create namespaces": "it is there"}}
	b.check(t, site, row{inputs: in, more: sources.with(t, good)}, func(t *testing.T, kubeconfig, _ string) {
		do := b.rows(t, row{inputs: in, given: b.mirror(t, kubeconfig)})
		do(row{item: "create-kubernetes-namespace", want: install.StatePass})
		do(row{item: "install-ingress-controller", want: install.StatePass})
		do(row{item: "image-pull-credentials", want: install.StatePass})
		do(row{item: "reach-from-cluster", limit: "20s", want: install.StateFail, code: "CLU-02"})
		backendSecrets(t, b.Cluster, ns)
		do(row{item: "deploy-helm-chart", more: sources.with(t, broken, "spacelift"), limit: limit, want: install.StateFail, code: "HELM-03"})
		deploy(t, &sources, do)
		do(row{item: "vcs-gateway", want: install.StateFail, code: "VGW-02"})
	})
}

// TestRowsRightsAKS: a site with workers in the cluster and an ingress controller
// from the bundle, all of whose namespaces Airlock makes.
func TestRowsRightsAKS(t *testing.T) {
	t.Parallel()
	b := newRightsBox(t)
	const ns, workers = "spacelift", "spacelift-workers"
	var sources rightsSources
	sources.add(t, "spacelift", func(t *testing.T, v variant) (bundle.Source, []string) { return spaceliftChart(t, v), nil })
	sources.add(t, "spacelift-workerpool-controller", func(t *testing.T, v variant) (bundle.Source, []string) { return rightsController(t, v), nil })
	sources.add(t, "ingress-nginx", ingressNginx)
	in := secretInputs(map[string]any{
		"k8s.namespace": ns, "workers.kind": "kubernetes", "workers.namespace": workers, "hosts.server": netHost, "ingress.class": "nginx", "ingress.install": true, "ingress.address": "10.0.0.9",
		"pool.name": "main", "storage.type": "azure", "storage.azure.account_url": "https://spacelift.blob.core.windows.net", "telemetry.vendor": "OpenTelemetry", "telemetry.endpoint": "http://otel.site-a.example:4317",
	})
	site := rightsSite{works: []string{ns, "ingress-nginx", ""}, spare: map[string]string{
		"list workers.workers.spacelift.io in " + workers: "no worker of a pool registers here: TestRowsWorkers",
		"create jobs.batch in " + ns:                      "reach-from-cluster", "patch jobs.batch in " + ns: "reach-from-cluster", "delete jobs.batch in " + ns: "reach-from-cluster",
	}}
	b.check(t, site, row{platform: "aks", inputs: in, more: sources.with(t, good)}, func(t *testing.T, kubeconfig, holder string) {
		given := b.mirror(t, kubeconfig, append(sources.images, standIn)...)
		maps.Copy(given, map[string]any{
			"encryption.key_file": rowFile(t, []byte("a2V5LW9mLXRoZS1zaXRl")), "storage.uploads_url": "https://storage.site-a.example", "mqtt.endpoint": "tls://spacelift-mqtt.spacelift.svc.cluster.local:1984",
			"image.launcher.repository": b.host + "/airlock/spacelift-launcher", "image.launcher.tag": "v4.3.0",
			"pool.token_file": rowFile(t, []byte("token-of-the-pool")), "pool.key_file": rowFile(t, []byte("key-of-the-pool")),
			"pool.files": rowFile(t, []byte("apiVersion: workers.spacelift.io/v1beta1\nkind: WorkerPool\nmetadata: {name: main, namespace: "+workers+"}\nspec: {poolSize: 1}\n")),
		})
		do := b.rows(t, row{platform: "aks", inputs: in, given: given})
		b.addresses(t, "10.0.0.9")
		url, caBundle := hook(t)
		do(row{item: "create-kubernetes-namespace", want: install.StatePass})
		do(row{item: "install-ingress-controller", more: sources.with(t, good, "ingress-nginx"), want: install.StateFail, code: "ING-06"})
		do(row{item: "install-ingress-controller", more: sources.with(t, newer, "ingress-nginx"), want: install.StateFail, code: "ING-06"})
		b.reachable(t, url, caBundle)
		do(row{item: "install-ingress-controller", more: sources.with(t, newer, "ingress-nginx"), want: install.StatePass})
		do(row{item: "create-kubernetes-secrets", want: install.StatePass})
		deploy(t, &sources, do)
		do(row{item: "telemetry-rollout", want: install.StatePass})
		const controller = "spacelift-workerpool-controller"
		do(row{item: "install-workerpool-controller", more: sources.with(t, broken, controller), limit: limit, want: install.StateFail, code: "HELM-03"})
		do(row{item: "install-workerpool-controller", more: sources.with(t, good, controller), given: map[string]any{"kubeconfig.file": holder}, want: install.StatePass})
		do(row{item: "install-workerpool-controller", more: sources.with(t, newer, controller), want: install.StatePass})
		do(row{item: "deploy-worker-pool", want: install.StateFail, code: "WP-01"})
	})
}

// TestRowsRightsEKS: the load balancer's classes, one of them for the gateway
// with a certificate of its own.
func TestRowsRightsEKS(t *testing.T) {
	t.Parallel()
	b := newRightsBox(t)
	b.addresses(t, "10.0.0.9")
	ns := b.Namespace(t)
	d, err := dynamic.NewForConfig(b.REST)
	if err != nil {
		t.Fatal(err)
	}
	(&clusterRows{Cluster: b.Cluster, dynamic: d}).types(t, "eks.amazonaws.com", "Cluster", map[string]string{"IngressClassParams": "ingressclassparams"})
	var sources rightsSources
	sources.add(t, "spacelift", func(t *testing.T, v variant) (bundle.Source, []string) { return spaceliftChart(t, v), nil })
	const other = "arn:aws:acm:eu-west-1:123456789012:certificate/of-the-gateway"
	in := map[string]any{
		"k8s.namespace": ns, "workers.kind": "docker", "hosts.server": netHost, "hosts.vcs_gateway": "localhost", "tls.acm_arn": rowCert,
		"pull.username": "puller", "pull.password": "password-of-the-puller",
	}
	site := rightsSite{works: []string{ns}, spare: map[string]string{
		"create namespaces": "it is there",
		"create jobs.batch": "reach-from-cluster", "patch jobs.batch": "reach-from-cluster", "delete jobs.batch": "reach-from-cluster",
	}}
	b.check(t, site, row{platform: "eks", inputs: in, more: sources.with(t, good)}, func(t *testing.T, kubeconfig, _ string) {
		do := b.rows(t, row{platform: "eks", inputs: in, given: b.mirror(t, kubeconfig)})
		do(row{item: "create-kubernetes-namespace", want: install.StatePass})
		params := func(more map[string]any, certificate, spec string) {
			t.Helper()
			do(row{item: "eks-ingress-class", inputs: more, want: install.StatePass})
			for name, want := range map[string]string{"spacelift": rowCert, "spacelift-vcs-gateway": certificate} {
				o, err := d.Resource(schema.GroupVersionResource{Group: "eks.amazonaws.com", Version: "v1", Resource: "ingressclassparams"}).Get(t.Context(), name, metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				raw, err := json.Marshal(o.Object["spec"])
				if err != nil {
					t.Fatal(err)
				}
				if got, want := string(raw), `{"certificateARNs":["`+want+`"],"scheme":"internal"`+spec+`}`; got != want {
					t.Errorf("%s is %s, want %s", name, got, want)
				}
			}
		}
		params(nil, rowCert, "")
		params(map[string]any{"tls.vcs_gateway_acm_arn": other}, other, "")
		params(map[string]any{"tls.vcs_gateway_acm_arn": other, "aws.private_subnet_ids": []any{"subnet-a"}}, other, `,"subnets":{"ids":["subnet-a"]}`)
		class, err := b.Clientset.NetworkingV1().IngressClasses().Get(t.Context(), "spacelift-vcs-gateway", metav1.GetOptions{})
		if err != nil || class.Spec.Controller != "eks.amazonaws.com/alb" || class.Spec.Parameters.Name != "spacelift-vcs-gateway" {
			t.Errorf("%+v, %v", class, err)
		}
		do(row{item: "image-pull-credentials", want: install.StatePass})
		backendSecrets(t, b.Cluster, ns)
		deploy(t, &sources, do)
		do(row{item: "vcs-gateway", want: install.StateFail, code: "VGW-02"})
	})
}

// TestRowsRightsGKE: the gateway is one of the Gateway API there, and the
// exporter is installed.
func TestRowsRightsGKE(t *testing.T) {
	t.Parallel()
	b := newRightsBox(t)
	b.addresses(t, "10.0.0.9")
	ns := b.Namespace(t)
	d, err := dynamic.NewForConfig(b.REST)
	if err != nil {
		t.Fatal(err)
	}
	(&clusterRows{Cluster: b.Cluster, dynamic: d}).types(t, "gateway.networking.k8s.io", "Namespaced", map[string]string{"Gateway": "gateways", "HTTPRoute": "httproutes"})
	var sources rightsSources
	sources.add(t, "spacelift", func(t *testing.T, v variant) (bundle.Source, []string) { return spaceliftChart(t, v), nil })
	sources.add(t, "spacelift-promex", func(t *testing.T, v variant) (bundle.Source, []string) {
		return standChart(t, "spacelift-promex", v.labelled(map[string]string{
			"Chart.yaml": "apiVersion: v2\nname: spacelift-promex\nversion: " + v.version() + "\n", "values.yaml": "{}\n",
			"templates/d.yaml": standDeployment("spacelift-promex", only("apiEndpoint", standIn), ""),
		})), nil
	})
	in := map[string]any{
		"k8s.namespace": ns, "workers.kind": "docker", "hosts.server": netHost, "hosts.vcs_gateway": "localhost", "observability.install": true, "api.key_id": "01KEY", "api.key_secret": "secret-of-the-admin-key",
	}
	site := rightsSite{works: []string{ns}, spare: map[string]string{
		"create namespaces": "it is there",
		"create jobs.batch": "reach-from-cluster", "patch jobs.batch": "reach-from-cluster", "delete jobs.batch": "reach-from-cluster",
	}}
	b.check(t, site, row{platform: "gke", inputs: in, more: sources.with(t, good)}, func(t *testing.T, kubeconfig, _ string) {
		do := b.rows(t, row{platform: "gke", inputs: in, given: b.mirror(t, kubeconfig, standIn)})
		do(row{item: "create-kubernetes-namespace", want: install.StatePass})
		backendSecrets(t, b.Cluster, ns)
		deploy(t, &sources, do)
		do(row{item: "install-promex", more: sources.with(t, good, "spacelift-promex"), want: install.StatePass})
		do(row{item: "vcs-gateway", want: install.StateFail, code: "VGW-02"})
	})
}

// TestRowsRightsGitOps: where a controller applies the objects, the user only looks,
// and the preflight asks for just that.
func TestRowsRightsGitOps(t *testing.T) {
	b := newRightsBox(t)
	ns := b.Namespace(t)
	class := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "nginx"}, Spec: networkingv1.IngressClassSpec{Controller: "k8s.io/ingress-nginx"}}
	if _, err := b.Clientset.NetworkingV1().IngressClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var sources rightsSources
	sources.add(t, "spacelift", func(t *testing.T, v variant) (bundle.Source, []string) { return spaceliftChart(t, v), nil })
	in := map[string]any{
		"k8s.namespace": ns, "workers.kind": "docker", "hosts.server": netHost,
		"pull.username": "puller", "pull.password": "password-of-the-puller", "db.url": "postgres://spacelift:pw-of-db@db.site-a.example:5432/spacelift",
	}
	state, dir := t.TempDir(), t.TempDir()
	site := rightsSite{spare: map[string]string{
		"list ingressclasses.networking.k8s.io": "the row about the ingress controller",
		"list replicasets.apps":                 "where there is no pod",
	}}
	b.check(t, site, row{inputs: in, more: sources.with(t, good), tree: t.TempDir()}, func(t *testing.T, kubeconfig, _ string) {
		given := b.mirror(t, kubeconfig, "spacelift-backend:v4.3.0")
		argo := newController(t, b.Cluster)
		n := 0
		do := func(item string, v variant, want install.State, code string) {
			t.Helper()
			n++
			// Items are trees of their own here: each run has one item.
			r := row{
				item: item, inputs: in, given: given, registry: &manifests.SiteRegistry{To: b.host + "/airlock"}, more: sources.with(t, v),
				state: state + fmt.Sprint(n), tree: filepath.Join(dir, fmt.Sprint(n)), limit: "30s",
			}
			if err := os.Mkdir(r.state, 0o700); err != nil {
				t.Fatal(err)
			}
			r.want = install.StateWaiting
			t.Run(item, func(t *testing.T) {
				runRow(t, r)
				argo.sync(t, r.tree)
				if _, err := os.Stat(filepath.Join(r.tree, "secrets")); err == nil {
					argo.sync(t, filepath.Join(r.tree, "secrets"))
				}
				if item == "deploy-helm-chart" && v != broken {
					ready(t, b.Cluster, ns, "spacelift-server", "spacelift-drain", "spacelift-scheduler")
				}
				r.want, r.code = want, code
				runRow(t, r)
			})
		}
		do("create-kubernetes-namespace", good, install.StatePass, "")
		do("image-pull-credentials", good, install.StatePass, "")
		backendSecrets(t, b.Cluster, ns)
		do("deploy-helm-chart", broken, install.StateFail, "HELM-03")
		do("deploy-helm-chart", good, install.StatePass, "")
	})
	_, kubeconfig := b.user(t, nil, nil)
	_, said := catch(t, row{inputs: in, more: sources.with(t, good), tree: t.TempDir()}, kubeconfig)
	for _, r := range said {
		if r.verb != "get" && r.verb != "list" {
			t.Errorf("asked for: %s", r)
		}
	}
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
