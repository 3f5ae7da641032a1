//go:build e2e

package main

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/goccy/go-yaml"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestEndToEnd installs on a real node without a way out: pods run from the
// mirrored images, with the pull secret, the Secrets and the probes from inside
// that the checklist gives them. The product behind the API is a stand-in, and
// its pods are a web server.
func TestEndToEnd(t *testing.T) {
	e := newBox(t)
	b, newer := e2eBundle(t, fullVersion, "1.0.0", 7), e2eBundle(t, newVersion, "1.1.0", 8)
	keys := t.TempDir()
	operator, security := fullKey(t, keys, "operator"), fullKey(t, keys, "security")
	f := newFullRun(t, b.Bundle, "onprem", operator, security)
	f.cluster = os.Getenv("KUBECONFIG")
	f.near = func(address string) string { return e.forward(t, address) }
	in := onpremAnswers(t, f)
	f.answer(nowhere(t), in, e.answers(f, in), map[string]any{"vendor.fingerprint": b.fingerprint})
	f.site.Registry = e.site(f)
	f.open()
	f.run("verify-installation-archive")
	for _, id := range inOrder(f.list) {
		if id == "deploy-helm-chart" {
			t.Run("wrong pull secret", func(t *testing.T) { e.wrongPullSecret(t, f) })
			t.Run("killed in an installation", func(t *testing.T) { e.killed(t, f, b, "pending-install") })
		}
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
	if said, err := hello(http.DefaultClient, e.nodePort(t), ""); err != nil || !strings.HasPrefix(said, "hello from spacelift-server-") {
		t.Errorf("through the NodePort: %q, %v", said, err)
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
