//go:build e2e

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/verify"
	"github.com/goccy/go-yaml"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// boxRegistry is where the node of a box looks for every image.
	boxRegistry  = "127.0.0.1:5000"
	pullPassword = "password-of-the-puller"
	namespace    = "spacelift"
)

// TestEndToEnd installs on a real node without a way out: pods run from the
// mirrored images, with the pull secret, the Secrets and the probes from inside
// that the checklist gives them. The product behind the API is a stand-in, and
// its pods are a web server.
func TestEndToEnd(t *testing.T) {
	e := newBox(t)
	b, fingerprint := e2eBundle(t)
	keys := t.TempDir()
	operator, security := fullKey(t, keys, "operator"), fullKey(t, keys, "security")
	f := newFullRun(t, b, "onprem", operator, security)
	f.cluster = os.Getenv("KUBECONFIG")
	f.near = func(address string) string { return e.forward(t, address) }
	in := onpremAnswers(t, f)
	f.answer(nowhere(t), in, e.answers(f, in), map[string]any{"vendor.fingerprint": fingerprint})
	f.site.Registry = e.site(f)
	f.open()
	f.run("verify-installation-archive")
	for _, id := range inOrder(f.list) {
		if f.applies(id) {
			f.do(id)
		}
	}
	f.run()
	f.check(e2eReady)
	f.finished()
	f.secret()
	t.Run("pods", func(t *testing.T) { e.pods(t, f) })
	t.Run("stock tools", func(t *testing.T) { e.stock(t) })
	t.Run("never ready", func(t *testing.T) { e.neverReady(t, f) })
	t.Run("image missing", func(t *testing.T) { e.imageMissing(t, f) })
	t.Run("uninstall", func(t *testing.T) { e.uninstall(t, f) })
}

// e2eReady is onpremReady with a cluster.
var e2eReady = func() states {
	out := maps.Clone(onpremReady)
	out[install.StatePass] += " prepare-runner-image " + out[install.StateWaived]
	// The stand-in for PostgreSQL has no TLS.
	out[install.StatePass] = strings.NewReplacer("postgresql-database", "", "reach-from-cluster", "").Replace(out[install.StatePass])
	out[install.StateWarn] = "postgresql-database reach-from-cluster"
	delete(out, install.StateWaived)
	return out
}()

// box is the cluster of the box, and a registry for its node.
type box struct {
	clients *kubernetes.Clientset
	dynamic dynamic.Interface
	node    string // address

	mu   sync.Mutex
	sent map[string]int // blobs below jobs/: how often each was uploaded
}

func newBox(t *testing.T) *box {
	t.Helper()
	if os.Getenv("BOX_APP") == "" || os.Getenv("AIRLOCK_E2E_TOOL") == "" {
		t.Fatal("not in a box: run the tests with `make e2e`")
	}
	rc, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	e := &box{sent: map[string]int{}}
	if e.clients, err = kubernetes.NewForConfig(rc); err != nil {
		t.Fatal(err)
	}
	if e.dynamic, err = dynamic.NewForConfig(rc); err != nil {
		t.Fatal(err)
	}
	nodes, err := e.clients.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 1 {
		t.Fatalf("nodes: %v, %v", nodes, err)
	}
	e.node = nodes.Items[0].Status.Addresses[0].Address
	// A controller that is there already, and does nothing.
	class := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "nginx"}, Spec: networkingv1.IngressClassSpec{Controller: "example.test/ingress"}}
	if _, err := e.clients.NetworkingV1().IngressClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	e.serveRegistry(t)
	e.work(t)
	return e
}

// serveRegistry serves the enclave's registry: airlock may push, puller pull, and
// who has no login may pull neither backend nor launcher. What lies in upstream/
// is anybody's.
func (e *box) serveRegistry(t *testing.T) {
	t.Helper()
	reg := olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}})
	l, err := net.Listen("tcp", boxRegistry)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		read := r.Method == http.MethodGet || r.Method == http.MethodHead
		open := strings.HasPrefix(r.URL.Path, "/v2/upstream/") || read && r.URL.Path != "/v2/" && !strings.Contains(r.URL.Path, "spacelift-backend") && !strings.Contains(r.URL.Path, "spacelift-launcher")
		ok := open || user == "airlock" && password == "password-of-the-registry" || user == "puller" && password == pullPassword && read
		if !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="enclave"`)
			http.Error(w, "a login is needed", http.StatusUnauthorized)
			return
		}
		if digest := r.URL.Query().Get("digest"); r.Method == http.MethodPut && digest != "" && strings.HasPrefix(r.URL.Path, "/v2/jobs/") {
			e.mu.Lock()
			e.sent[digest]++
			e.mu.Unlock()
		}
		reg.ServeHTTP(w, r)
	}), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(l) }() // ends with the test
	t.Cleanup(func() { _ = srv.Close() })
}

// work stands in for the worker controller: pools have the size that they want.
func (e *box) work(t *testing.T) {
	t.Helper()
	pools := e.dynamic.Resource(schema.GroupVersionResource{Group: "workers.spacelift.io", Version: "v1beta1", Resource: "workerpools"})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			list, err := pools.List(ctx, metav1.ListOptions{})
			if err != nil {
				continue // the type is not there yet
			}
			for i := range list.Items {
				o := &list.Items[i]
				size, _, _ := unstructured.NestedInt64(o.Object, "spec", "poolSize")
				patch := fmt.Appendf(nil, `{"status":{"desiredPoolSize":%d,"actualPoolSize":%d}}`, size, size)
				// A pool that has just changed, or is gone, is seen at the next tick.
				_, _ = pools.Namespace(o.GetNamespace()).Patch(ctx, o.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
			}
		}
	}()
}

func (e *box) site(f *fullRun) *manifests.SiteRegistry {
	f.secrets["registry.password"] = "password-of-the-registry"
	return &manifests.SiteRegistry{To: boxRegistry + "/airlock", PlainHTTP: true, Username: "airlock", Password: "file:" + rowFile(f.t, []byte("password-of-the-registry"))}
}

// answers are those that a cluster adds.
func (e *box) answers(f *fullRun, in map[string]any) map[string]any {
	return map[string]any{
		"k8s.kubeconfig": f.cluster, "network.endpoints": []any{in["storage.minio.endpoint"]},
		"pull.username": "puller", "pull.password": pullPassword,
	}
}

// forward gives a server of this process an address that pods reach.
func (e *box) forward(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(e.node, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				// What a side that hung up does not get, the other end sees as an end.
				go func() { _, _ = io.Copy(out, in); _ = out.(*net.TCPConn).CloseWrite() }()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
	return l.Addr().String()
}

// pods looks at what runs: the images by the digests that were mirrored, and the
// server through its NodePort.
func (e *box) pods(t *testing.T, f *fullRun) {
	t.Helper()
	list, err := e.clients.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, p := range list.Items {
		for _, s := range p.Status.ContainerStatuses {
			seen++
			if !strings.HasPrefix(s.Image, boxRegistry+"/airlock/spacelift-backend") && !strings.HasPrefix(p.Spec.Containers[0].Image, boxRegistry+"/airlock/spacelift-backend:"+fullVersion+"@sha256:") {
				t.Errorf("pod %s runs %s (%s)", p.Name, s.Image, p.Spec.Containers[0].Image)
			}
		}
	}
	if seen < 4 {
		t.Errorf("%d containers run in %s", seen, namespace)
	}
	svc, err := e.clients.CoreV1().Services(namespace).Get(t.Context(), "spacelift-server", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(fmt.Sprintf("http://%s:%d/", e.node, svc.Spec.Ports[0].NodePort)) //nolint:noctx // the box has no way out
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), "hello from spacelift-server-") {
		t.Errorf("through the NodePort: %q, %v", body, err)
	}
	jobs, err := e.clients.BatchV1().Jobs(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(jobs.Items) > 0 {
		t.Errorf("jobs left in %s: %+v, %v", namespace, jobs.Items, err)
	}
}

// stock has helm and kubectl say what was installed.
func (e *box) stock(t *testing.T) {
	t.Helper()
	if out := e.run(t, "helm", "list", "--all-namespaces", "--output", "json"); !strings.Contains(out, `"chart":"spacelift-1.0.0"`) || !strings.Contains(out, `"status":"deployed"`) {
		t.Errorf("helm list: %s", out)
	}
	if out := e.run(t, "helm", "history", "spacelift", "--namespace", namespace); !strings.Contains(out, "deployed") {
		t.Errorf("helm history: %s", out)
	}
	if out := e.run(t, "kubectl", "--namespace", namespace, "get", "deployments", "--output", "name"); !strings.Contains(out, "deployment.apps/spacelift-drain") {
		t.Errorf("kubectl: %s", out)
	}
}

func (e *box) run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %v: %v: %s", program, args, err, out)
	}
	return string(out)
}

// deploy runs the release again with other values and returns its item.
func (e *box) deploy(t *testing.T, f *fullRun, values map[string]any) install.ItemReport {
	t.Helper()
	raw, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	o := f.opts
	o.Items, o.Values = []string{"install-ingress-controller", "render-charts", "deploy-helm-chart"}, []install.ValuesFile{{Name: "site.yaml", Data: raw}}
	// A release waits for three quarters of what its step has left.
	ctx, cancel := context.WithTimeout(t.Context(), 80*time.Second)
	defer cancel()
	rep, err := install.Run(ctx, f.b, o)
	if err != nil {
		t.Fatal(err)
	}
	if it := reported(rep, "render-charts"); it.State == install.StateFail {
		return it
	}
	return reported(rep, "deploy-helm-chart")
}

// neverReady upgrades to what never becomes ready: it is rolled back, and the
// report says which pod.
func (e *box) neverReady(t *testing.T, f *fullRun) {
	t.Helper()
	it := e.deploy(t, f, map[string]any{"server": map[string]any{"fail": true}})
	if it.State != install.StateFail || !slices.ContainsFunc(it.Findings, func(f install.FindingReport) bool {
		return (f.Code == "HELM-05" || f.Code == "HELM-03") && strings.Contains(f.Cause+f.Detail, "spacelift-server")
	}) {
		t.Errorf("got %s (%s): %+v", it.State, it.Reason, it.Findings)
	}
	if out := e.run(t, "helm", "history", "spacelift", "--namespace", namespace, "--output", "json"); !strings.Contains(out, "Rollback") && !strings.Contains(out, "rollback") {
		t.Errorf("no rollback in %s", out)
	}
	if it := e.deploy(t, f, map[string]any{"server": map[string]any{"note": "well again"}}); it.State != install.StatePass {
		t.Errorf("after it: %s: %+v", it.State, it.Findings)
	}
}

// imageMissing names an image that nobody mirrored: nothing changes.
func (e *box) imageMissing(t *testing.T, f *fullRun) {
	t.Helper()
	it := e.deploy(t, f, map[string]any{"drain": map[string]any{"image": "quay.io/nobody/mirrored:v1"}})
	if it.State != install.StateFail || !slices.ContainsFunc(it.Findings, func(f install.FindingReport) bool {
		return f.Code == "REN-01" && strings.Contains(f.Cause, "quay.io/nobody/mirrored:v1")
	}) {
		t.Errorf("got %s: %+v", it.State, it.Findings)
	}
}

// uninstall takes everything out that the installation made, and nothing else.
func (e *box) uninstall(t *testing.T, f *fullRun) {
	t.Helper()
	if _, err := e.clients.CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	kept, err := install.KeptObjects(f.opts.State)
	if err != nil {
		t.Fatal(err)
	}
	u, err := uninstallFlags{kubeconfig: f.cluster}.cluster(t.Context(), f.site, f.opts.SiteDir)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := u.plan(t.Context(), kept)
	if err != nil || len(plan.Remove) < 8 {
		t.Fatalf("plan %+v, %v", plan, err)
	}
	raw, err := yaml.Marshal(f.site)
	if err != nil {
		t.Fatal(err)
	}
	site := filepath.Join(f.opts.SiteDir, "site.yaml")
	if err := os.WriteFile(site, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AIRLOCK_KEY_PASSWORD", "password-of-operator")
	command := func(args ...string) string {
		return e.airlock(t, append([]string{"uninstall", "--site", site, "--state", f.opts.State, "--kubeconfig", f.cluster}, args...)...)
	}
	if out := command("--dry-run"); !strings.Contains(out, "remove  Release spacelift/spacelift  (deploy-helm-chart)") {
		t.Errorf("dry run: %s", out)
	}
	done := command("--yes")
	if !strings.Contains(done, "removed Release spacelift/spacelift\n") || !strings.Contains(done, "removed Namespace spacelift\n") {
		t.Errorf("uninstall: %s", done)
	}
	for _, ns := range []string{namespace, "spacelift-workers", "spacelift-worker-controller-system"} {
		if _, err := e.clients.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{}); err == nil {
			t.Errorf("namespace %s is still there: %s", ns, done)
		}
	}
	if _, err := e.clients.NetworkingV1().IngressClasses().Get(t.Context(), "nginx", metav1.GetOptions{}); err != nil {
		t.Errorf("the IngressClass that was there before: %v", err)
	}
	if plan, err := u.plan(t.Context(), kept); err != nil || len(plan.Remove) > 0 {
		t.Errorf("left: %+v, %v", plan, err)
	}
	if _, err := install.VerifyState(f.opts.State, nil); err != nil {
		t.Errorf("the record after it: %v", err)
	}
}

// e2eBundle is the bundle of a release whose images run.
func e2eBundle(t *testing.T) (b *verify.Bundle, fingerprint string) {
	t.Helper()
	app, err := os.ReadFile(os.Getenv("BOX_APP"))
	if err != nil {
		t.Fatal(err)
	}
	return release{
		program: app, images: []string{runnerImage, ansibleImage}, tool: os.Getenv("AIRLOCK_E2E_TOOL"),
		charts: map[string]string{"spacelift": "spacelift", "spacelift-workerpool-controller": "controller"},
		files: map[string]string{
			"spacelift/Chart.yaml":                 "apiVersion: v2\nname: spacelift\nversion: 1.0.0\nappVersion: " + fullVersion + "\n",
			"spacelift/values.yaml":                e2eValues,
			"spacelift/templates/all.yaml":         e2eChart,
			"controller/Chart.yaml":                "apiVersion: v2\nname: spacelift-workerpool-controller\nversion: 0.62.0\n",
			"controller/values.yaml":               "controllerManager: {namespaces: [], image: \"spacelift-launcher:" + fullVersion + "\"}\ncrds: {install: true}\n",
			"controller/templates/controller.yaml": e2eController,
			"controller/crds/workers.yaml":         e2eTypes,
		},
	}.bundle(t)
}

const e2eValues = `shared: {serverHostname: "", image: "spacelift-backend:v4.3.0", secretRef: ""}
server: {secretRef: "", ready: /healthz, fail: false, note: ""}
drain: {secretRef: "", image: ""}
ingressV6: {enabled: true}
ingress: {ingressClassName: "", annotations: {}}
`

// e2eChart is as much of Spacelift's chart as the checklist knows of it.
const e2eChart = `apiVersion: v1
kind: ServiceAccount
metadata: {name: spacelift-backend}
imagePullSecrets: [{name: enclave-registry}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: spacelift-server}
spec:
  replicas: 2
  selector: {matchLabels: {app: spacelift-server}}
  template:
    metadata: {labels: {app: spacelift-server}, annotations: {note: {{ .Values.server.note | quote }}}}
    spec:
      serviceAccountName: spacelift-backend
      terminationGracePeriodSeconds: 1
      containers:
        - name: server
          image: {{ .Values.shared.image | quote }}
          {{- if .Values.server.fail }}
          args: [fail, the database is not there]
          {{- end }}
          env: [{name: SERVER_DOMAIN, value: {{ .Values.shared.serverHostname | quote }}}]
          envFrom: [{secretRef: {name: {{ .Values.shared.secretRef }}}}, {secretRef: {name: {{ .Values.server.secretRef }}}}]
          readinessProbe: {httpGet: {path: {{ .Values.server.ready }}, port: 8080}, periodSeconds: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: spacelift-drain}
spec:
  replicas: 2
  selector: {matchLabels: {app: spacelift-drain}}
  template:
    metadata: {labels: {app: spacelift-drain}}
    spec:
      serviceAccountName: spacelift-backend
      terminationGracePeriodSeconds: 1
      containers:
        - name: drain
          image: {{ .Values.drain.image | default .Values.shared.image | quote }}
          envFrom: [{secretRef: {name: {{ .Values.shared.secretRef }}}}, {secretRef: {name: {{ .Values.drain.secretRef }}}}]
          readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: spacelift-server}
spec: {type: NodePort, selector: {app: spacelift-server}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: server-v4
  annotations: {{ .Values.ingress.annotations | toJson }}
spec:
  ingressClassName: {{ .Values.ingress.ingressClassName }}
  rules:
    - host: {{ .Values.shared.serverHostname }}
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: spacelift-server, port: {number: 80}}}}]}
`

const e2eController = `apiVersion: apps/v1
kind: Deployment
metadata: {name: spacelift-workerpool-controller-controller-manager}
spec:
  selector: {matchLabels: {app: controller}}
  template:
    metadata: {labels: {app: controller}}
    spec:
      terminationGracePeriodSeconds: 1
      imagePullSecrets: [{name: enclave-registry}]
      containers:
        - name: manager
          image: {{ .Values.controllerManager.image | quote }}
          readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Secret
metadata: {name: enclave-registry}
type: kubernetes.io/dockerconfigjson
stringData: {.dockerconfigjson: '{"auths":{"` + boxRegistry + `":{"username":"puller","password":"` + pullPassword + `"}}}'}
`

var e2eTypes = e2eType("WorkerPool", "workerpools") + "---\n" + e2eType("Worker", "workers")

func e2eType(kind, plural string) string {
	return `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ` + plural + `.workers.spacelift.io}
spec:
  group: workers.spacelift.io
  scope: Namespaced
  names: {kind: ` + kind + `, plural: ` + plural + `, singular: ` + strings.ToLower(kind) + `, listKind: ` + kind + `List}
  versions:
    - name: v1beta1
      served: true
      storage: true
      subresources: {status: {}}
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`
}
