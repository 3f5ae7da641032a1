//go:build all

package kube

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// argo applies what is rendered, as a controller does.
func argo(t *testing.T, c *cluster.Client, list []install.Manifest) {
	t.Helper()
	for _, m := range list {
		u := &unstructured.Unstructured{Object: m.Tree}
		r, _, err := c.Resource(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(m.Tree)
		if err != nil {
			t.Fatal(err)
		}
		force := true
		if _, err := r.Patch(t.Context(), u.GetName(), types.ApplyPatchType, raw, metav1.PatchOptions{FieldManager: "argocd-controller", Force: &force}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRealGitOps: with a user who may only look, what is rendered waits until
// somebody else has applied it, and waits again when it is changed there.
func TestRealGitOps(t *testing.T) {
	ns := box.Namespace(t)
	looker := box.User(t, "looker-"+ns, rbacv1.PolicyRule{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list"}})
	admin, err := cluster.Open(t.Context(), cluster.Config{Kubeconfig: box.Kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	apply := install.Input{GitOps: true, With: map[string]any{"kubeconfig": looker, "namespace": ns, "objects": []any{configMap("m", map[string]any{"a": "1"})}}}
	secret := install.Input{GitOps: true, With: map[string]any{"kubeconfig": looker, "namespace": ns, "name": "settings", "data": map[string]any{"A": password}}}
	for _, c := range []struct {
		kind install.Renderer
		in   install.Input
		name string
	}{{Apply{}, apply, "ConfigMap " + ns + "/m"}, {Secret{}, secret, "Secret " + ns + "/settings"}} {
		list, err := c.kind.Objects(t.Context(), c.in)
		if err != nil || len(list) != 1 || list[0].Object().String() != c.name {
			t.Fatal(list, err)
		}
		mark := func(value string) {
			list[0].Tree["metadata"].(map[string]any)["annotations"] = map[string]any{install.MarkPrefix + "item.step": value}
		}
		waits := func(want bool) {
			t.Helper()
			h, err := c.kind.Held(t.Context(), c.in, list)
			if err != nil || slices.Contains(h.Waits, c.name) != want || len(h.Result.Findings) > 0 {
				t.Errorf("%s: %+v, %v, want waiting %v", c.name, h, err, want)
			}
			hidden(t, c.name, h)
		}
		mark("sha256:1")
		waits(true)
		argo(t, admin, list)
		waits(false)
		mark("sha256:2")
		waits(true)
		live, err := admin.Live(t.Context(), list[0].Object(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range live.GetManagedFields() {
			if m.Manager != "argocd-controller" {
				t.Errorf("%s: %s wrote it", c.name, m.Manager)
			}
		}
		if cluster.Made(live) {
			t.Errorf("%s is marked as made by Airlock", c.name)
		}
	}
	merge := install.Input{GitOps: true, With: map[string]any{"kubeconfig": looker, "namespace": ns, "name": "settings", "merge": true, "data": map[string]any{"A": ""}}}
	if h, err := (Secret{}).Held(t.Context(), merge, nil); err != nil || len(h.Waits) != 1 || h.Waits[0] != "Secret "+ns+"/settings (A)" {
		t.Errorf("%+v, %v", h, err)
	}
	merge.With["data"] = map[string]any{"A": password}
	if h, err := (Secret{}).Held(t.Context(), merge, nil); err != nil || len(h.Waits) != 0 {
		t.Errorf("%+v, %v", h, err)
	}
	restart := install.Input{GitOps: true, With: map[string]any{"kubeconfig": looker, "namespace": ns, "deployments": []any{"web"}}}
	if h, err := (Restart{}).Held(context.WithoutCancel(t.Context()), restart, nil); err != nil || !slices.Contains(h.Waits, "Deployment "+ns+"/web") {
		t.Errorf("%+v, %v", h, err)
	}
}
