package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
)

const (
	// findPage is how many objects are asked for at a time, and maxFindPages how
	// many times: 200,000 objects of a resource in a namespace.
	findPage     = 1000
	maxFindPages = 200
	// maxFound bounds what is kept.
	maxFound = 5000
)

// Find returns the names of the objects of a resource in a namespace of which
// match says so, in the server's order, and ends with the first most of them; 0 is
// all, at most 5,000. It reads metadata only, a page at a time, and begins once
// more where the server has forgotten the list in the middle. Errors are those of
// [Client.Explain]; more pages than there can be are an *UnreachableError.
func (c *Client) Find(ctx context.Context, r schema.GroupVersionResource, namespace string, match func(*metav1.ObjectMeta) bool, most int) ([]string, error) {
	lists, err := metadata.NewForConfigAndClient(c.rest, c.http)
	if err != nil {
		return nil, fmt.Errorf("list %s of namespace %s: %w", r.GroupResource(), namespace, err)
	}
	out, err := c.find(ctx, lists.Resource(r).Namespace(namespace), match, most)
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		out, err = c.find(ctx, lists.Resource(r).Namespace(namespace), match, most)
	}
	if err != nil {
		return nil, fmt.Errorf("list %s of namespace %s: %w", r.GroupResource(), namespace, c.Explain(err))
	}
	return out, nil
}

func (c *Client) find(ctx context.Context, list metadata.ResourceInterface, match func(*metav1.ObjectMeta) bool, most int) ([]string, error) {
	var out []string
	next := metav1.ListOptions{Limit: findPage}
	for range maxFindPages {
		page, err := list.List(ctx, next)
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			o := &page.Items[i].ObjectMeta
			if !match(o) {
				continue
			}
			if len(out) == maxFound {
				return nil, &UnreachableError{c.server, fmt.Sprintf("it has more than %d of them", maxFound)}
			}
			if out = append(out, o.Name); len(out) == most {
				return out, nil
			}
		}
		if next.Continue = page.Continue; next.Continue == "" {
			return out, nil
		}
	}
	return nil, &UnreachableError{c.server, fmt.Sprintf("its list has no end within %d pages of %d", maxFindPages, findPage)}
}
