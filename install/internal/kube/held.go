package kube

import (
	"context"
	"errors"
	"fmt"

	"github.com/airlock-project/airlock/install"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Held looks for objects of a tree in the cluster, each with one get, and names
// those that are not there with the same marks, or are on their way out.
// namespace is that of objects that name none and live in one.
func (c *Client) Held(ctx context.Context, want []install.Manifest, namespace string) ([]string, error) {
	var waits []string
	for _, m := range want {
		live, err := c.Live(ctx, m.Object(), namespace)
		if err != nil {
			return nil, err
		}
		if live == nil || live.GetDeletionTimestamp() != nil || !carries(live, m.Marked()) {
			waits = append(waits, m.Object().String())
		}
	}
	return waits, nil
}

func carries(live *unstructured.Unstructured, marks map[string]string) bool {
	have := live.GetAnnotations()
	for k, v := range marks {
		if have[k] != v {
			return false
		}
	}
	return true
}

// Live reads an object; nil if it, or its kind, is not there.
func (c *Client) Live(ctx context.Context, o install.Object, namespace string) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetAPIVersion(o.APIVersion)
	u.SetKind(o.Kind)
	u.SetName(o.Name)
	u.SetNamespace(o.Namespace)
	if o.Namespace == "" {
		u.SetNamespace(namespace)
	}
	r, _, err := c.Resource(ctx, u)
	if _, unknown := errors.AsType[*UnknownKindError](err); unknown {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	live, err := r.Get(ctx, o.Name, metav1.GetOptions{})
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", o, c.Explain(err))
	}
	return live, nil
}
