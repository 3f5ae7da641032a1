//go:build all

package helm

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/cluster"
	"helm.sh/helm/v3/pkg/release"
	helmtime "helm.sh/helm/v3/pkg/time"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// shaky is a chart whose installation, upgrade and removal have a wait and a hook.
func shaky() map[string]string {
	return odd(map[string]string{
		"a.yaml": config("made", ""),
		"d.yaml": thing("apps/v1", "Deployment", "name: prod", `spec:
  selector: {matchLabels: {app: prod}}
  template:
    metadata: {labels: {app: prod}, annotations: {{ .Values.annotations | default dict | toJson }}}
    spec: {containers: [{name: web, image: "quay.io/demo/web:1"}]}`),
		"h.yaml": thing("batch/v1", "Job", `name: prod-seed, annotations: {helm.sh/hook: "post-install,post-upgrade,pre-delete"}`,
			`spec: {backoffLimit: 0, template: {spec: {restartPolicy: Never, containers: [{name: seed, image: "quay.io/demo/tool:2"}]}}}`),
	})
}

// shake is an operation and what goes wrong in the middle of it.
type shake struct {
	op    string        // install, upgrade, undo (of an upgrade), uninstall
	after string        // the kind after whose first change it begins
	fault string        // see faulty
	lasts time.Duration // 0: until the operation has ended
	says  string        // how it ends: "" is well, else a code or what is told
}

const (
	brief = 3 * time.Second
	down  = "K8S-05"
	out   = "K8S-06"
)

var shakes = []shake{
	// In the wait for pods.
	{"install", "deployments", "refuse", brief, ""},
	{"install", "deployments", "cut", brief, ""},
	{"install", "deployments", "429", brief, ""},
	{"install", "deployments", "503", brief, ""},
	{"install", "deployments", "500", brief, ""},
	{"install", "deployments", "silent", brief, ""},
	{"install", "deployments", "watch", 0, ""},
	{"install", "deployments", "refuse", 0, down},
	{"install", "deployments", "cut", 0, down},
	{"install", "deployments", "503", 0, down},
	{"install", "deployments", "silent", 0, down},
	{"install", "deployments", "401", 0, out},
	// Between two objects, which Helm makes once. Only who asks for patience gets it.
	{"install", "configmaps", "429", brief, ""},
	{"install", "configmaps", "503", brief, ""},
	{"install", "configmaps", "silent", brief, ""},
	{"install", "configmaps", "refuse", 0, down},
	{"install", "configmaps", "cut", 0, down},
	{"install", "configmaps", "500", 0, down},
	// In the wait for a hook.
	{"install", "jobs", "refuse", brief, ""},
	{"install", "jobs", "cut", brief, ""},
	{"install", "jobs", "401", brief, ""},
	{"install", "jobs", "watch", 0, ""},
	{"install", "jobs", "500", 0, down},
	{"install", "jobs", "silent", 0, down},
	{"upgrade", "deployments", "refuse", brief, ""},
	{"upgrade", "deployments", "500", brief, ""},
	{"upgrade", "deployments", "watch", 0, ""},
	{"upgrade", "deployments", "cut", 0, down},
	{"upgrade", "deployments", "401", 0, out},
	{"upgrade", "deployments", "silent", 0, down},
	// In the rollback of an upgrade that failed.
	{"undo", "deployments", "refuse", brief, ""},
	{"undo", "deployments", "429", brief, ""},
	{"undo", "deployments", "watch", 0, ""},
	{"undo", "deployments", "refuse", 0, "not rolled back"},
	{"undo", "deployments", "401", 0, "not rolled back"},
	{"undo", "deployments", "silent", 0, "not rolled back"},
	{"uninstall", "jobs", "refuse", brief, ""},
	{"uninstall", "jobs", "silent", brief, ""},
	{"uninstall", "jobs", "watch", 0, ""},
	{"uninstall", "jobs", "refuse", 0, "refused"},
	{"uninstall", "jobs", "401", 0, "expired"},
	{"uninstall", "deployments", "503", brief, ""},
	{"uninstall", "deployments", "cut", 0, "ends in the middle"},
	{"uninstall", "deployments", "500", 0, "500"},
	{"uninstall", "deployments", "401", 0, "expired"},
}

// stepTime is what a step has, of which Helm may wait a part.
const stepTime = 40 * time.Second

// TestRealFaults has an API server that misbehaves in the middle of the work. What
// goes by is waited for. What does not ends in time, with the server's name and no
// chain of Go's errors, nothing is called done that is not, and the next run puts
// it right.
func TestRealFaults(t *testing.T) {
	var all sync.WaitGroup
	defer all.Wait()
	room := make(chan bool, 15) // they mostly wait
	for _, s := range shakes {
		all.Go(func() {
			room <- true
			defer func() { <-room }()
			t.Run(fmt.Sprintf("%s %s %s %s", s.op, s.after, s.fault, s.lasts), s.run)
		})
	}
}

func (s shake) run(t *testing.T) {
	ns, b, f := box.Namespace(t), carry(t, shaky(), ""), newFaulty(t)
	f.method, f.kind, f.fault, f.lasts = http.MethodPost, s.after, s.fault, s.lasts
	if s.op != "install" {
		must(t, b, real(t, ns, nil))
	}
	in := real(t, ns, map[string]any{"timeout": "15s"})
	annotations := map[string]any{}
	in.With["values"] = []any{map[string]any{"annotations": annotations}}
	switch s.op {
	case "undo":
		in.With["timeout"], f.skip, annotations[cluster.OutcomeAnnotation] = "5s", 1, string(cluster.NeverReady)
		fallthrough
	case "upgrade":
		f.method, annotations["some"] = http.MethodPatch, "change"
	case "uninstall":
		if s.after == "deployments" {
			f.method = http.MethodDelete
		}
	}
	in.With["kubeconfig"] = f.kubeconfig
	ctx, cancel := context.WithTimeout(t.Context(), stepTime)
	defer cancel()
	began := time.Now()
	said := s.do(ctx, t, b, in)
	if took := time.Since(began); took > stepTime || ctx.Err() != nil {
		t.Errorf("it took %s", took)
	}
	if !f.begun {
		t.Error("nothing went wrong")
	}
	if s.says == "" && said != "" || !strings.Contains(said, s.says) || s.says != "" && !strings.Contains(said, f.address) {
		t.Errorf("said %q, want %q and the server's address", said, s.says)
	}
	for _, chain := range []string{"error occurred", "context deadline", "Please retry", "timed out waiting", "dial tcp"} {
		if strings.Contains(said, chain) {
			t.Errorf("said %q", said)
		}
	}
	f.lift()
	in.With["kubeconfig"], in.With["timeout"] = box.Kubeconfig, "40s"
	if s.op == "uninstall" {
		s.gone(t, ns, said)
		return
	}
	if s.op == "undo" {
		delete(annotations, cluster.OutcomeAnnotation)
	} else if s.says == "" && !nothing(t, b, in) {
		t.Error("it was called done, and is not")
	}
	must(t, b, in)
	if got := revisions(t, ns); !strings.HasSuffix(got[len(got)-1], " deployed") || !nothing(t, b, in) {
		t.Errorf("the next run left %q", got)
	}
}

// do returns what is said of what went wrong, "" if nothing did.
func (s shake) do(ctx context.Context, t *testing.T, b *carried, in install.Input) string {
	if s.op == "uninstall" {
		_, err := Uninstall(ctx, Removal{Kubeconfig: in.With["kubeconfig"].(string), Release: "prod", Namespace: in.With["namespace"].(string), Timeout: 15 * time.Second})
		if err != nil {
			return err.Error()
		}
		return ""
	}
	res, err := Action{}.apply(ctx, b, in)
	if err != nil {
		t.Errorf("no finding: %v", err)
	}
	if s.op == "undo" { // that the upgrade failed is not what is asked
		f := res.Findings[len(res.Findings)-1]
		if !slices.ContainsFunc(res.Findings, func(f install.Finding) bool { return f.Code == codeUnready }) {
			t.Errorf("%+v", res.Findings)
		}
		if strings.HasSuffix(f.Detail, "was rolled back to revision 1") {
			return ""
		}
		return f.Detail
	}
	var out strings.Builder
	for _, f := range res.Findings {
		if f.Severity == "" {
			out.WriteString(f.Code + " " + f.Detail)
		}
	}
	return out.String()
}

// gone is whether a release is, at the latest after the next run.
func (s shake) gone(t *testing.T, ns, said string) {
	_, err := box.Clientset.AppsV1().Deployments(ns).Get(t.Context(), "prod", metav1.GetOptions{})
	if said == "" && !apierrors.IsNotFound(err) {
		t.Errorf("it was called gone, and is not: %v", err)
	}
	if err := uninstall(t.Context(), ns); err != nil {
		t.Error(err)
	}
	untouched(t, ns)
}

// TestRealKilledEarly kills a run between Helm's record and the first object.
func TestRealKilledEarly(t *testing.T) {
	ns, f := box.Namespace(t), newFaulty(t)
	cmd, stderr := child(t, shaky(), real(t, ns, map[string]any{"kubeconfig": f.kubeconfig}))
	f.method, f.kind = http.MethodPost, "configmaps"
	f.before = func() {
		_ = cmd.Process.Kill() // that it ends killed is looked at below
		panic(http.ErrAbortHandler)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("it ended with %v: %s", err, stderr)
	}
	if got := revisions(t, ns); !slices.Equal(got, []string{"1 pending-install"}) {
		t.Fatalf("history %q: %s", got, stderr)
	}
	if _, err := box.Clientset.CoreV1().ConfigMaps(ns).Get(t.Context(), "made", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the first object is there: %v", err)
	}
	must(t, carry(t, shaky(), ""), real(t, ns, nil))
	wantRevisions(t, ns, "1 failed", "2 deployed")
}

// TestRealClocks: whether others are at work is judged by the server's clock.
func TestRealClocks(t *testing.T) {
	ns, b, f := box.Namespace(t), carry(t, shaky(), ""), newFaulty(t)
	must(t, b, real(t, ns, nil))
	s, err := Action{}.session(t.Context(), arguments{Kubeconfig: box.Kubeconfig, Release: "prod", Namespace: ns})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.cfg.Releases.Last("prod")
	if err != nil {
		t.Fatal(err)
	}
	f.ahead = -2 * patience // this machine's clock is ahead of the cluster's, where an upgrade of others has just begun
	r.Version, r.Info.Status, r.Info.LastDeployed = 2, release.StatusPendingUpgrade, helmtime.Now().Add(f.ahead)
	if err := s.cfg.Releases.Create(r); err != nil {
		t.Fatal(err)
	}
	if got := fails(t, b, real(t, ns, map[string]any{"kubeconfig": f.kubeconfig}), codeBusy); got.Fields["status"] != "pending-upgrade" {
		t.Errorf("%+v", got)
	}
	wantRevisions(t, ns, "1 deployed", "2 pending-upgrade")
	must(t, b, real(t, ns, nil)) // by a clock that is right it has long ended
	if got := revisions(t, ns); !strings.HasSuffix(got[len(got)-1], " deployed") {
		t.Errorf("history %q", got)
	}
}
