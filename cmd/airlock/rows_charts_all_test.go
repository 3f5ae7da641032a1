//go:build all

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/install"
	probegrpc "github.com/airlock-project/airlock/install/probe/grpc"
	"github.com/airlock-project/airlock/testdata/cluster"
	"github.com/airlock-project/airlock/testdata/pki"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const standIn = "quay.example/stand/in:v1"

// standDeployment is a template of a Deployment with one pod. A bundle carries
// each image that a chart names by default; the charts here name one only with
// the values that a row gives, as in "only".
func standDeployment(name, image, more string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: " + name + "}\nspec:\n  selector: {matchLabels: {app: " + name + "}}\n  template:\n    metadata: {labels: {app: " + name + "}}\n    spec: {containers: [{name: c, image: \"" + image + "\"" + more + "}]}\n"
}

// pulling gives the pod of standDeployment what a value holds to pull with.
func pulling(deployment, value string) string {
	return strings.Replace(deployment, "spec: {containers:", "spec: {imagePullSecrets: {{ "+value+" | toJson }}, containers:", 1)
}

// pulls wants the pods of deployments to pull with the site's login.
func (c *chartRows) pulls(t *testing.T, namespace string, deployments ...string) {
	t.Helper()
	for _, name := range deployments {
		d, err := c.Clientset.AppsV1().Deployments(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if s := d.Spec.Template.Spec.ImagePullSecrets; len(s) != 1 || s[0].Name != "enclave-registry" {
			t.Errorf("%s pulls with %v", name, s)
		}
	}
}

// only names an image where a value is set.
func only(value, image string) string {
	return "{{ if .Values." + value + " }}" + image + "{{ end }}"
}

// chartRows are rows that install a chart, on a cluster whose node pulls.
type chartRows struct {
	*cluster.Cluster
	given map[string]any
	host  string // of the mirror
	sum   string // of the one image
}

func TestRowsCharts(t *testing.T) {
	mirror := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer mirror.Close()
	c := &chartRows{host: strings.TrimPrefix(mirror.URL, "http://")}
	img, err := random.Image(512, 1)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	c.sum = sum.String()
	for _, image := range []string{"/airlock/stand/in:v1", "/airlock/spacelift-backend:v4.3.0"} {
		ref, err := name.ParseReference(c.host+image, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img); err != nil {
			t.Fatal(err)
		}
	}
	c.Cluster = cluster.Start(t, cluster.Options{Node: true, Mirror: c.host})
	c.given = map[string]any{
		"kubeconfig.file": c.Kubeconfig, "image.backend.repository": c.host + "/airlock/spacelift-backend", "image.backend.tag": "v4.3.0", "image.backend.digest": c.sum,
		"relocation.map": map[string]any{"apiVersion": "airlock/v1", "kind": "RelocationMap", "bundle": "sha256:" + strings.Repeat("b", 64), "target": c.host, "entries": []any{
			map[string]any{"kind": "image", "source": standIn, "sourceDigest": c.sum, "target": c.host + "/airlock/stand/in:v1", "digest": c.sum},
			map[string]any{"kind": "image", "source": "spacelift-backend:v4.3.0", "sourceDigest": c.sum, "target": c.host + "/airlock/spacelift-backend:v4.3.0", "digest": c.sum},
		}},
	}
	t.Run("cert-manager", c.certManager)
	t.Run("ingress", c.ingress)
	t.Run("promex", c.promex)
	t.Run("gateway", c.gateway)
}

func (c *chartRows) run(t *testing.T, item string, inputs map[string]any, cases []row) {
	t.Helper()
	for _, r := range cases {
		own := maps.Clone(inputs)
		maps.Copy(own, r.inputs)
		r.item, r.inputs, r.given = item, own, c.given
		t.Run(r.name, func(t *testing.T) { runRow(t, r) })
	}
}

// hook is an admission webhook that lets everything in, and its authority.
func hook(t *testing.T) (url, caBundle string) {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Request struct{ UID string }
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Errorf("the review: %v", err)
		}
		w.Header().Set("Content-Type", "application/json")
		raw, err := json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": map[string]any{"uid": in.Request.UID, "allowed": true}})
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(raw) // a server that left is told nothing
	}))
	t.Cleanup(s.Close)
	return s.URL, base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

// webhookConfiguration is the template of one for a group's resources.
func webhookConfiguration(name, group, resource, url, ca string) string {
	return "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: " + name + ", labels: {app.kubernetes.io/name: ingress-nginx}}\nwebhooks:\n  - name: rows.example.org\n    sideEffects: None\n    failurePolicy: Fail\n    admissionReviewVersions: [v1]\n    timeoutSeconds: 5\n    clientConfig: {url: " + url + ", caBundle: \"" + ca + "\"}\n    rules: [{apiGroups: [" + group + "], apiVersions: [v1], operations: [CREATE], resources: [" + resource + "]}]\n"
}

// certManagerChart is cert-manager's chart as far as the row looks at it.
func certManagerChart(t *testing.T, image, url, ca string) bundle.Source {
	files := map[string]string{
		"Chart.yaml":        "apiVersion: v2\nname: cert-manager\nversion: 1.19.2\n",
		"values.yaml":       "crds: {enabled: false}\nglobal: {imagePullSecrets: [], leaderElection: {namespace: \"\"}}\n",
		"templates/w.yaml":  webhookConfiguration("cert-manager-webhook", "cert-manager.io", "certificates", url, ca),
		"templates/lm.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: leader}\ndata: {namespace: {{ .Values.global.leaderElection.namespace | quote }}}\n",
	}
	for _, d := range []string{"cert-manager", "cert-manager-webhook", "cert-manager-cainjector"} {
		files["templates/"+d+".yaml"] = pulling(standDeployment(d, only("crds.enabled", image), ""), ".Values.global.imagePullSecrets")
	}
	for kind, names := range map[string][2]string{
		"Certificate": {"certificates", "cert-manager.io"}, "CertificateRequest": {"certificaterequests", "cert-manager.io"}, "Issuer": {"issuers", "cert-manager.io"},
		"ClusterIssuer": {"clusterissuers", "cert-manager.io"}, "Order": {"orders", "acme.cert-manager.io"}, "Challenge": {"challenges", "acme.cert-manager.io"},
	} {
		scope := "Namespaced"
		if kind == "ClusterIssuer" {
			scope = "Cluster"
		}
		files["templates/crd-"+names[0]+".yaml"] = "{{ if .Values.crds.enabled }}apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: " + names[0] + "." + names[1] + "}\nspec:\n  group: " + names[1] + "\n  scope: " + scope + "\n  names: {kind: " + kind + ", plural: " + names[0] + "}\n  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]\n{{ end }}"
	}
	return standChart(t, "cert-manager", files)
}

func (c *chartRows) certManager(t *testing.T) {
	url, ca := hook(t)
	good := []bundle.Source{certManagerChart(t, standIn, url, ca)}
	c.run(t, "install-cert-manager", map[string]any{"tls.mode": "cert-manager"}, []row{
		{name: "not carried", want: install.StateFail, code: "HELM-10", says: []string{"no chart cert-manager", "definition"}},
		{name: "not mirrored", more: []bundle.Source{certManagerChart(t, "quay.io/jetstack/cert-manager-controller:v1.19.2", url, ca)}, want: install.StateFail, code: "CM-03", says: []string{"quay.io/jetstack/cert-manager-controller:v1.19.2", "definition"}},
		{name: "good", more: good, want: install.StatePass},
		{name: "again", more: good, want: install.StatePass},
		{name: "with a login", inputs: map[string]any{"pull.username": "puller", "pull.password": "password-of-the-puller"}, more: good, want: install.StatePass},
	})
	c.pulls(t, "cert-manager", "cert-manager", "cert-manager-webhook", "cert-manager-cainjector")
	c.run(t, "install-cert-manager", map[string]any{"tls.mode": "cert-manager"}, []row{
		{name: "webhook away", more: []bundle.Source{certManagerChart(t, standIn, "https://127.0.0.1:1/", ca)}, want: install.StateFail, code: "CM-02", says: []string{"127.0.0.1:1", "webhook's port"}},
		{name: "not wanted", inputs: map[string]any{"tls.mode": "byo"}, want: install.StateSkipped},
	})
}

// nginxChart is ingress-nginx's chart as far as the row looks at it.
func nginxChart(t *testing.T, image, url, ca string) bundle.Source {
	return standChart(t, "ingress-nginx", map[string]string{
		"Chart.yaml":  "apiVersion: v2\nname: ingress-nginx\nversion: 4.15.1\n",
		"values.yaml": "imagePullSecrets: []\ncontroller: {service: {}, ingressClass: nginx, ingressClassResource: {name: nginx, controllerValue: k8s.io/ingress-nginx}}\nrbac: {}\n",
		"templates/d.yaml": pulling(standDeployment("ingress-nginx-controller", only("controller.service.externalTrafficPolicy", image),
			`, args: ["--controller-class={{ .Values.controller.ingressClassResource.controllerValue }}", "--ingress-class={{ .Values.controller.ingressClass }}"]`), ".Values.imagePullSecrets"),
		"templates/c.yaml": "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: {{ .Values.controller.ingressClassResource.name }}}\nspec: {controller: {{ .Values.controller.ingressClassResource.controllerValue }}}\n",
		"templates/s.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: ingress-nginx-controller, labels: {app.kubernetes.io/name: ingress-nginx}}\nspec: {type: LoadBalancer, externalTrafficPolicy: {{ .Values.controller.service.externalTrafficPolicy }}, ports: [{port: 443}], selector: {app: ingress-nginx-controller}}\n",
		"templates/w.yaml": webhookConfiguration("ingress-nginx-admission", "networking.k8s.io", "ingresses", url, ca),
	})
}

func (c *chartRows) ingress(t *testing.T) {
	url, ca := hook(t)
	ns := c.Namespace(t)
	good := []bundle.Source{nginxChart(t, standIn, url, ca)}
	in := map[string]any{"ingress.install": true, "ingress.class": "nginx", "hosts.server": netHost, "k8s.namespace": ns, "ingress.address": "10.0.0.9"}
	c.run(t, "install-ingress-controller", in, []row{
		{name: "not carried", want: install.StateFail, code: "HELM-10", says: []string{"no chart ingress-nginx", "definition"}},
		{name: "not mirrored", more: []bundle.Source{nginxChart(t, "registry.k8s.io/ingress-nginx/controller:v1.15.1", url, ca)}, want: install.StateFail, code: "ING-03", says: []string{"registry.k8s.io/ingress-nginx/controller:v1.15.1", "whole index"}},
	})
	// Helm waits for the address of a LoadBalancer: somebody hands it out.
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	watch, err := c.Clientset.CoreV1().Services("ingress-nginx").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(done)
		for e := range watch.ResultChan() {
			s, ok := e.Object.(*corev1.Service)
			if !ok || s.Spec.Type != corev1.ServiceTypeLoadBalancer || len(s.Status.LoadBalancer.Ingress) > 0 {
				continue
			}
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.0.0.9"}}
			if _, err := c.Clientset.CoreV1().Services(s.Namespace).UpdateStatus(t.Context(), s, metav1.UpdateOptions{}); err != nil {
				t.Logf("hand out an address: %v", err) // the next event brings the newer one
			}
		}
	}()
	c.run(t, "install-ingress-controller", in, []row{
		{name: "good", more: good, want: install.StatePass},
		{name: "again", more: good, want: install.StatePass},
		{name: "other address", inputs: map[string]any{"ingress.address": "10.0.0.8"}, more: good, want: install.StateFail, code: "ING-02", says: []string{"10.0.0.9", "10.0.0.8", "ingress-nginx/ingress-nginx-controller", "MetalLB"}},
		{name: "no such class", inputs: map[string]any{"ingress.class": "traefik", "ingress.install": false}, more: good, want: install.StateFail, code: "ING-01", says: []string{"traefik", "nginx (k8s.io/ingress-nginx)"}},
		{name: "own class, with a login", inputs: map[string]any{"ingress.class": "inner", "pull.username": "puller", "pull.password": "password-of-the-puller"}, more: good, want: install.StatePass},
	})
	c.pulls(t, "ingress-nginx", "ingress-nginx-controller")
	class, err := c.Clientset.NetworkingV1().IngressClasses().Get(t.Context(), "inner", metav1.GetOptions{})
	if err != nil || class.Spec.Controller != "k8s.io/ingress-nginx-inner" {
		t.Errorf("the class: %+v, %v", class, err)
	}
	d, err := c.Clientset.AppsV1().Deployments("ingress-nginx").Get(t.Context(), "ingress-nginx-controller", metav1.GetOptions{})
	if err != nil || strings.Join(d.Spec.Template.Spec.Containers[0].Args, " ") != "--controller-class=k8s.io/ingress-nginx-inner --ingress-class=inner" {
		t.Errorf("the controller: %+v, %v", d.Spec.Template.Spec.Containers, err)
	}
	c.run(t, "install-ingress-controller", in, []row{
		{name: "admission away", more: []bundle.Source{nginxChart(t, standIn, "https://127.0.0.1:1/", ca)}, want: install.StateFail, code: "ING-06", says: []string{"127.0.0.1:1", "port 8443"}},
	})
	if err := c.Clientset.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(t.Context(), "ingress-nginx-admission", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	watch.Stop()
}

func (c *chartRows) promex(t *testing.T) {
	ns := c.Namespace(t)
	chart := func(image string) []bundle.Source {
		return []bundle.Source{standChart(t, "spacelift-promex", map[string]string{
			"Chart.yaml":  "apiVersion: v2\nname: spacelift-promex\nversion: 0.62.0\n",
			"values.yaml": "caCert: {enabled: false}\n",
			"templates/d.yaml": standDeployment("spacelift-promex", only("apiEndpoint", image), `, env: [{name: SPACELIFT_PROMEX_API_ENDPOINT, value: {{ .Values.apiEndpoint | quote }}}, {name: ID, value: {{ .Values.apiKeyId | quote }}},`+
				` {name: SECRET, valueFrom: {secretKeyRef: {name: {{ .Values.apiKeySecretName | quote }}, key: SPACELIFT_PROMEX_API_KEY_SECRET}}}, {name: CA, value: {{ .Values.caCert.secretName | quote }}}]`),
		})}
	}
	ca := pki.New(t, "enclave CA")
	in := map[string]any{"observability.install": true, "k8s.namespace": ns, "hosts.server": netHost, "api.key_id": "01KEY", "api.key_secret": "secret-of-the-admin-key", "tls.ca_file": ca.File(t)}
	c.run(t, "install-promex", in, []row{
		{name: "not wanted", inputs: map[string]any{"observability.install": false}, want: install.StateSkipped},
		{name: "not carried", want: install.StateFail, code: "HELM-10", says: []string{"no chart spacelift-promex", "https://downloads.spacelift.io/helm", "public.ecr.aws/spacelift/promex", "observability.install"}},
		{name: "not mirrored", more: chart("public.ecr.aws/spacelift/promex:v0.7.0"), want: install.StateFail, code: "HELM-09", says: []string{"public.ecr.aws/spacelift/promex:v0.7.0", "definition"}},
		{name: "good", more: chart(standIn), want: install.StatePass},
		{name: "again", more: chart(standIn), want: install.StatePass},
	})
	for missing, r := range map[string]row{
		"api.key_secret": {code: "PMX-01", says: []string{"SPACELIFT_PROMEX_API_KEY_SECRET", "api.key_secret", "admin rights"}},
		"api.key_id":     {code: "PMX-03", says: []string{"api.key_id is not given", "admin rights"}},
	} {
		less := maps.Clone(in)
		delete(less, missing)
		less["k8s.namespace"] = c.Namespace(t)
		r.name, r.more, r.want = "no "+missing, chart(standIn), install.StateFail
		c.run(t, "install-promex", less, []row{r})
	}
	d, err := c.Clientset.AppsV1().Deployments(ns).Get(t.Context(), "spacelift-promex", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if env := d.Spec.Template.Spec.Containers[0].Env; env[0].Value != "https://"+netHost || env[1].Value != "01KEY" || env[3].Value != "spacelift-promex-ca" {
		t.Errorf("%+v", env)
	}
	for secret, key := range map[string]string{"spacelift-promex": "SPACELIFT_PROMEX_API_KEY_SECRET", "spacelift-promex-ca": "ca.crt"} {
		s, err := c.Clientset.CoreV1().Secrets(ns).Get(t.Context(), secret, metav1.GetOptions{})
		if err != nil || len(s.Data[key]) == 0 {
			t.Errorf("secret %s: %v", secret, err)
		}
	}
}

// gatewayChart is the Spacelift chart; an old one has no gateway.
func gatewayChart(t *testing.T, old bool) bundle.Source {
	more := map[string]string{"values.schema.json": "{}"}
	if !old {
		more["templates/g.yaml"] = "{{ with .Values.vcsGateway }}{{ if .enabled }}" + standDeployment("spacelift-vcs-gateway", "{{ $.Values.shared.image }}", "") + "{{ end }}{{ end }}"
		more["templates/i.yaml"] = "{{ with .Values.vcsGateway }}{{ if and .enabled .ingress.enabled }}apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: vcs-gateway\n  annotations: {{ toYaml .ingress.annotations | nindent 4 }}\nspec:\n  ingressClassName: {{ .ingress.ingressClassName }}\n  rules: [{host: {{ .domain }}, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: g, port: {number: 80}}}}]}}]\n{{ end }}{{ end }}"
	}
	return backendChart(t, more)
}

// gateway deploys the Spacelift chart with and without a gateway in it.
func (c *chartRows) gateway(t *testing.T) {
	ns, old := c.Namespace(t), c.Namespace(t)
	backendSecrets(t, c.Cluster, ns, old)
	in := map[string]any{"hosts.server": netHost, "hosts.vcs_gateway": "localhost", "k8s.namespace": ns, "ingress.class": "enclave"}
	class := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "enclave"}, Spec: networkingv1.IngressClassSpec{Controller: "k8s.io/ingress-nginx"}}
	if _, err := c.Clientset.NetworkingV1().IngressClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.run(t, "deploy-helm-chart", in, []row{
		{name: "chart", more: []bundle.Source{gatewayChart(t, false)}, want: install.StatePass},
		{name: "old chart", inputs: map[string]any{"k8s.namespace": old}, more: []bundle.Source{gatewayChart(t, true)}, want: install.StatePass},
	})
	i, err := c.Clientset.NetworkingV1().Ingresses(ns).Get(t.Context(), "vcs-gateway", metav1.GetOptions{})
	if err != nil || i.Annotations["nginx.ingress.kubernetes.io/backend-protocol"] != "GRPC" || *i.Spec.IngressClassName != class.Name {
		t.Fatalf("%+v, %v", i, err)
	}
	c.run(t, "vcs-gateway", in, []row{
		{name: "no certificate", want: install.StateFail, code: "VGW-03", says: []string{"vcs-gateway-cert", "localhost", "create-kubernetes-secrets"}},
		{name: "not in the chart", inputs: map[string]any{"k8s.namespace": old}, want: install.StateFail, code: "VGW-01", says: []string{"vcs-gateway", "localhost", "does not exist", "v0.56.0"}},
		{name: "not in the chart, pods", inputs: map[string]any{"k8s.namespace": old}, want: install.StateFail, code: "HELM-05", says: []string{"spacelift-vcs-gateway", "v0.56.0"}},
		{name: "other host", inputs: map[string]any{"hosts.vcs_gateway": "vcs.site-a.example"}, want: install.StateFail, code: "VGW-01", says: []string{"vcs.site-a.example", "[localhost]"}},
		{name: "nothing answers", want: install.StateFail, code: "VGW-02", says: []string{"localhost:443", "port 443"}},
	})
	c.gatewayAnswers(t, in)
	// Without a gateway among the answers, the chart gets none.
	if _, err := c.Clientset.AppsV1().Deployments(old).Get(t.Context(), "spacelift-vcs-gateway", metav1.GetOptions{}); err == nil {
		t.Error("an old chart has a gateway")
	}
}

// gatewayAnswers asks a gateway, for which a server of gRPC stands in, for its
// health: where the site's answers lead nobody listens on port 443.
func (c *chartRows) gatewayAnswers(t *testing.T, in map[string]any) {
	ca := pki.New(t, "enclave CA")
	cert := ca.Server(t, []string{netHost, "localhost"})
	chain, key := pki.Files(t, cert)
	tls := map[string][]byte{}
	for name, path := range map[string]string{corev1.TLSCertKey: chain, corev1.TLSPrivateKeyKey: key} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		tls[name] = data
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "vcs-gateway-cert"}, Type: corev1.SecretTypeTLS, Data: tls}
	if _, err := c.Clientset.CoreV1().Secrets(in["k8s.namespace"].(string)).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, said := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert))), health.NewServer()
	healthpb.RegisterHealthServer(s, said)
	go s.Serve(l) //nolint:errcheck // it ends with Stop
	defer s.Stop()
	health443 := probegrpc.Health{Dial: func(ctx context.Context, address string) (net.Conn, error) {
		if address != "localhost:443" {
			return nil, errors.New("asked for " + address)
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	}}
	there := func(probes map[string]install.Probe, _ map[string]install.Action) { probes["grpc.health"] = health443 }
	trust := map[string]any{"tls.ca_file": ca.File(t)}
	c.run(t, "vcs-gateway", in, []row{
		{name: "not trusted", kinds: there, inputs: map[string]any{"tls.ca_file": pki.New(t, "another CA").File(t)}, want: install.StateFail, code: "VGW-04", says: []string{"localhost:443", "tls.ca_file"}},
		{name: "serves", kinds: there, inputs: trust, want: install.StatePass},
		{name: "serves from ECS", platform: "ecs", kinds: there, inputs: trust, want: install.StatePass},
	})
	said.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	c.run(t, "vcs-gateway", in, []row{{name: "does not serve", kinds: there, inputs: trust, want: install.StateFail, code: "VGW-05", says: []string{"NOT_SERVING", "1984"}}})
}
