//go:build all

package helm

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// TestRealGitOps: a chart that something else applies, seen by a user who may only
// look. helm.status looks at its workloads, whose images the node really pulls.
func TestRealGitOps(t *testing.T) {
	ns := box.Namespace(t)
	files := demoChart()
	delete(files, "templates/random.yaml")
	b := carry(t, files, "{}")
	in := real(t, ns, map[string]any{
		"kubeconfig": box.User(t, "looker-"+ns, rbacv1.PolicyRule{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list"}}),
	})
	in.GitOps = true
	list, err := manifestsOf(t.Context(), b, in)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		metadata(m.Tree)["annotations"].(map[string]any)[install.MarkPrefix+"item.step"] = "sha256:1"
	}
	status := install.Input{GitOps: true, With: map[string]any{"kubeconfig": in.With["kubeconfig"], "release": in.With["release"], "namespace": ns}}
	res, err := Status{}.Run(t.Context(), status)
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != codeStatus || res.Findings[0].Fields["have"] != "not there" {
		t.Errorf("%+v, %v", res, err)
	}
	h, err := Action{}.Held(t.Context(), in, list)
	if err != nil || !slices.Contains(h.Waits, "Deployment "+ns+"/"+in.With["release"].(string)) {
		t.Fatalf("%+v, %v", h, err)
	}
	admin, err := kube.Open(t.Context(), kube.Config{Kubeconfig: box.Kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		applyAs(t, admin, m)
	}
	if h, err = (Action{}).Held(t.Context(), in, list); err != nil || len(h.Waits) != 0 || h.Result.Outputs["helm.status"] != "applied" {
		t.Fatalf("%+v, %v", h, err)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); ; <-tick.C {
		if res, err = (Status{}).Run(t.Context(), status); err == nil && len(res.Findings) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v, %v", res, err)
		}
	}
}

// applyAs applies as a controller does; a type that was just made may take a moment.
func applyAs(t *testing.T, c *kube.Client, m install.Manifest) {
	t.Helper()
	raw, err := json.Marshal(m.Tree)
	if err != nil {
		t.Fatal(err)
	}
	force := true
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); ; <-tick.C {
		u := &unstructured.Unstructured{Object: m.Tree}
		r, _, err := c.Resource(t.Context(), u)
		if err == nil {
			_, err = r.Patch(t.Context(), u.GetName(), types.ApplyPatchType, raw, metav1.PatchOptions{FieldManager: "argocd-controller", Force: &force})
		}
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", m.Object(), err)
		}
	}
}
