package kube

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	"github.com/airlock-project/airlock/install/internal/kube/kubetest"
	authv1 "k8s.io/api/authorization/v1"
)

// asMade is an object as k8s.apply leaves it.
func asMade(o map[string]any) map[string]any {
	o["metadata"].(map[string]any)["annotations"] = map[string]any{cluster.AnnotationMade: cluster.Manager}
	return o
}

// TestRemoval leaves what others made, and a type of which there are objects.
func TestRemoval(t *testing.T) {
	s := kubetest.Start(t)
	in := func(o map[string]any, ns string) map[string]any {
		o["metadata"].(map[string]any)["namespace"] = ns
		return o
	}
	crd := func(name string) map[string]any {
		plural, group, _ := strings.Cut(name, ".")
		return asMade(map[string]any{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": name}, "spec": map[string]any{
			"group": group, "names": map[string]any{"plural": plural}, "versions": []any{map[string]any{"name": "v0", "served": false}, map[string]any{"name": "v1", "served": true}},
		}})
	}
	s.Put(in(configMap("theirs", nil), "n"), in(asMade(configMap("ours", nil)), "n"), crd("widgets.example.org"), crd("parts.example.org"))
	// A list over all namespaces, of objects in one.
	s.Handle("GET /apis/example.org/v1/widgets", func(w http.ResponseWriter, _ *http.Request) {
		kubetest.Answer(w, 200, map[string]any{"kind": "WidgetList", "apiVersion": "example.org/v1", "metadata": map[string]any{}, "items": []any{
			map[string]any{"apiVersion": "example.org/v1", "kind": "Widget", "metadata": map[string]any{"name": "w", "namespace": "team"}},
		}})
	})
	r, err := OpenRemoval(t.Context(), s.Kubeconfig, "")
	if err != nil {
		t.Fatal(err)
	}
	object := func(version, kind, ns, name string) install.Object {
		return install.Object{APIVersion: version, Kind: kind, Namespace: ns, Name: name}
	}
	// Applying over what others made does not make it ours, and nothing removes it.
	res, err := Apply{}.Apply(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "namespace": "n", "objects": []any{configMap("theirs", map[string]any{"a": "1"})}}})
	check(t, "theirs", Apply{}, res, err)
	if removed, err := r.client.Delete(t.Context(), named(object("v1", "ConfigMap", "n", "theirs"))); err != nil || removed {
		t.Errorf("removed %v, %v", removed, err)
	}
	for _, c := range []struct {
		object  install.Object
		removed bool
		reason  string
	}{
		{object("v1", "ConfigMap", "n", "theirs"), false, "it was there before the installation"},
		{object("v1", "ConfigMap", "n", "ours"), true, ""},
		{object("v1", "ConfigMap", "n", "ours"), false, "it is gone"},
		{object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "widgets.example.org"), false, "there still is Widget team/w"},
		{object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "parts.example.org"), true, ""},
	} {
		removed, reason, err := r.Remove(t.Context(), c.object)
		if err != nil || removed != c.removed || reason != c.reason {
			t.Errorf("%s: removed %v: %q, %v", c.object, removed, reason, err)
		}
	}
	deleted := slices.DeleteFunc(s.Asked(), func(r string) bool { return !strings.HasPrefix(r, "DELETE ") })
	if len(deleted) != 2 {
		t.Errorf("it asked for %q", deleted)
	}
}

// TestRemovalRelease: a release is its Secrets, which Helm marks and takes away;
// those of another release stay.
func TestRemovalRelease(t *testing.T) {
	s := kubetest.Start(t)
	var refused string
	s.Handle("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", func(w http.ResponseWriter, r *http.Request) {
		a := review(t, r)
		kubetest.Answer(w, 201, map[string]any{"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "status": map[string]any{"allowed": a != refused}})
	})
	r, err := OpenRemoval(t.Context(), s.Kubeconfig, "")
	if err != nil {
		t.Fatal(err)
	}
	release, ns := install.Release("n", "web"), install.Object{APIVersion: "v1", Kind: "Namespace", Name: "n"}
	for _, verb := range []string{"list", "update", "delete"} {
		refused = verb + " secrets in n"
		lacking, err := r.Lacking(t.Context(), []install.Object{release})
		if want := []string{verb + " secrets in namespace n"}; err != nil || !slices.Equal(lacking, want) {
			t.Errorf("lacking %q, %v", lacking, err)
		}
	}
	record := func(name string) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "sh.helm.release.v1." + name + ".v1", "namespace": "n"}}
	}
	s.Put(record("web"))
	if held, err := r.Holds(t.Context(), ns, []install.Object{release}); err != nil || held != "" {
		t.Errorf("%q, %v", held, err)
	}
	s.Put(record("webshop"))
	want := "it still holds secrets n/sh.helm.release.v1.webshop.v1"
	if held, err := r.Holds(t.Context(), ns, []install.Object{release}); err != nil || held != want {
		t.Errorf("%q, %v", held, err)
	}
}

// review is a question about rights, as text.
func review(t *testing.T, r *http.Request) string {
	t.Helper()
	var q authv1.SelfSubjectAccessReview
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		t.Error(err)
	}
	a := q.Spec.ResourceAttributes
	return a.Verb + " " + a.Resource + " in " + a.Namespace
}
