//go:build e2e

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// newVersion is what the stand-in is upgraded to.
const newVersion = "v4.4.0"

// upgrade brings a newer bundle of the same product: what would change is shown,
// in a dry run and again before it changes, a process that is killed in the
// middle is finished by the next, and pods run the new images.
func (e *box) upgrade(t *testing.T, f *fullRun, b opened) {
	t.Helper()
	before, old := e.history(t), e.uids(t)
	// First by a person who has done nothing yet with the newer bundle, then by one
	// who has done all that comes before the release.
	f.answer(map[string]any{"vendor.fingerprint": b.fingerprint})
	e.wouldChange(t, f, b, exitWaiting) // its statements are about the older one
	e.adopt(t, f, b, false)
	e.wouldChange(t, f, b, exitDone, "--item", "deploy-helm-chart")
	if after := e.history(t); !slices.Equal(before, after) || !slices.Equal(old, e.uids(t)) {
		t.Fatalf("the dry run changed something: %q", after)
	}
	last := len(before)
	e.killed(t, f, b, "pending-upgrade")
	want := []string{fmt.Sprint(last, " 1.0.0 superseded"), fmt.Sprint(last+1, " 1.1.0 failed"), fmt.Sprint(last+2, " 1.1.0 deployed")}
	if got := e.history(t); len(got) != last+2 || !slices.Equal(got[last-1:], want) {
		t.Errorf("helm history: %q, want it to end with %q", got, want)
	}
	e.agrees(t, f, last+2)
	for _, uid := range e.uids(t) {
		if slices.Contains(old, uid) {
			t.Error("a pod was not replaced")
		}
	}
	e.images(t, newVersion)
}

// wouldChange has a dry run say what the newer bundle changes.
func (e *box) wouldChange(t *testing.T, f *fullRun, b opened, want int, args ...string) {
	t.Helper()
	out, said, code := e.install(t, f, b, append([]string{"--dry-run"}, args...)...)
	if code != want {
		t.Errorf("--dry-run %v ends with code %d, want %d: %s", args, code, want, said)
	}
	for _, want := range []string{
		"spacelift in namespace spacelift as revision ", "chart spacelift 1.1.0", "change Deployment spacelift-server", "change Deployment spacelift-drain",
		fullVersion, newVersion, "add ConfigMap spacelift-news",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the dry run lacks %q:\n%s", want, out)
		}
	}
}

// older brings the older bundle back: it is refused before anything else, its
// chart is refused by the release, and with --allow-older it is installed; the
// run says what it changes before it does.
func (e *box) older(t *testing.T, f *fullRun, b opened) {
	t.Helper()
	before := e.history(t)
	if out, said, code := e.install(t, f, b, "--resume", "--phase", "1-4"); code == exitDone || code == exitWaiting || !strings.Contains(said, "--allow-older") {
		t.Errorf("an older bundle: code %d: %s%s", code, out, said)
	}
	// Charts before it have to be replaced for the release to be reached.
	e.adopt(t, f, b, true)
	helmKinds(f.opts.Probes, f.opts.Actions, false)
	it := e.within(t, f, time.Minute, nil, "deploy-helm-chart")
	i := slices.IndexFunc(it.Findings, func(f install.FindingReport) bool { return f.Code == "HELM-08" })
	if it.State != install.StateFail || i < 0 || !strings.Contains(it.Findings[i].Cause, "1.1.0") || !strings.Contains(it.Findings[i].Fix, "--allow-older") {
		t.Errorf("an older chart: %s: %+v", it.State, it.Findings)
	}
	if after := e.history(t); !slices.Equal(before, after) {
		t.Errorf("what was refused is in the history: %q", after)
	}
	out, said, code := e.install(t, f, b, "--allow-older", "--resume", "--phase", "1-4")
	if code != exitDone && code != exitWaiting {
		t.Fatalf("--allow-older ends with code %d: %s%s", code, out, said)
	}
	for _, want := range []string{"change ", "upgrade release spacelift in namespace spacelift", "change Deployment spacelift-server", "remove ConfigMap spacelift-news"} {
		if !strings.Contains(said, want) {
			t.Errorf("the run does not say %q before it does it: %s", want, said)
		}
	}
	after := e.history(t)
	if len(after) != len(before)+1 || !strings.HasSuffix(after[len(after)-1], " 1.0.0 deployed") {
		t.Errorf("helm history: %q", after)
	}
	e.agrees(t, f, len(before)+1)
	e.images(t, fullVersion)
}

// adopt does with another bundle all that comes before the release.
func (e *box) adopt(t *testing.T, f *fullRun, b opened, older bool) {
	t.Helper()
	f.b = b.Bundle
	f.answer(map[string]any{"vendor.fingerprint": b.fingerprint})
	f.open()
	helmKinds(f.opts.Probes, f.opts.Actions, older)
	f.before("deploy-helm-chart")
}

// agrees compares what Airlock says of the release with the revision that Helm
// has.
func (e *box) agrees(t *testing.T, f *fullRun, revision int) {
	t.Helper()
	f.run("deploy-helm-chart")
	it := f.item("deploy-helm-chart")
	if got := fmt.Sprint(it.Outputs["helm.revision"], " ", it.Outputs["helm.status"]); got != fmt.Sprint(revision, " deployed") {
		t.Errorf("Airlock says %s of revision %d", got, revision)
	}
}

// uids are those of the server's pods.
func (e *box) uids(t *testing.T) []string {
	t.Helper()
	list, err := e.clients.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=spacelift-server"})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			out = append(out, string(p.UID))
		}
	}
	slices.Sort(out)
	return out
}

// images checks that both servers run a version.
func (e *box) images(t *testing.T, version string) {
	t.Helper()
	list, err := e.clients.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=spacelift-server"})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range list.Items {
		if p.DeletionTimestamp != nil {
			continue
		}
		n++
		if image := p.Spec.Containers[0].Image; !strings.HasPrefix(image, boxRegistry+"/airlock/spacelift-backend:"+version+"@sha256:") || p.Status.Phase != corev1.PodRunning {
			t.Errorf("pod %s runs %s: %s", p.Name, image, p.Status.Phase)
		}
	}
	if n != 2 {
		t.Errorf("%d pods of the server", n)
	}
}

// within runs the release, or other items, in a time of which Helm gets three
// quarters.
func (e *box) within(t *testing.T, f *fullRun, limit time.Duration, values map[string]any, items ...string) install.ItemReport {
	t.Helper()
	o := f.opts
	o.Items = items
	if values != nil {
		raw, err := json.Marshal(values)
		if err != nil {
			t.Fatal(err)
		}
		o.Values = []install.ValuesFile{{Name: "site.yaml", Data: raw}}
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	rep, err := install.Run(ctx, f.b, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range items {
		if it := reported(rep, id); it.State == install.StateFail {
			return it
		}
	}
	return reported(rep, items[len(items)-1])
}

// deploy runs the release again with other values and returns its item.
func (e *box) deploy(t *testing.T, f *fullRun, values map[string]any) install.ItemReport {
	t.Helper()
	return e.within(t, f, 48*time.Second, values, "install-ingress-controller", "render-charts", "deploy-helm-chart")
}

// neverReady upgrades to what never becomes ready: the report says which pod, it
// is rolled back, and all the while the pods of before serve.
func (e *box) neverReady(t *testing.T, f *fullRun) {
	t.Helper()
	before, pods := e.history(t), e.uids(t)
	asked, failed := e.ask(t)
	it := e.deploy(t, f, map[string]any{"server": map[string]any{"fail": true}})
	if it.State != install.StateFail || !slices.ContainsFunc(it.Findings, func(f install.FindingReport) bool {
		return (f.Code == "HELM-05" || f.Code == "HELM-03") && strings.Contains(f.Cause+f.Detail, "spacelift-server")
	}) {
		t.Errorf("got %s (%s): %+v", it.State, it.Reason, it.Findings)
	}
	if n, bad := asked(), failed(); n < 50 || len(bad) > 0 {
		t.Errorf("of %d requests meanwhile, these failed: %q", n, bad)
	}
	last := len(before)
	want := []string{fmt.Sprint(last, " 1.0.0 superseded"), fmt.Sprint(last+1, " 1.0.0 failed"), fmt.Sprint(last+2, " 1.0.0 deployed")}
	if got := e.history(t); len(got) != last+2 || !slices.Equal(got[last-1:], want) {
		t.Errorf("helm history %q, want it to end with %q", got, want)
	}
	if out := e.run(t, "helm", "history", "spacelift", "--namespace", namespace); !strings.Contains(out, fmt.Sprint("Rollback to ", last)) {
		t.Errorf("no rollback in %s", out)
	}
	if after := e.uids(t); !slices.Equal(pods, after) {
		t.Errorf("the pods of the server were %v, are %v", pods, after)
	}
	if it := e.deploy(t, f, map[string]any{"server": map[string]any{"note": "well again"}}); it.State != install.StatePass {
		t.Errorf("after it: %s: %+v", it.State, it.Findings)
	}
}

// ask asks the server through its NodePort, ten times a second until asked is
// called.
func (e *box) ask(t *testing.T) (asked func() int, failed func() []string) {
	t.Helper()
	at := e.nodePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	n, bad := 0, []string{}
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		for ctx.Err() == nil {
			if said, err := hello(client, at, ""); err != nil || !strings.HasPrefix(said, "hello from spacelift-server-") {
				bad = append(bad, fmt.Sprint(said, err))
			}
			n++
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return func() int { stop(); return n }, func() []string { stop(); return bad }
}

// hello asks a server, for a host if there is one, and returns what it says.
func hello(client *http.Client, at, host string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, at, nil) //nolint:noctx // the client has a timeout
	if err != nil {
		return "", err
	}
	req.Host = host
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return string(body), err
}

// nodePort is the address of the server.
func (e *box) nodePort(t *testing.T) string {
	t.Helper()
	svc, err := e.clients.CoreV1().Services(namespace).Get(t.Context(), "spacelift-server", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("http://%s:%d/", e.node, svc.Spec.Ports[0].NodePort)
}
