//go:build all

package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
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
	"github.com/airlock-project/airlock/testdata/pki"
	"github.com/airlock-project/airlock/testdata/spacelift"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

const (
	controllerImage = "quay.example/stand/controller:v0.0.32"
	controllerID    = "01KEYOFTHECONTROLLER"
	controllerKey   = "9a7c-secret-of-the-controller"
)

// workerRows are the rows about workers in a cluster whose node pulls.
type workerRows struct {
	*cluster.Cluster
	dynamic dynamic.Interface
	host    string // of the mirror
	given   map[string]any
	ca      *pki.Authority
}

func TestRowsWorkers(t *testing.T) {
	mirror := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer mirror.Close()
	c := &workerRows{host: strings.TrimPrefix(mirror.URL, "http://"), ca: pki.New(t, "enclave CA")}
	img, err := random.Image(512, 1)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(c.host+"/airlock/stand/controller:v0.0.32", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	c.Cluster = cluster.Start(t, cluster.Options{Node: true, Mirror: c.host})
	if c.dynamic, err = dynamic.NewForConfig(c.REST); err != nil {
		t.Fatal(err)
	}
	bundleFile := filepath.Join(t.TempDir(), "ca-certificates.crt")
	raw, err := os.ReadFile(c.ca.File(t))
	if err == nil {
		err = os.WriteFile(bundleFile, append([]byte("# of the system\n"), raw...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	m := relocated()
	m["target"] = c.host
	m["entries"] = append(m["entries"].([]any), map[string]any{
		"kind": "image", "source": controllerImage, "sourceDigest": sum.String(), "target": c.host + "/airlock/stand/controller:v0.0.32", "digest": sum.String(),
	})
	c.given = map[string]any{
		"kubeconfig.file": c.Kubeconfig, "relocation.map": m, "mqtt.endpoint": "tls://mqtt.site-a.example:1984",
		"trust.ca_file": c.ca.File(t), "trust.bundle_file": bundleFile,
	}
	t.Run("namespaces", c.namespaces)
	t.Run("controller", c.controller)
	t.Run("pool", c.pool)
	t.Run("registration", c.registration)
	t.Run("reasons", c.reasons)
}

func (c *workerRows) run(t *testing.T, item string, inputs map[string]any, cases []row) {
	t.Helper()
	for _, r := range cases {
		own, given := maps.Clone(inputs), maps.Clone(c.given)
		maps.Copy(own, r.inputs)
		maps.Copy(given, r.given)
		r.item, r.inputs, r.given = item, own, given
		t.Run(r.name, func(t *testing.T) { runRow(t, r) })
	}
}

// namespaces are made by their own row, with the level that the site wants.
func (c *workerRows) namespaces(t *testing.T) {
	in := map[string]any{"k8s.namespace": "spacelift", "k8s.pod_security": "baseline", "pull.username": "puller", "pull.password": "password-of-the-puller"}
	c.run(t, "create-kubernetes-namespace", in, []row{{name: "good", want: install.StatePass}})
	c.run(t, "image-pull-credentials", in, []row{{name: "good", registry: &manifests.SiteRegistry{To: c.host + "/airlock", PlainHTTP: true}, want: install.StatePass}})
}

func (c *workerRows) chart(t *testing.T, without ...string) []bundle.Source {
	t.Helper()
	image, tag, _ := strings.Cut(controllerImage, ":")
	files := controllerChart("0.62.0", image, tag)
	for _, name := range without {
		delete(files, name)
	}
	// A bundle carries what a chart names by default: this one names its image only
	// with the namespaces that the row gives.
	const at = "          image: \""
	if !strings.Contains(files["templates/deployment.yaml"], at) {
		t.Fatal("the chart's image is somewhere else")
	}
	files["templates/deployment.yaml"] = strings.Replace(files["templates/deployment.yaml"],
		"{{ .Values.controllerManager.manager.image.repository }}:{{ .Values.controllerManager.manager.image.tag }}", only("controllerManager.namespaces", controllerImage), 1)
	files["values.yaml"] = strings.Replace(files["values.yaml"], image, "", 1)
	return []bundle.Source{standChart(t, "spacelift-workerpool-controller", files)}
}

func (c *workerRows) controller(t *testing.T) {
	const item, release = "install-workerpool-controller", "spacelift-workerpool-controller-controller-manager"
	in := map[string]any{"tls.ca_file": c.ca.File(t), "hosts.server": netHost, "pull.username": "puller", "pull.password": "password-of-the-puller"}
	types := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	noTypes := c.chart(t, "charts/crds/templates/workerpool-crd.yaml", "charts/crds/templates/worker-crd.yaml")
	c.run(t, item, in, []row{
		{name: "not carried", want: install.StateFail, code: "HELM-10", says: []string{"no chart spacelift-workerpool-controller"}},
		{name: "no types", more: noTypes, want: install.StateFail, code: "WPC-02", says: []string{"workerpools.workers.spacelift.io", "workers.workers.spacelift.io", "server-side"}},
		{name: "not mirrored", more: c.chart(t), given: map[string]any{"relocation.map": relocated()}, want: install.StateFail, code: "HELM-09", says: []string{controllerImage}},
		{name: "no key of its own", inputs: map[string]any{"pool.registration": "auto"}, more: c.chart(t), want: install.StateFail, code: "WPC-04", says: []string{"spacelift-api-credentials", "keyId", "Worker pool controller"}},
		{name: "good", more: c.chart(t), want: install.StatePass},
		{name: "again", more: c.chart(t), want: install.StatePass},
	})
	for _, name := range []string{"workerpools", "workers"} {
		o, err := c.dynamic.Resource(types).Get(t.Context(), name+".workers.spacelift.io", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(o)
		if err != nil || name == "workerpools" && len(raw) < 770_000 {
			t.Errorf("type %s has %d bytes, %v", name, len(raw), err)
		}
		for _, m := range o.GetManagedFields() {
			if m.FieldsV1 != nil && strings.Contains(string(m.FieldsV1.GetRawBytes()), `"f:spec"`) && (m.Manager != "airlock" || m.Operation != metav1.ManagedFieldsOperationApply) {
				t.Errorf("type %s was not applied by the server: %s %s", name, m.Manager, m.Operation)
			}
		}
		if o.GetAnnotations()["helm.sh/resource-policy"] != "keep" {
			t.Errorf("type %s goes with the release", name)
		}
	}
	d, err := c.Clientset.AppsV1().Deployments(controllerNamespace).Get(t.Context(), release, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	spec := d.Spec.Template.Spec
	if s := spec.ImagePullSecrets; len(s) != 1 || s[0].Name != "enclave-registry" {
		t.Errorf("it pulls with %v", s)
	}
	if m, v := spec.Containers[0].VolumeMounts, spec.Volumes; len(m) != 1 || m[0].MountPath != "/opt/spacelift/certs" || len(v) != 1 || v[0].Secret == nil || v[0].Secret.SecretName != "enclave-ca" {
		t.Errorf("mounts %+v of %+v", m, v)
	}
	if !slices.Contains(spec.Containers[0].Args, "--namespaces=spacelift-workers") {
		t.Errorf("it looks at %v", spec.Containers[0].Args)
	}
	c.otherAuthority(t, in, release)
}

// otherAuthority: another authority reaches the controller, which reads it at start.
func (c *workerRows) otherAuthority(t *testing.T, in map[string]any, deployment string) {
	late := false // the server made it at the end of a second, and wrote down the next: one restart too many is in order
	authority := func() (ca string, mark string) {
		t.Helper()
		s, err := c.Clientset.CoreV1().Secrets(controllerNamespace).Get(t.Context(), "enclave-ca", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		d, err := c.Clientset.AppsV1().Deployments(controllerNamespace).Get(t.Context(), deployment, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		late = slices.ContainsFunc(s.ManagedFields, func(m metav1.ManagedFieldsEntry) bool { return m.Time.After(s.CreationTimestamp.Time) })
		return string(s.Data["enclave-ca.pem"]), d.Spec.Template.Annotations["airlock-project.io/secrets"]
	}
	read := func(path string) string {
		t.Helper()
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	if ca, mark := authority(); ca != read(c.ca.File(t)) || mark != "" && !late {
		t.Errorf("it has %q, and was restarted (%s) for what it began with", ca, mark)
	}
	other := pki.New(t, "next CA").File(t)
	c.run(t, "install-workerpool-controller", in, []row{{name: "other authority", more: c.chart(t), given: map[string]any{"trust.ca_file": other}, want: install.StatePass}})
	if ca, mark := authority(); ca != read(other) || !strings.HasPrefix(mark, "enclave-ca=") {
		t.Errorf("it has %q, and the pods are marked %q", ca, mark)
	}
}

// stand has the stand-in for the controller look at pools until the test ends.
func (c *workerRows) stand(t *testing.T, product *spacelift.Server) {
	tend(t, 100*time.Millisecond, poolController{c.Clientset, c.dynamic, product}.tick)
}

// remove removes a pool, and waits until it and its workers are gone.
func (c *workerRows) remove(t *testing.T, pool string) {
	t.Helper()
	r := c.dynamic.Resource(poolKind("workerpools")).Namespace("spacelift-workers")
	foreground := metav1.DeletePropagationForeground
	if err := r.Delete(t.Context(), pool, metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if _, err := r.Get(t.Context(), pool, metav1.GetOptions{}); err != nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("pool %s is still there", pool)
		}
	}
}

// made makes a pool by its row and returns what that hands on.
func (c *workerRows) made(t *testing.T, in map[string]any) map[string]any {
	t.Helper()
	got := runRow(t, row{item: "create-worker-pool", inputs: in, given: c.given, want: install.StatePass})
	out := map[string]any{}
	for name, v := range got.Outputs {
		if strings.HasPrefix(name, "pool.") {
			out[name] = v
		}
	}
	return out
}

// pool: what the row makes is the WorkerPool that the specification wants, its
// Secret is what the product gave out, and only with both do workers register.
func (c *workerRows) pool(t *testing.T) {
	product := spacelift.Start(t, spacelift.Options{})
	c.stand(t, product)
	in := at(product, map[string]any{"hosts.server": netHost, "pool.size": 2, "tls.ca_file": product.CAFile, "pull.username": "puller", "pull.password": "password-of-the-puller"})
	given := c.made(t, in)
	c.begin(t, in, given, 2)
	c.run(t, "deploy-worker-pool", in, []row{{name: "good", given: given, want: install.StatePass}, {name: "again", given: given, want: install.StatePass}})

	s, err := c.Clientset.CoreV1().Secrets("spacelift-workers").Get(t.Context(), "pool-enclave", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := product.Join(string(s.Data["token"]), string(s.Data["privateKey"]))
	if err != nil || id != given["pool.id"] || len(s.Data) != 2 || strings.ContainsAny(string(s.Data["privateKey"]), "\r\n") {
		t.Errorf("the Secret lets workers into %q, %v; it has %d keys", id, err, len(s.Data))
	}
	o, err := c.dynamic.Resource(poolKind("workerpools")).Namespace("spacelift-workers").Get(t.Context(), "enclave", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mount := []any{map[string]any{"name": "enclave-ca", "mountPath": "/etc/ssl/certs", "readOnly": true}}
	for path, want := range map[string]any{
		"poolSize": int64(2), "token": map[string]any{"secretKeyRef": map[string]any{"name": "pool-enclave", "key": "token"}},
		"privateKey":              map[string]any{"secretKeyRef": map[string]any{"name": "pool-enclave", "key": "privateKey"}},
		"allowedRunnerImageHosts": []any{"registry.site-a.example"}, "space": nil,
		"pod.defaultRunnerImage": "registry.site-a.example/spacelift/runner-terraform:latest", "pod.defaultAnsibleRunnerImage": "registry.site-a.example/spacelift/runner-ansible:latest",
		"pod.launcherImage": nil, "pod.imagePullSecrets": []any{map[string]any{"name": "enclave-registry"}},
		"pod.volumes":                      []any{map[string]any{"name": "enclave-ca", "configMap": map[string]any{"name": "pool-enclave-ca"}}},
		"pod.workerContainer.volumeMounts": mount, "pod.initContainer.volumeMounts": mount, "pod.grpcServerContainer.volumeMounts": mount,
		"pod.workerContainer.resources.limits.memory": "2Gi", "pod.initContainer.resources.requests.cpu": "100m", "pod.grpcServerContainer.resources.requests.memory": "64Mi",
	} {
		got, _, _ := unstructured.NestedFieldNoCopy(o.Object, append([]string{"spec"}, strings.Split(path, ".")...)...)
		if a, _ := json.Marshal(got); string(a) != jsonText(want) {
			t.Errorf("spec.%s is %s, want %s", path, a, jsonText(want))
		}
	}
	conf, err := c.Clientset.CoreV1().ConfigMaps("spacelift-workers").Get(t.Context(), "pool-enclave-ca", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// The row trims and ends the file itself: the authorities are what counts.
	want, err := os.ReadFile(c.given["trust.bundle_file"].(string))
	if err != nil || conf.Data["ca-certificates.crt"] != string(want) {
		t.Errorf("run pods trust %q, want %q, %v", conf.Data["ca-certificates.crt"], want, err)
	}
	c.refused(t, product, in, given)
}

func jsonText(v any) string {
	raw, _ := json.Marshal(v) // of tests
	return string(raw)
}

// warned waits until the controller says something of a pool. Rows look once.
func (c *workerRows) warned(t *testing.T, pool, what string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		list, err := c.Clientset.CoreV1().Events("spacelift-workers").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(list.Items, func(e corev1.Event) bool { return e.InvolvedObject.Name == pool && e.Message == what }) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("nobody says of %s: %s", pool, what)
		}
	}
}

// refused: a token or a key of something else registers nobody.
func (c *workerRows) refused(t *testing.T, product *spacelift.Server, in, given map[string]any) {
	c.remove(t, "enclave")
	other := c.made(t, at(product, map[string]any{"pool.name": "other"}))
	swapped := maps.Clone(given)
	swapped["pool.key_file"] = other["pool.key_file"]
	stale := maps.Clone(given)
	stale["pool.token_file"] = rowFile(t, []byte("token-of-yesterday"))
	for _, x := range []struct {
		name  string
		given map[string]any
		says  []string // the last is the controller's
	}{
		{"key of another pool", swapped, []string{"enclave has 0 workers of 2", "the private key is not that of the pool's signing request"}},
		{"token of no pool", stale, []string{"the token is of no pool"}},
	} {
		r := row{name: x.name, given: x.given, want: install.StateFail, code: "WP-01"}
		c.run(t, "deploy-worker-pool", in, []row{r})
		c.warned(t, "enclave", x.says[len(x.says)-1])
		r.name, r.says = x.name+", told", x.says
		c.run(t, "deploy-worker-pool", in, []row{r})
	}
	c.run(t, "deploy-worker-pool", in, []row{
		{name: "no token", given: map[string]any{"pool.files": given["pool.files"], "pool.key_file": given["pool.key_file"]}, want: install.StateFail, code: "WP-05", says: []string{"pool-enclave", "privateKey", "not token"}},
		{name: "pull secret of nobody", inputs: map[string]any{"pool.pull_secret": "theirs"}, given: given, want: install.StateFail, code: "WP-10", says: []string{"theirs", "pull.username"}},
	})
	c.begin(t, in, given, 2)
	c.run(t, "deploy-worker-pool", in, []row{{name: "right again", given: given, want: install.StatePass}})
	// A pool of the web interface: its files are the site's.
	own := maps.Clone(in)
	own["pool.token_file"], own["pool.key_file"] = given["pool.token_file"], given["pool.key_file"]
	c.run(t, "deploy-worker-pool", own, []row{{name: "made in the web interface", given: map[string]any{"pool.files": given["pool.files"]}, want: install.StatePass}})
	c.remove(t, "enclave")
}

// registration: the controller makes the pool, with a key of its own.
func (c *workerRows) registration(t *testing.T) {
	product := spacelift.Start(t, spacelift.Options{ControllerID: controllerID, ControllerSecret: controllerKey})
	c.stand(t, product)
	in := at(product, map[string]any{
		"hosts.server": netHost, "pool.registration": "auto", "pool.space": "production", "pool.controller_key_id": controllerID, "pool.controller_key_secret": controllerKey,
		"pool.allowed_image_hosts": []any{},
	})
	given := c.made(t, in)
	if n := product.Calls("workerPoolCreate"); n != 0 || given["pool.token_file"] != nil {
		t.Errorf("the row made a pool itself: %v", given)
	}
	wrong := map[string]any{"pool.controller_key_secret": "of-somebody-else-entirely"}
	c.run(t, "install-workerpool-controller", in, []row{{name: "wrong key", inputs: wrong, more: c.chart(t), want: install.StatePass}})
	c.run(t, "deploy-worker-pool", in, []row{{name: "not registered", given: given, want: install.StateFail, code: "WP-08", says: []string{"pool.controller_key_id", "Worker pool controller"}}})
	c.run(t, "install-workerpool-controller", in, []row{{name: "key", more: c.chart(t), want: install.StatePass}})
	c.begin(t, in, given, 1)
	c.run(t, "deploy-worker-pool", in, []row{{name: "registered", given: given, want: install.StatePass}})
	got := runRow(t, row{item: "deploy-worker-pool", inputs: in, given: mergedGiven(c.given, given), want: install.StatePass})
	id, _ := got.Outputs["pool.registered_id"].(string)
	if product.Space(id) != "production" {
		t.Errorf("pool %q is in space %q", id, product.Space(id))
	}
	s, err := c.Clientset.CoreV1().Secrets(controllerNamespace).Get(t.Context(), "spacelift-api-credentials", metav1.GetOptions{})
	if err != nil || string(s.Data["keyId"]) != controllerID || string(s.Data["keySecret"]) != controllerKey || string(s.Data["endpoint"]) != "https://"+netHost || len(s.Data) != 3 {
		t.Errorf("%d keys, %v", len(s.Data), err)
	}
	o, err := c.dynamic.Resource(poolKind("workerpools")).Namespace("spacelift-workers").Get(t.Context(), "enclave", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	spec, _, _ := unstructured.NestedMap(o.Object, "spec")
	if spec["token"] != nil || spec["privateKey"] != nil || spec["space"] != "production" || spec["allowedRunnerImageHosts"] != nil {
		t.Errorf("%v", spec)
	}
	c.run(t, "create-worker-pool", in, []row{
		{name: "docker registers nobody", inputs: map[string]any{"workers.kind": "docker"}, want: install.StateFail, code: "WP-09", says: []string{"workers.kind docker", "manual"}},
		{name: "two ways", inputs: map[string]any{"pool.token_file": rowFile(t, []byte("a")), "pool.key_file": rowFile(t, []byte("b"))}, want: install.StateFail, code: "WP-09", says: []string{"pool.token_file"}},
	})
	c.remove(t, "enclave")
}

// begin deploys a pool and waits for what its row would wait for: rows of tests
// try no step again.
func (c *workerRows) begin(t *testing.T, in, given map[string]any, workers int64) {
	t.Helper()
	runQuiet(t, row{item: "deploy-worker-pool", inputs: in, given: mergedGiven(c.given, given)})
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		o, err := c.dynamic.Resource(poolKind("workerpools")).Namespace("spacelift-workers").Get(t.Context(), "enclave", metav1.GetOptions{})
		if err == nil {
			if n, _, _ := unstructured.NestedInt64(o.Object, "status", "actualPoolSize"); n == workers {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("the pool has no %d workers: %v, %v", workers, o, err)
		}
	}
}

func mergedGiven(list ...map[string]any) map[string]any {
	out := map[string]any{}
	for _, m := range list {
		maps.Copy(out, m)
	}
	return out
}

// reasons: where workers are missing, run pods say why.
func (c *workerRows) reasons(t *testing.T) {
	const ns = "spacelift-workers"
	product := spacelift.Start(t, spacelift.Options{})
	in := at(product, map[string]any{"hosts.server": netHost, "pool.name": "sick"})
	given := c.made(t, in)
	pods := c.Clientset.CoreV1().Pods(ns)
	put := func(t *testing.T, p *corev1.Pod, until string) {
		t.Helper()
		p.Name, p.Labels = "run", map[string]string{"workers.spacelift.io/workerpool": "pool-1"}
		p, err := pods.Create(t.Context(), p, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			zero := int64(0)
			if err := pods.Delete(context.Background(), "run", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
				t.Error(err)
			}
		})
		if p.Spec.SchedulerName == "nobody" {
			p.Status = corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{
				Name: "worker", Image: p.Spec.Containers[0].Image, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: until, Message: "unable to find user 1983: no matching entries in passwd file"}},
			}}}
			if _, err := pods.UpdateStatus(t.Context(), p, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			p, err := pods.Get(t.Context(), "run", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range p.Status.ContainerStatuses {
				if s.State.Waiting != nil && s.State.Waiting.Reason == until {
					return
				}
			}
			if time.Now().After(end) {
				t.Fatalf("the pod is not %s: %+v", until, p.Status)
			}
		}
	}
	pod := func(image string, annotations map[string]string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "worker", Image: image}}}}
	}
	// The stand-in is away: nobody registers.
	mirrored := c.host + "/airlock/stand/controller:v0.0.32"
	for _, r := range []struct {
		row
		pod   *corev1.Pod
		until string
	}{
		{row{name: "nobody registers", code: "WP-01", says: []string{"sick has nothing workers of", "bad token"}}, nil, ""},
		{row{name: "image", code: "WP-02", says: []string{"run pod run cannot pull " + c.host + "/airlock/runner:v1", "pull secret"}}, pod(c.host+"/airlock/runner:v1", nil), "ImagePullBackOff"},
		{row{name: "user", code: "WP-03", says: []string{mirrored, "unable to find user 1983", "user 1983"}}, func() *corev1.Pod {
			p := pod(mirrored, nil)
			p.Spec.SchedulerName = "nobody"
			return p
		}(), "CreateContainerError"},
		{row{name: "broker", code: "WP-04", says: []string{"tls://mqtt.site-a.example:1984", "dial tcp: i/o timeout"}}, pod(mirrored, map[string]string{
			cluster.OutcomeAnnotation: string(cluster.Crash), cluster.TextAnnotation: "connect to the broker: dial tcp: i/o timeout",
		}), "CrashLoopBackOff"},
	} {
		t.Run(r.name, func(t *testing.T) {
			if r.pod != nil {
				put(t, r.pod, r.until)
			}
			r.want = install.StateFail
			c.run(t, "deploy-worker-pool", in, []row{func() row { r.row.given = given; return r.row }()})
		})
	}
}
