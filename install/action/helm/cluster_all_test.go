//go:build all

package helm

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/cluster"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The cluster of all tests here, and the registry that its node pulls from.
var (
	box    *cluster.Cluster
	mirror *httptest.Server
	stand  = map[string]v1.Image{}
)

// These images are not in the registry; tardy is put there by a test.
const (
	late  = "quay.io/demo/web:9"
	tardy = "quay.io/demo/web:8"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("AIRLOCK_TEST_INSTALL"); path != "" {
		os.Exit(installOnly(path))
	}
	mirror = httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	for _, image := range images {
		if err := standIn(image); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := cluster.Main(m, &box, cluster.Options{Node: true, Mirror: strings.TrimPrefix(mirror.URL, "http://")})
	mirror.Close()
	os.Exit(code)
}

// standIn makes an image in place of another and mirrors it, the late ones aside.
func standIn(image string) error {
	img, err := random.Image(512, 1)
	if err != nil {
		return err
	}
	stand[image] = img
	if image == late || image == tardy {
		return nil
	}
	return push(image)
}

func push(image string) error {
	repository := image
	if host, rest, ok := strings.Cut(image, "/"); ok && strings.Contains(host, ".") {
		repository = rest
	}
	ref, err := name.ParseReference(strings.TrimPrefix(mirror.URL, "http://")+"/airlock/"+repository, name.Insecure)
	if err != nil {
		return err
	}
	return remote.Write(ref, stand[image])
}

func sumOf(t *testing.T) func(string) string {
	return func(image string) string {
		d, err := stand[image].Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
}

// real are the arguments for a release in a namespace of the real cluster.
func real(t *testing.T, ns string, more map[string]any) install.Input {
	t.Helper()
	in := input(t, map[string]any{
		"kubeconfig": box.Kubeconfig, "namespace": ns, "timeout": "40s",
		"map": relocation(t, strings.TrimPrefix(mirror.URL, "http://"), sumOf(t)),
	})
	maps.Copy(in.With, more)
	return in
}

// values are a step's.
func values(v map[string]any) map[string]any { return map[string]any{"values": []any{v}} }

// must applies and expects that nothing fails.
func must(t *testing.T, b *carried, in install.Input) install.Result {
	t.Helper()
	res, err := Action{}.apply(t.Context(), b, in)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range res.Findings {
		if f.Severity == "" {
			t.Fatalf("%s: %s", f.Code, f.Detail)
		}
	}
	return res
}

// fails applies and expects a code; it returns the finding's detail.
func fails(t *testing.T, b *carried, in install.Input, code string) install.Finding {
	t.Helper()
	res, err := Action{}.apply(t.Context(), b, in)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(res.Findings, func(f install.Finding) bool { return f.Code == code })
	if i < 0 {
		t.Fatalf("no %s: %+v", code, res.Findings)
	}
	return res.Findings[i]
}

func nothing(t *testing.T, b *carried, in install.Input) bool {
	t.Helper()
	c, err := Action{}.plan(t.Context(), b, in)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Nothing {
		t.Logf("%+v", c)
	}
	return c.Nothing
}

// stock runs the stock helm.
func stock(t *testing.T, ns string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "helm", append(args, "--namespace", ns, "--kubeconfig", box.Kubeconfig)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "HELM_NAMESPACE=", "HELM_DRIVER=", "HOME="+t.TempDir())
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("helm %v: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

// revisions is what the stock helm says of the history: "1 superseded".
func revisions(t *testing.T, ns string) []string {
	t.Helper()
	var list []struct {
		Revision int
		Status   string
	}
	if err := json.Unmarshal([]byte(stock(t, ns, "history", "prod", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range list {
		out = append(out, fmt.Sprintf("%d %s", r.Revision, r.Status))
	}
	return out
}

func wantRevisions(t *testing.T, ns string, want ...string) {
	t.Helper()
	if got := revisions(t, ns); !slices.Equal(got, want) {
		t.Errorf("helm history: %q, want %q", got, want)
	}
}

// TestRealRelease installs, upgrades, sees drift, and removes; the stock helm sees
// the same.
func TestRealRelease(t *testing.T) {
	ns := box.Namespace(t)
	b, in := carry(t, demoChart(), ""), real(t, ns, values(map[string]any{"replicas": 2}))
	t.Setenv("HELM_NAMESPACE", "elsewhere")
	t.Setenv("HELM_DRIVER", "configmap")
	res := must(t, b, in)
	wantRevisions(t, ns, "1 deployed")
	manifest := stock(t, ns, "get", "manifest", "prod")
	for _, image := range []string{"quay.io/demo/web:1", "quay.io/demo/tool:2", "helper:3"} {
		if !strings.Contains(manifest, sumOf(t)(image)) || strings.Contains(manifest, "quay.io") {
			t.Errorf("%s is not relocated:\n%s", image, manifest)
		}
	}
	if hooks := stock(t, ns, "get", "hooks", "prod"); !strings.Contains(hooks, sumOf(t)("quay.io/demo/tool:2")) {
		t.Errorf("hooks:\n%s", hooks)
	}
	if list := stock(t, ns, "list"); !strings.Contains(list, "demo-1.0.0") {
		t.Errorf("helm list:\n%s", list)
	}
	pods, err := box.Clientset.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(pods.Items) != 4 { // two, the subchart's, the hook's
		t.Fatalf("%d pods, %v", len(pods.Items), err)
	}
	for _, p := range pods.Items {
		for _, c := range append(p.Spec.Containers, p.Spec.InitContainers...) {
			if !strings.HasPrefix(c.Image, strings.TrimPrefix(mirror.URL, "http://")+"/airlock/") || !strings.Contains(c.Image, "@sha256:") {
				t.Errorf("pod %s: image %s", p.Name, c.Image)
			}
		}
	}
	if n := len(res.Outputs["helm.objects"].([]any)); n != 6 {
		t.Errorf("%d objects: %v", n, res.Outputs["helm.objects"])
	}
	if !nothing(t, b, in) || must(t, b, in).Changed {
		t.Error("something to do after it was done")
	}

	// A person removes an object: it comes back.
	if err := box.Clientset.CoreV1().Secrets(ns).Delete(t.Context(), "prod", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if nothing(t, b, in) {
		t.Error("a lost Secret is not seen")
	}
	must(t, b, in)
	if _, err := box.Clientset.CoreV1().Secrets(ns).Get(t.Context(), "prod", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	// A chart with a newer CRD.
	newer := demoChart()
	newer["Chart.yaml"] = strings.ReplaceAll(newer["Chart.yaml"], "1.0.0", "1.1.0")
	newer["crds/gadgets.yaml"] = gadgets("a better gadget")
	b = carry(t, newer, "")
	must(t, b, in)
	out, err := box.Clientset.CoreV1().RESTClient().Get().AbsPath("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gadgets.demo.test").DoRaw(t.Context())
	if err != nil || !bytes.Contains(out, []byte("a better gadget")) {
		t.Errorf("the CRD was not upgraded: %v", err)
	}
	fails(t, carry(t, demoChart(), ""), in, "HELM-08")
	wantRevisions(t, ns, "1 superseded", "2 superseded", "3 deployed")
	// The stock helm changes it: that is seen, and put right.
	stock(t, ns, "rollback", "prod", "1")
	if nothing(t, b, in) {
		t.Error("a rollback by hand is not seen")
	}
	must(t, b, in)
	if !nothing(t, b, in) {
		t.Error("something to do after it was done")
	}
	removed, err := Uninstall(t.Context(), Removal{Kubeconfig: box.Kubeconfig, Release: "prod", Namespace: ns, Timeout: time.Minute})
	if err != nil || len(removed.Objects) != 6 || removed.Status != "deployed" {
		t.Errorf("%+v, %v", removed, err)
	}
	if _, err := box.Clientset.AppsV1().Deployments(ns).Get(t.Context(), "prod", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the Deployment is still there: %v", err)
	}
}

// TestRealLookup lets templates see what is in the cluster, in a plan too.
func TestRealLookup(t *testing.T) {
	ns := box.Namespace(t)
	files := demoChart()
	files["templates/kept.yaml"] = `{{ $have := lookup "v1" "Secret" .Release.Namespace "kept" }}
apiVersion: v1
kind: Secret
metadata: {name: kept}
data: {password: {{ if $have }}{{ $have.data.password }}{{ else }}{{ randAlphaNum 12 | b64enc }}{{ end }}}
`
	b := carry(t, files, "")
	read := func() string {
		s, err := box.Clientset.CoreV1().Secrets(ns).Get(t.Context(), "kept", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return string(s.Data["password"])
	}
	must(t, b, real(t, ns, nil))
	first := read()
	in := real(t, ns, values(map[string]any{"replicas": 2}))
	c, err := Action{}.plan(t.Context(), b, in)
	if text := strings.Join(c.Details, "\n"); err != nil || strings.Contains(text, "kept") || !strings.Contains(text, "spec.replicas (1 -> 2)") {
		t.Errorf("%v\n%s", err, text)
	}
	res := must(t, b, in)
	if second := read(); second != first || len(first) != 12 {
		t.Errorf("password %q, then %q", first, second)
	}
	if !nothing(t, b, in) {
		t.Error("something to do after it was done")
	}
	if strings.Contains(string(res.Evidence[0].Data), "password: "+base64.StdEncoding.EncodeToString([]byte(first))) {
		t.Error("the evidence shows a Secret")
	}
}

// TestRealFailures tell which pod, which image and what the log says, and leave
// what worked before.
func TestRealFailures(t *testing.T) {
	ns := box.Namespace(t)
	b := carry(t, demoChart(), "")
	short := func(v map[string]any) install.Input {
		in := real(t, ns, values(v))
		in.With["timeout"] = "6s"
		return in
	}
	// Nothing worked before: it is removed again.
	f := fails(t, b, short(map[string]any{"image": late}), "HELM-01")
	if f.Fields["container"] != "web" || !strings.Contains(f.Fields["image"], sumOf(t)(late)) || !strings.Contains(f.Detail, "airlock/demo/web") {
		t.Errorf("%+v", f)
	}
	if list := stock(t, ns, "list", "--all", "-q"); list != "" {
		t.Errorf("left: %s", list)
	}
	must(t, b, real(t, ns, nil))
	f = fails(t, b, short(map[string]any{"annotations": map[string]any{cluster.OutcomeAnnotation: string(cluster.NeverReady), cluster.TextAnnotation: "still warming up"}}), "HELM-05")
	if !strings.HasPrefix(f.Fields["workload"], "Deployment ") || f.Fields["want"] != "1" || !strings.Contains(f.Detail, "still warming up") {
		t.Errorf("%+v", f)
	}
	wantRevisions(t, ns, "1 superseded", "2 failed", "3 deployed")
	f = fails(t, b, short(map[string]any{"annotations": map[string]any{cluster.OutcomeAnnotation: string(cluster.Crash), cluster.TextAnnotation: "cannot reach the database"}}), "HELM-03")
	if !strings.Contains(f.Fields["reason"], "cannot reach the database") {
		t.Errorf("%+v", f)
	}
	f = fails(t, b, short(map[string]any{"hook": map[string]any{cluster.OutcomeAnnotation: string(cluster.Fail), cluster.TextAnnotation: "migration 7 failed"}}), "HELM-03")
	if !strings.Contains(f.Fields["reason"], "migration 7 failed") || !strings.Contains(f.Fields["workload"], "prod-migrate") {
		t.Errorf("%+v", f)
	}
	d, err := box.Clientset.AppsV1().Deployments(ns).Get(t.Context(), "prod", metav1.GetOptions{})
	if err != nil || len(d.Spec.Template.Annotations) != 0 {
		t.Errorf("not as before: %v, %v", d.Spec.Template.Annotations, err)
	}
	if !nothing(t, b, real(t, ns, nil)) {
		t.Error("something to do after a rollback")
	}
}

// TestRealForeign leaves what belongs to somebody else, and says whose it is.
func TestRealForeign(t *testing.T) {
	ns := box.Namespace(t)
	if _, err := box.Clientset.CoreV1().ConfigMaps(ns).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "prod-random"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f := fails(t, carry(t, demoChart(), ""), real(t, ns, nil), "HELM-11")
	if f.Fields["object"] != "ConfigMap "+ns+"/prod-random" {
		t.Errorf("%+v", f)
	}
	if list := stock(t, ns, "list", "--all", "-q"); list != "" {
		t.Errorf("left: %s", list)
	}
	// A user who may nothing is told what is missing.
	in := real(t, ns, map[string]any{"kubeconfig": box.User(t, "reader", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}})})
	if f := fails(t, carry(t, demoChart(), ""), in, "K8S-03"); f.Fields["resource"] != "secrets" || f.Fields["verb"] != "list" {
		t.Errorf("%+v", f)
	}
}

// order is what the process that is killed gets.
type order struct {
	Dir  string
	With map[string]any
}

// installOnly installs a chart of a directory: the process that is killed.
func installOnly(path string) int {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 2
	}
	var o order
	if err := json.Unmarshal(raw, &o); err != nil {
		return 2
	}
	t := &testing.T{}
	_, err = Action{}.apply(context.Background(), carryDir(t, o.Dir, ""), install.Input{With: o.With})
	fmt.Fprintln(os.Stderr, err)
	return 3
}

// chartDir writes a chart into a directory.
func chartDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// child is a process that installs a chart.
func child(t *testing.T, files map[string]string, in install.Input) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	raw, err := json.Marshal(order{chartDir(t, files), in.With})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "order.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, stderr := exec.Command(os.Args[0]), new(bytes.Buffer)
	cmd.Env = append(os.Environ(), "AIRLOCK_TEST_INSTALL="+path)
	cmd.Stderr = stderr
	return cmd, stderr
}

// killed begins to install in a process of its own and kills it in Helm's wait.
func killed(t *testing.T, files map[string]string, in install.Input, pending string) {
	t.Helper()
	cmd, stderr := child(t, files, in)
	ns := in.With["namespace"].(string)
	before, err := box.Clientset.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watch, err := box.Clientset.CoreV1().Events(ns).Watch(t.Context(), metav1.ListOptions{ResourceVersion: before.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	enough := time.After(time.Minute)
	for waiting := true; waiting; { // the pods are made: Helm waits for them
		select {
		case e := <-watch.ResultChan():
			ev, ok := e.Object.(*corev1.Event)
			waiting = !ok || !strings.Contains(ev.Message, sumOf(t)(tardy))
		case <-enough:
			t.Errorf("nothing is pulled: %s", stderr.String())
			waiting = false
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if got := revisions(t, ns); !strings.HasSuffix(got[len(got)-1], pending) {
		t.Fatalf("after the kill: %q; %s", got, stderr.String())
	}
}

// TestRealKilled kills installations and an upgrade in the middle of Helm's wait
// and runs again.
func TestRealKilled(t *testing.T) {
	first, second := box.Namespace(t), box.Namespace(t)
	b := carry(t, demoChart(), "")
	wish := map[string]any{"image": tardy, "extra": true, "annotations": map[string]any{"left": "behind"}}
	killed(t, demoChart(), real(t, first, values(wish)), "pending-install")
	// Another answer makes it well; what only the killed run wanted goes.
	must(t, b, real(t, first, nil))
	wantRevisions(t, first, "1 deployed")
	if _, err := box.Clientset.CoreV1().ConfigMaps(first).Get(t.Context(), "prod-extra", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("left behind: %v", err)
	}
	d, err := box.Clientset.AppsV1().Deployments(first).Get(t.Context(), "prod", metav1.GetOptions{})
	if err != nil || len(d.Spec.Template.Annotations) != 0 {
		t.Errorf("left behind: %v, %v", d.Spec.Template.Annotations, err)
	}
	killed(t, demoChart(), real(t, first, values(wish)), "pending-upgrade")
	// Again another answer: the killed upgrade is rolled back first.
	must(t, b, real(t, first, values(map[string]any{"greeting": "again"})))
	wantRevisions(t, first, "1 superseded", "2 failed", "3 superseded", "4 deployed")
	if _, err := box.Clientset.CoreV1().ConfigMaps(first).Get(t.Context(), "prod-extra", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("left behind: %v", err)
	}
	killed(t, demoChart(), real(t, first, values(wish)), "pending-upgrade")
	killed(t, demoChart(), real(t, second, values(wish)), "pending-install")
	// The image arrives; the same runs again end what was begun.
	if err := push(tardy); err != nil {
		t.Fatal(err)
	}
	for ns, want := range map[string][]string{
		first:  {"1 superseded", "2 failed", "3 superseded", "4 superseded", "5 failed", "6 deployed"},
		second: {"1 failed", "2 deployed"},
	} {
		must(t, b, real(t, ns, values(wish)))
		wantRevisions(t, ns, want...)
		if !nothing(t, b, real(t, ns, values(wish))) {
			t.Error("something to do after it was done")
		}
	}
}

// TestRealCancelled ends with its context and leaves the rest to the next run.
func TestRealCancelled(t *testing.T) {
	ns := box.Namespace(t)
	b := carry(t, demoChart(), "")
	in := real(t, ns, values(map[string]any{"annotations": map[string]any{cluster.OutcomeAnnotation: string(cluster.NeverReady)}}))
	ctx, cancel := context.WithCancel(t.Context())
	watch, err := box.Clientset.AppsV1().Deployments(ns).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	go func() {
		<-watch.ResultChan()
		cancel()
	}()
	if _, err := (Action{}).apply(ctx, b, in); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("error %v", err)
	}
	wantRevisions(t, ns, "1 pending-install")
	must(t, b, real(t, ns, nil))
	wantRevisions(t, ns, "1 deployed")
}
