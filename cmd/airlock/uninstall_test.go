package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	helmrelease "helm.sh/helm/v3/pkg/release"
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
	plan, err := u.plan(t.Context(), kept)
	if err != nil || slices.Contains(plan.gone, kept[0].Object) {
		t.Errorf("what stays is among what goes: %v, %v", plan.gone, err)
	}
	answers["GET /api/v1/namespaces/shop/secrets"] = listOf(key)
	if got := shown(); got != want+"stay    Namespace shop: it still holds configmaps shop/mine\n" {
		t.Error(got)
	}
	answers["GET /api/v1/namespaces/shop/configmaps"] = listOf()
	if got := shown(); !strings.Contains(got, "too\nremove  Namespace shop  (a)\n") {
		t.Error(got)
	}
	if plan, err = u.plan(t.Context(), kept); err != nil {
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

// revision is Helm's record of a release with a ConfigMap.
func revision(t *testing.T, labels map[string]any) map[string]any {
	t.Helper()
	r := helmrelease.Release{
		Name: "web", Namespace: "shop", Version: 1, Info: &helmrelease.Info{Status: helmrelease.StatusDeployed},
		Manifest: "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n",
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := json.NewEncoder(z).Encode(r); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"owner": "helm", "name": "web", "version": "1", "status": "deployed"}
	maps.Copy(all, labels)
	text := base64.StdEncoding.EncodeToString(b.Bytes())
	return map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "sh.helm.release.v1.web.v1", "namespace": "shop", "labels": all},
		"data": map[string]any{"release": base64.StdEncoding.EncodeToString([]byte(text))},
	}
}

// TestUninstallRelease: a plan removes nothing of a release, and knows that its
// objects go with it; a release of others stays, and nothing says that it went.
func TestUninstallRelease(t *testing.T) {
	records := func(labels map[string]any) map[string]any {
		list := listOf(revision(t, labels))
		list["kind"] = "SecretList" // Helm's client reads no other
		return list
	}
	web := map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "settings", "namespace": "shop"}}
	answers := map[string]any{
		"GET /version": map[string]any{"major": "1", "minor": "37", "gitVersion": "v1.37.2"}, "GET /api": map[string]any{"kind": "APIVersions", "versions": []any{"v1"}},
		"GET /api/v1/namespaces/shop/secrets":             records(map[string]any{"airlock-origin": "install"}),
		"GET /api/v1/namespaces/shop/configmaps/settings": web,
		"GET /api/v1/namespaces/shop/configmaps":          listOf(web),
		"GET /api/v1/namespaces/shop":                     made("Namespace", "", "shop", nil),
	}
	kept := []install.Kept{
		{Object: install.Object{APIVersion: "v1", Kind: "Namespace", Name: "shop"}, Item: "a"}, {Object: install.Release("shop", "web"), Item: "b"},
	}
	u, err := uninstallFlags{kubeconfig: smallCluster(t, answers)}.cluster(t.Context(), nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if !u.release(kept[1].Object, true).DryRun || u.release(kept[1].Object, false).DryRun {
		t.Fatal("a plan is no plan")
	}
	plan, err := u.plan(t.Context(), kept)
	want := []install.Object{kept[1].Object, kept[0].Object, {APIVersion: "v1", Kind: "ConfigMap", Namespace: "shop", Name: "settings"}}
	if err != nil || len(plan.Remove) != 2 || len(plan.gone) != len(want) {
		t.Fatalf("%+v, %v", plan, err)
	}
	for _, o := range want {
		if !slices.Contains(plan.gone, o) {
			t.Errorf("%s is not among what goes: %v", o, plan.gone)
		}
	}
	answers["GET /api/v1/namespaces/shop/secrets"] = records(nil)
	if removed, reason, err := u.remove(t.Context(), kept[1]); err != nil || removed || reason != "others installed it" {
		t.Errorf("removed %v: %q, %v", removed, reason, err)
	}
}

// TestSiteCluster: what a flag names goes before what the site names.
func TestSiteCluster(t *testing.T) {
	site := &manifests.Site{Kubernetes: &manifests.SiteKubernetes{Kubeconfig: "file:k", Context: "site"}}
	for flag, want := range map[string]string{"": "site", "mine": "mine"} {
		if path, name := siteCluster(site, "/d", flag); path != "/d/k" || name != want {
			t.Errorf("%q: %s of %s", flag, name, path)
		}
	}
}

// keeps is an action that puts objects into a cluster.
type keeps []install.Object

func (keeps) Plan(context.Context, install.Input) (install.Change, error) {
	return install.Change{Summary: "make objects"}, nil
}

func (k keeps) Apply(_ context.Context, in install.Input) (install.Result, error) {
	return install.Result{}, in.Keeps(k...)
}

// TestUninstallCommand: without a right nothing is removed, a dry run says the
// same and removes nothing either, and the command removes what the ledger says.
func TestUninstallCommand(t *testing.T) {
	denied, deleted, there := "", 0, true
	key := made("Secret", "shop", "key", map[string]any{"uid": "one"})
	answers := map[string]any{
		"GET /api/v1/namespaces/shop/secrets/key": func(*http.Request) any {
			if there {
				return key
			}
			return map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound"}
		},
		"DELETE /api/v1/namespaces/shop/secrets/key": func(*http.Request) any {
			deleted, there = deleted+1, false
			return map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"}
		},
		"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews": func(r *http.Request) any {
			var review map[string]any
			if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
				t.Error(err)
			}
			verb := review["spec"].(map[string]any)["resourceAttributes"].(map[string]any)["verb"] //nolint:errcheck,forcetypeassert // the client's own
			review["status"] = map[string]any{"allowed": verb != denied}
			return review
		},
	}
	kubeconfig := smallCluster(t, answers)
	c, err := manifests.ParseChecklist("checklist.yaml", []byte("apiVersion: airlock/v1\nkind: Checklist\nproduct: demo\nphases: [{id: p1, number: 1, title: One}]\nitems: [{id: make, title: Make, phase: p1, kind: action, need: required, steps: [{id: make, run: test.keep}]}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	operator := fullKey(t, dir, "operator")
	t.Setenv("AIRLOCK_KEY_PASSWORD", "password-of-operator")
	text := "apiVersion: airlock/v1\nkind: Site\nname: site-a\nplatform: onprem\nairgap: isolated\nidentity: {name: Olga Operator, key: \"file:operator.key\"}\n"
	site, err := manifests.ParseSite("site.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "site.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o := install.Options{
		Site: site, SiteDir: dir, State: filepath.Join(dir, "state"), Actor: "tester", Sign: operator.Blob, KeyID: operator.Fingerprint(),
		Actions: map[string]install.Action{"test.keep": keeps{{APIVersion: "v1", Kind: "Secret", Namespace: "shop", Name: "key"}}},
	}
	if rep, err := install.Run(t.Context(), rowBundle(t, row{}, c), o); err != nil || rep.Status != install.StatusDone {
		t.Fatalf("%+v, %v", rep, err)
	}
	for _, x := range []struct {
		denied  string
		args    []string
		code    int
		says    string
		deleted int
	}{
		{"delete", []string{"--yes"}, exitUsage, "may not delete secrets in namespace shop; nothing was removed", 0},
		{"delete", []string{"--dry-run"}, exitUsage, "may not delete secrets in namespace shop; nothing was removed", 0},
		{"", []string{"--dry-run"}, exitDone, "remove  Secret shop/key", 0},
		{"", []string{"--yes"}, exitDone, "removed Secret shop/key", 1},
		{"", []string{"--yes"}, exitDone, "stay    Secret shop/key: it is gone", 1},
	} {
		denied = x.denied
		var out, said bytes.Buffer
		line := append([]string{"uninstall", "--site", filepath.Join(dir, "site.yaml"), "--state", o.State, "--kubeconfig", kubeconfig}, x.args...)
		code := run(t.Context(), line, strings.NewReader(""), &out, &said)
		if code != x.code || !strings.Contains(out.String()+said.String(), x.says) || deleted != x.deleted {
			t.Errorf("%v, %q denied: code %d, %d deleted, want %q:\n%s%s", x.args, x.denied, code, deleted, x.says, out.String(), said.String())
		}
	}
}
