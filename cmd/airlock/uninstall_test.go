package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	authv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// made is an object that an installation made.
func made(kind, namespace, name string, more map[string]any) map[string]any {
	md := map[string]any{"name": name, "annotations": map[string]any{"airlock-project.io/made-by": "airlock"}}
	if namespace != "" {
		md["namespace"] = namespace
	}
	maps.Copy(md, more)
	return map[string]any{"apiVersion": "v1", "kind": kind, "metadata": md}
}

func written(manager string) map[string]any {
	return map[string]any{"manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-11-27T10:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": map[string]any{}}
}

// smallCluster is an API server that answers what a test gives for a method and
// path, and 404 to all else. It returns a kubeconfig.
func smallCluster(t *testing.T, answers map[string]any) string {
	t.Helper()
	answers["GET /api/v1"] = map[string]any{"kind": "APIResourceList", "groupVersion": "v1", "resources": []any{
		map[string]any{"name": "namespaces", "kind": "Namespace"},
		map[string]any{"name": "secrets", "kind": "Secret", "namespaced": true, "verbs": []any{"list"}},
		map[string]any{"name": "configmaps", "kind": "ConfigMap", "namespaced": true, "verbs": []any{"list"}},
	}}
	answers["GET /apis"] = map[string]any{"kind": "APIGroupList", "groups": []any{}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		v, ok := answers[r.Method+" "+r.URL.Path]
		if f, isFunc := v.(func(*http.Request) any); isFunc {
			v = f(r)
		}
		if !ok {
			v = map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound"}
		}
		if code, _ := v.(map[string]any)["code"].(int); code > 0 {
			w.WriteHeader(code)
		}
		_ = json.NewEncoder(w).Encode(v) // a client that left is told nothing
	}))
	t.Cleanup(srv.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: %q}}]\nusers: [{name: u, user: {token: t}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n", srv.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func listOf(items ...any) map[string]any {
	if items == nil {
		items = []any{}
	}
	return map[string]any{"kind": "List", "apiVersion": "v1", "metadata": map[string]any{}, "items": items}
}

// TestUninstallPlan says what goes, what stays and why, who else wrote to it, and
// which rights are missing, before anything is done.
func TestUninstallPlan(t *testing.T) {
	denied := "none"
	key := made("Secret", "shop", "key", map[string]any{"managedFields": []any{written("airlock"), written("airlock-merge"), written("kube-controller-manager"), written("kubectl-edit")}})
	old := map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "old", "namespace": "shop"}}
	mine := map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "mine", "namespace": "shop"}}
	answers := map[string]any{
		"GET /api/v1/namespaces/shop":             made("Namespace", "", "shop", nil),
		"GET /api/v1/namespaces/shop/secrets/key": key,
		"GET /api/v1/namespaces/shop/secrets/old": old,
		"GET /api/v1/namespaces/shop/secrets":     listOf(key, old),
		"GET /api/v1/namespaces/shop/configmaps":  listOf(mine),
		"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews": func(r *http.Request) any {
			var review authv1.SelfSubjectAccessReview
			if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
				t.Error(err)
			}
			a := review.Spec.ResourceAttributes
			review.Status.Allowed = a.Verb+" "+a.Resource != denied
			out, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&review)
			if err != nil {
				t.Error(err)
			}
			return out
		},
	}
	object := func(kind, ns, name, item string) install.Kept {
		return install.Kept{Object: install.Object{APIVersion: "v1", Kind: kind, Namespace: ns, Name: name}, Item: item}
	}
	kept := []install.Kept{
		object("Namespace", "", "shop", "a"), object("Secret", "shop", "key", "b"), object("Secret", "shop", "old", "b"), object("Secret", "shop", "gone", "b"),
	}
	u, err := uninstallFlags{kubeconfig: smallCluster(t, answers)}.cluster(t.Context(), nil, "")
	if err != nil {
		t.Fatal(err)
	}
	shown := func() string {
		t.Helper()
		plan, err := u.plan(t.Context(), kept)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		printRemoval(&b, plan)
		return b.String()
	}
	want := "remove  Secret shop/key  (b)\n        written to by kubectl-edit (2026-11-27T10:00:00Z) too\n" +
		"stay    Secret shop/gone: it is gone\nstay    Secret shop/old: it was there before the installation\n"
	if got := shown(); got != want+"stay    Namespace shop: it still holds secrets shop/old\n" {
		t.Error(got)
	}
	answers["GET /api/v1/namespaces/shop/secrets"] = listOf(key)
	if got := shown(); got != want+"stay    Namespace shop: it still holds configmaps shop/mine\n" {
		t.Error(got)
	}
	answers["GET /api/v1/namespaces/shop/configmaps"] = listOf()
	if got := shown(); !strings.Contains(got, "too\nremove  Namespace shop  (a)\n") {
		t.Error(got)
	}
	plan, err := u.plan(t.Context(), kept)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ denied, says string }{
		{"none", ""},
		{"delete secrets", "the user of the kubeconfig may not delete secrets in namespace shop; nothing was removed"},
		{"delete namespaces", "the user of the kubeconfig may not delete namespaces shop; nothing was removed"},
	} {
		denied = c.denied
		err := u.allowed(t.Context(), plan)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", c.denied, err)
		}
	}
}

// TestUninstallUnseen names every object that the user may not look at.
func TestUninstallUnseen(t *testing.T) {
	no := map[string]any{
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden",
		"message": `secrets "x" is forbidden: User "ops" cannot get resource "secrets" in API group "" in the namespace "shop"`,
	}
	answers := map[string]any{
		"GET /api/v1/namespaces/shop/secrets/one": no, "GET /api/v1/namespaces/shop/secrets/two": no, "GET /api/v1/namespaces/shop/secrets": no,
	}
	u, err := uninstallFlags{kubeconfig: smallCluster(t, answers)}.cluster(t.Context(), nil, "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = u.plan(t.Context(), []install.Kept{
		{Object: install.Object{APIVersion: "v1", Kind: "Secret", Namespace: "shop", Name: "one"}},
		{Object: install.Object{APIVersion: "v1", Kind: "Secret", Namespace: "shop", Name: "two"}},
		{Object: install.Release("shop", "web")},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Secret shop/one", "Secret shop/two", "Release shop/web", "user ops may not get secrets in namespace shop"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}
