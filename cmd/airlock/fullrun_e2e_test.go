//go:build e2e

package main

import (
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	probehttp "github.com/airlock-project/airlock/install/probe/http"
	"github.com/airlock-project/airlock/manifests"
	"github.com/goccy/go-yaml"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestEndToEnd installs what TestOutside made on a real node without a way out:
// it is verified, mirrored and installed by the commands, and pods run from the
// mirrored images, with the pull secret, the Secrets and the probes from inside
// that the checklist gives them. The product behind the API is a stand-in, and
// its pods are a web server.
func TestEndToEnd(t *testing.T) {
	e := newBox(t)
	b, newer := carriedIn(t, fullVersion), carriedIn(t, newVersion)
	keys := t.TempDir()
	operator, security := fullKey(t, keys, "operator"), fullKey(t, keys, "security")
	f := newFullRun(t, b.Bundle, "onprem", operator, security)
	f.cluster = os.Getenv("KUBECONFIG")
	e.names(t, netHost+". A 10.1.2.3")
	f.host, f.near = e.node, func(address string) string { return e.forward(t, address) }
	in := onpremAnswers(t, f)
	f.answer(nowhere(t), in, e.answers(f, in), map[string]any{"vendor.fingerprint": b.fingerprint})
	f.site.Registry = e.site(f)
	f.open()
	t.Run("mirror", func(t *testing.T) { e.mirror(t, b) })
	e.until(t, f, b, "1-3")
	f.before("deploy-helm-chart")
	t.Run("not in the mirror", func(t *testing.T) { e.notInMirror(t, f) })
	t.Run("wrong pull secret", func(t *testing.T) { e.wrongPullSecret(t, f) })
	t.Run("killed in an installation", func(t *testing.T) { e.killed(t, f, b, "pending-install") })
	e.until(t, f, b, "1-8")
	f.run()
	f.check(e2eReady)
	f.finished()
	f.secret()
	t.Run("pods", func(t *testing.T) { e.pods(t, f) })
	t.Run("closed to pods", func(t *testing.T) { e.closedToPods(t, f) })
	t.Run("stock tools", func(t *testing.T) { e.stock(t) })
	t.Run("ingress", func(t *testing.T) { e.ingress(t, f) })
	t.Run("never ready", func(t *testing.T) { e.neverReady(t, f) })
	t.Run("image missing", func(t *testing.T) { e.imageMissing(t, f) })
	t.Run("upgrade", func(t *testing.T) { e.upgrade(t, f, newer) })
	t.Run("older", func(t *testing.T) { e.older(t, f, b) })
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

// mirror has the command send everything; the row that does it finds it there.
func (e *box) mirror(t *testing.T, b opened) {
	t.Helper()
	t.Setenv("AIRLOCK_REGISTRY_USERNAME", "airlock")
	t.Setenv("AIRLOCK_REGISTRY_PASSWORD", "password-of-the-registry")
	mirror := func() string {
		return tool(t, t.TempDir(), "", "mirror", b.path, "--policy", b.policy, "--to", boxRegistry+"/airlock", "--plain-http", boxRegistry)
	}
	if out := mirror(); !strings.Contains(out, " items sent, 0 there already") {
		t.Errorf("mirror: %s", out)
	}
	if out := mirror(); !strings.Contains(out, "0 items sent, ") || !strings.Contains(out, "; 0 blobs sent") {
		t.Errorf("mirror again: %s", out)
	}
}

// until has the commands install phases, and attest what they wait for, until
// nothing waits.
func (e *box) until(t *testing.T, f *fullRun, b opened, phases string) {
	t.Helper()
	for range 20 {
		out, said, code := e.install(t, f, b, "--resume", "--phase", phases)
		f.out.WriteString(out)
		f.err.WriteString(said)
		rep, err := install.ReadReport(f.opts.State)
		if err != nil {
			t.Fatalf("code %d: %v: %s", code, err, said)
		}
		f.rep = rep
		waiting := 0
		for _, it := range f.list.Items {
			if it.Attest != nil && f.item(it.ID).State == install.StateWaiting {
				waiting++
				e.attest(t, f, b, it)
			}
		}
		if waiting > 0 {
			continue
		}
		if code != exitDone {
			t.Fatalf("phases %s: code %d: %s%s", phases, code, out, said)
		}
		return
	}
	t.Fatalf("phases %s: something still waits", phases)
}

// attest has the command sign what an item states.
func (e *box) attest(t *testing.T, f *fullRun, b opened, it manifests.Item) {
	t.Helper()
	dir := t.TempDir()
	line := []string{"checklist", "attest", it.ID, "--yes", "--bundle", b.path, "--policy", b.policy, "--site", filepath.Join(f.opts.SiteDir, "site.yaml"), "--state", f.opts.State}
	for _, p := range it.Attest.Evidence {
		if !p.Required {
			continue
		}
		path := filepath.Join(dir, p.Name+".txt")
		if err := os.WriteFile(path, []byte("delivered by hand\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		line = append(line, "--evidence", p.Name+"="+path)
	}
	f.out.WriteString(tool(t, dir, "AIRLOCK_KEY_PASSWORD=password-of-operator", line...))
}

// pods looks at what runs: each container's image is the mirrored one by its
// digest, in its pod's spec and on the node. The server answers through its
// NodePort, for Airlock's own probe too.
func (e *box) pods(t *testing.T, f *fullRun) {
	t.Helper()
	list, err := e.clients.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, p := range list.Items {
		for i, s := range p.Status.ContainerStatuses {
			seen++
			tagged, digest, pinned := strings.Cut(p.Spec.Containers[i].Image, "@")
			if tagged != boxRegistry+"/airlock/spacelift-backend:"+fullVersion || !pinned || !strings.HasSuffix(s.ImageID, "@"+digest) {
				t.Errorf("pod %s wants %s and runs %s (%s)", p.Name, p.Spec.Containers[i].Image, s.Image, s.ImageID)
			}
		}
	}
	if seen < 4 {
		t.Errorf("%d containers run in %s", seen, namespace)
	}
	if said, err := hello(http.DefaultClient, e.nodePort(t), ""); err != nil || !strings.HasPrefix(said, "hello from spacelift-server-") {
		t.Errorf("through the NodePort: %q, %v", said, err)
	}
	page := install.Input{With: map[string]any{"url": e.nodePort(t)}}
	if res, err := (probehttp.Probe{}).Run(t.Context(), page); err != nil || len(res.Findings) > 0 {
		t.Errorf("the probe of the NodePort: %+v, %v", res.Findings, err)
	}
	jobs, err := e.clients.BatchV1().Jobs(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(jobs.Items) > 0 {
		t.Errorf("jobs left in %s: %+v, %v", namespace, jobs.Items, err)
	}
}

// stock has helm and kubectl say what was installed: three releases, the
// revisions that were made, and no workload of which Airlock says nothing.
func (e *box) stock(t *testing.T) {
	t.Helper()
	var list []struct{ Name, Namespace, Chart, Status string }
	out := e.run(t, "helm", "list", "--all-namespaces", "--output", "json")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("helm list: %v: %s", err, out)
	}
	got := []string{}
	for _, r := range list {
		got = append(got, r.Namespace+"/"+r.Name+" "+r.Chart+" "+r.Status)
	}
	slices.Sort(got)
	want := []string{
		"ingress-nginx/ingress-nginx ingress-nginx-0.0.7 deployed", "spacelift-worker-controller-system/spacelift-workerpool-controller spacelift-workerpool-controller-0.62.7 deployed",
		"spacelift/spacelift spacelift-1.0.0 deployed",
	}
	if !slices.Equal(got, want) {
		t.Errorf("helm list: %q, want %q", got, want)
	}
	// The first was killed.
	if got, want := e.history(t), []string{"1 1.0.0 failed", "2 1.0.0 deployed"}; !slices.Equal(got, want) {
		t.Errorf("helm history: %q, want %q", got, want)
	}
	names := strings.Fields(e.run(t, "kubectl", "--namespace", namespace, "get", "deployments,statefulsets,daemonsets,jobs,cronjobs", "--output", "name"))
	if want := []string{"deployment.apps/spacelift-drain", "deployment.apps/spacelift-scheduler", "deployment.apps/spacelift-server"}; !slices.Equal(names, want) {
		t.Errorf("kubectl: %q, want %q", names, want)
	}
}

// notInMirror takes the backend's manifests out of the registry after it was
// mirrored: the report says which pod and image, and that the registry has no such
// image. What never worked is removed again.
func (e *box) notInMirror(t *testing.T, f *fullRun) {
	t.Helper()
	e.lose("spacelift-backend")
	it := e.within(t, f, 40*time.Second, nil, "deploy-helm-chart")
	e.lose("")
	cannotPull(t, it, "not found", "setup-registry-push-images")
}

// closedToPods names an endpoint that this machine reaches and pods do not: the
// check from inside says so, and the one from here does not.
func (e *box) closedToPods(t *testing.T, f *fullRun) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before := f.site.Inputs["network.endpoints"]
	f.answer(map[string]any{"network.endpoints": []any{l.Addr().String()}})
	f.open()
	f.run("configure-networking")
	f.run("reach-from-cluster")
	if it := f.item("configure-networking"); it.State != install.StatePass {
		t.Errorf("from here: %s (%s): %+v", it.State, it.Reason, it.Findings)
	}
	it := f.item("reach-from-cluster")
	i := slices.IndexFunc(it.Findings, func(f install.FindingReport) bool { return f.Code == "NET-01" })
	if it.State != install.StateFail || i < 0 || !strings.Contains(it.Findings[i].Cause, "pods cannot reach 127.0.0.1") {
		t.Errorf("from pods: %s (%s): %+v", it.State, it.Reason, it.Findings)
	}
	f.answer(map[string]any{"network.endpoints": before})
	f.open()
	f.run("configure-networking")
	f.run("reach-from-cluster")
	if it := f.item("reach-from-cluster"); it.State != install.StateWarn {
		t.Errorf("again: %s (%s): %+v", it.State, it.Reason, it.Findings)
	}
}

// imageMissing names an image that nobody mirrored: nothing changes, and without
// it the chart can be rendered again.
func (e *box) imageMissing(t *testing.T, f *fullRun) {
	t.Helper()
	it := e.deploy(t, f, map[string]any{"drain": map[string]any{"image": "quay.io/nobody/mirrored:v1"}})
	if it.State != install.StateFail || !slices.ContainsFunc(it.Findings, func(f install.FindingReport) bool {
		return f.Code == "REN-01" && strings.Contains(f.Cause, "quay.io/nobody/mirrored:v1")
	}) {
		t.Errorf("got %s: %+v", it.State, it.Findings)
	}
	if f.run("render-charts"); f.item("render-charts").State != install.StatePass {
		t.Errorf("without it: %+v", f.item("render-charts"))
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
