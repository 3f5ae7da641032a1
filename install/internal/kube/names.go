package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func isType(o *unstructured.Unstructured) bool {
	return o.GetKind() == "CustomResourceDefinition" && o.GroupVersionKind().Group == "apiextensions.k8s.io"
}

// rival returns a *ConflictError if another type of the group that the server
// serves has a name that a CustomResourceDefinition wants. The server would take
// it, and never serve it. What is not served yet is not seen.
func (c *Client) rival(ctx context.Context, o *unstructured.Unstructured) error {
	group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
	names, _, _ := unstructured.NestedMap(o.Object, "spec", "names")
	var known metav1.APIGroup
	err := c.clientset.CoreV1().RESTClient().Get().AbsPath("/apis/" + group).Do(ctx).Into(&known)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the kinds of %s: %w", clean(group), c.Explain(err))
	}
	for _, v := range known.Versions {
		list, err := c.resources(ctx, schema.GroupVersion{Group: group, Version: v.Version})
		if err != nil {
			return err
		}
		for _, r := range list {
			if containsSlash(r.Name) || r.Name == names["plural"] {
				continue // a subresource, or the type itself
			}
			if same := shared(names, r); len(same) > 0 {
				return &ConflictError{Object: Name(o), Fields: same, Owners: []string{clean(o.GetKind() + " " + r.Name + "." + group)}}
			}
		}
	}
	return nil
}

// shared are the names of a type that a resource has: kinds are one set, words of
// the URL and of command lines another.
func shared(names map[string]any, r metav1.APIResource) []string {
	words := append([]string{r.Name, r.SingularName}, r.ShortNames...)
	kinds := []string{r.Kind, r.Kind + "List"}
	var out []string
	check := func(what string, v any, in []string) {
		if s, ok := v.(string); ok && s != "" && slices.Contains(in, s) {
			out = append(out, clean(what+" "+s))
		}
	}
	check("kind", names["kind"], kinds)
	check("listKind", names["listKind"], kinds)
	check("plural", names["plural"], words)
	singular := names["singular"]
	if kind, ok := names["kind"].(string); ok && singular == nil { // what the server makes of it
		singular = strings.ToLower(kind)
	}
	check("singular", singular, words)
	short, _ := names["shortNames"].([]any)
	for _, s := range short {
		check("short name", s, words)
	}
	return out
}
