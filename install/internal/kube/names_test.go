package kube

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestShared compares the names of types as the server does.
func TestShared(t *testing.T) {
	have := metav1.APIResource{Name: "gadgets", SingularName: "gadget", Kind: "Gadget", ShortNames: []string{"gd", "gds"}}
	for name, c := range map[string]struct {
		names map[string]any
		want  []string
	}{
		"others":           {map[string]any{"kind": "Widget", "plural": "widgets", "shortNames": []any{"wd"}}, nil},
		"kind":             {map[string]any{"kind": "Gadget", "plural": "widgets", "singular": "widget"}, []string{"kind Gadget"}},
		"kind of a list":   {map[string]any{"kind": "GadgetList", "plural": "widgets"}, []string{"kind GadgetList"}},
		"short name":       {map[string]any{"kind": "Widget", "plural": "widgets", "shortNames": []any{"wd", "gds"}}, []string{"short name gds"}},
		"short is plural":  {map[string]any{"kind": "Widget", "plural": "widgets", "shortNames": []any{"gadgets"}}, []string{"short name gadgets"}},
		"plural is short":  {map[string]any{"kind": "Widget", "plural": "gd"}, []string{"plural gd"}},
		"singular, unsaid": {map[string]any{"kind": "Gd", "plural": "widgets"}, []string{"singular gd"}},
	} {
		if got := shared(c.names, have); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestLingers names what holds an object.
func TestLingers(t *testing.T) {
	now := "2026-11-27T10:00:00Z"
	for want, tree := range map[string]map[string]any{
		"ConfigMap n/a is still there":                                     {"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a", "namespace": "n", "finalizers": []any{"x"}}},
		"ConfigMap n/a is being removed":                                   {"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a", "namespace": "n", "deletionTimestamp": now}},
		"ConfigMap n/a is being removed, held by finalizer x, finalizer y": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a", "namespace": "n", "deletionTimestamp": now, "finalizers": []any{"x", "y"}}},
		"Namespace n is being removed, held by finalizer kubernetes, some content": {
			"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "n", "deletionTimestamp": now}, "spec": map[string]any{"finalizers": []any{"kubernetes"}},
			"status": map[string]any{"phase": "Terminating", "conditions": []any{map[string]any{"type": "NamespaceFinalizersRemaining", "status": "True", "message": "some content"}, map[string]any{"status": "False", "message": "fine"}}},
		},
	} {
		if got := Lingers(&unstructured.Unstructured{Object: tree}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
