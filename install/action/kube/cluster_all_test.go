//go:build all

package kube

import (
	"os"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/cluster"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// box is the real control plane of all tests here.
var box *cluster.Cluster

func TestMain(m *testing.M) { os.Exit(cluster.Main(m, &box, cluster.Options{})) }

// TestRealSecret: the whole set, some keys by another step, and the whole set
// again, on an API server that knows who owns what.
func TestRealSecret(t *testing.T) {
	ns := box.Namespace(t)
	get := func() *corev1.Secret {
		s, err := box.Clientset.CoreV1().Secrets(ns).Get(t.Context(), "settings", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	apply := func(name string, changed bool, with map[string]any, want ...string) install.Result {
		t.Helper()
		with["kubeconfig"], with["namespace"], with["name"] = box.Kubeconfig, ns, "settings"
		plan, err := Secret{}.Plan(t.Context(), install.Input{With: with})
		if err != nil || plan.Nothing == changed {
			t.Errorf("%s: plan %+v, %v", name, plan, err)
		}
		hidden(t, name, plan)
		res, err := Secret{}.Apply(t.Context(), install.Input{With: with})
		check(t, name, Secret{}, res, err, want...)
		if len(want) == 0 && res.Changed != changed {
			t.Errorf("%s: changed is %v", name, res.Changed)
		}
		return res
	}
	whole := map[string]any{"data": map[string]any{"A": password, "B": "b", "C": "c"}}
	first := apply("first", true, whole)
	if s := get(); s.Annotations["airlock-project.io/content-hash"] != first.Outputs["secret.settings.hash"] || string(s.Data["A"]) != password {
		t.Errorf("%+v", s.ObjectMeta)
	}
	apply("again", false, whole)
	merge := map[string]any{"merge": true, "data": map[string]any{"A": "", "D": "d"}}
	apply("merge", true, merge)
	apply("merge again", false, merge)
	apply("the whole set keeps what was merged", false, whole)
	if s := get(); len(s.Data) != 4 || len(s.Data["A"]) != 0 || string(s.Data["D"]) != "d" {
		t.Errorf("%d keys", len(s.Data))
	}
	apply("fewer", true, map[string]any{"data": map[string]any{"A": password, "B": "new"}})
	if s := get(); len(s.Data) != 3 || string(s.Data["B"]) != "new" {
		t.Errorf("%d keys", len(s.Data))
	}
	_, err := box.Clientset.CoreV1().Secrets(ns).Patch(t.Context(), "settings", types.MergePatchType, []byte(`{"stringData":{"B":"by hand"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	if err != nil {
		t.Fatal(err)
	}
	res := apply("another owner", true, map[string]any{"data": map[string]any{"B": password}}, "K8S-08")
	if len(res.Findings) == 1 && res.Findings[0].Fields["owners"] != "kubectl-edit" {
		t.Errorf("%+v", res.Findings)
	}
	apply("another owner of a merge", true, map[string]any{"merge": true, "data": map[string]any{"B": password}}, "K8S-08")
	apply("by force", true, map[string]any{"force": true, "data": map[string]any{"B": password}})
	apply("remove", true, map[string]any{"merge": true, "remove": []any{"D"}})
	if s := get(); s.Data["D"] != nil || string(s.Data["B"]) != password {
		t.Errorf("%d keys", len(s.Data))
	}
	typed := map[string]any{"kubeconfig": box.Kubeconfig, "namespace": ns, "name": "settings", "type": "example.org/x", "data": map[string]any{"B": password}}
	got, err := Secret{}.Apply(t.Context(), install.Input{With: typed})
	check(t, "another type", Secret{}, got, err, "K8S-09")
}

// TestRealApply: types before what is of them, owners, and namespaces on their way
// out.
func TestRealApply(t *testing.T) {
	ns := box.Namespace(t)
	crd := map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": "gadgets.example.org"},
		"spec": map[string]any{"group": "example.org", "scope": "Namespaced", "names": map[string]any{"kind": "Gadget", "plural": "gadgets"}, "versions": []any{
			map[string]any{"name": "v1", "served": true, "storage": true, "schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
		}},
	}
	gadget := map[string]any{"apiVersion": "example.org/v1", "kind": "Gadget", "metadata": map[string]any{"name": "g"}, "spec": map[string]any{"size": 3}}
	other := ns + "-new"
	in := install.Input{With: map[string]any{"kubeconfig": box.Kubeconfig, "namespace": other, "objects": []any{
		gadget, configMap("m", map[string]any{"a": "1"}), crd, map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": other}},
	}}}
	plan, err := Apply{}.Plan(t.Context(), in)
	if err != nil || len(plan.Details) != 4 || !strings.Contains(strings.Join(plan.Details, "\n"), "of a type that is made with it") || !strings.Contains(strings.Join(plan.Details, "\n"), "in a namespace that is made with it") {
		t.Errorf("%+v, %v", plan, err)
	}
	res, err := Apply{}.Apply(t.Context(), in)
	check(t, "all", Apply{}, res, err)
	if plan, err = (Apply{}).Plan(t.Context(), in); err != nil || !plan.Nothing {
		t.Errorf("%+v, %v", plan, err)
	}
	res, err = Apply{}.Apply(t.Context(), in)
	check(t, "again", Apply{}, res, err)
	if res.Changed {
		t.Error("a second time changes something")
	}
	_, err = box.Clientset.CoreV1().ConfigMaps(other).Patch(t.Context(), "m", types.MergePatchType, []byte(`{"data":{"a":"2"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	if err != nil {
		t.Fatal(err)
	}
	res, err = Apply{}.Apply(t.Context(), in)
	check(t, "owned", Apply{}, res, err, "K8S-08")
	in.With["force"] = true
	res, err = Apply{}.Apply(t.Context(), in)
	check(t, "forced", Apply{}, res, err)
	// A finalizer that nobody clears holds it.
	cm, err := box.Clientset.CoreV1().ConfigMaps(other).Get(t.Context(), "m", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cm.Finalizers = []string{"example.org/held"}
	if _, err = box.Clientset.CoreV1().ConfigMaps(other).Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := box.Clientset.CoreV1().Namespaces().Delete(t.Context(), other, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	in.With["objects"] = []any{configMap("late", nil)}
	res, err = Apply{}.Apply(t.Context(), in)
	check(t, "terminating", Apply{}, res, err, "NS-01")
	in.With["namespace"] = ns + "-none"
	res, err = Apply{}.Apply(t.Context(), in)
	check(t, "no namespace", Apply{}, res, err, "NS-01")
	if _, err := box.Clientset.CoreV1().ConfigMaps(other).Patch(t.Context(), "m", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestRealRemoval leaves a namespace that holds what a person put there, be it no
// pod, or that cannot be looked at.
func TestRealRemoval(t *testing.T) {
	ns := box.Namespace(t) + "-ours"
	object := install.Object{APIVersion: "v1", Kind: "Namespace", Name: ns}
	res, err := Apply{}.Apply(t.Context(), install.Input{With: map[string]any{"kubeconfig": box.Kubeconfig, "objects": []any{
		map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": ns}},
	}}})
	check(t, "namespace", Apply{}, res, err)
	_, err = box.Clientset.CoreV1().Secrets(ns).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "of-a-person"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	remove := func(kubeconfig string, removed bool, want string) {
		t.Helper()
		r, err := OpenRemoval(t.Context(), kubeconfig, "")
		if err != nil {
			t.Fatal(err)
		}
		got, reason, err := r.Remove(t.Context(), object)
		if err != nil || got != removed || reason != want {
			t.Errorf("removed %v: %q, %v", got, reason, err)
		}
	}
	remove(box.Kubeconfig, false, "it still holds secrets "+ns+"/of-a-person")
	some := box.User(t, "remover", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get", "delete"}},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods", "persistentvolumeclaims"}, Verbs: []string{"list"}})
	r, err := OpenRemoval(t.Context(), some, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, reason, err := r.Remove(t.Context(), object); err != nil || got || !strings.HasPrefix(reason, "it still holds objects that cannot be seen: user remover may not list ") {
		t.Errorf("removed %v: %q, %v", got, reason, err)
	}
	if err := box.Clientset.CoreV1().Secrets(ns).Delete(t.Context(), "of-a-person", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	remove(box.Kubeconfig, true, "")
	remove(box.Kubeconfig, false, "it is gone")
}
