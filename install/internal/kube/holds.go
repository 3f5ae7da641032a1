package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// passing are resources that say something of others, or are made again by
// themselves: nobody loses anything with them.
var passing = map[schema.GroupResource]bool{
	{Resource: "events"}:                                                   true,
	{Group: "events.k8s.io", Resource: "events"}:                           true,
	{Resource: "endpoints"}:                                                true,
	{Group: "discovery.k8s.io", Resource: "endpointslices"}:                true,
	{Group: "coordination.k8s.io", Resource: "leases"}:                     true,
	{Group: "metrics.k8s.io", Resource: "pods"}:                            true,
	{Group: "packages.operators.coreos.com", Resource: "packagemanifests"}: true, // a view of a catalog
}

// inEvery are the objects that controllers put into every namespace.
var inEvery = map[string][]string{
	"configmaps":      {"kube-root-ca.crt", "openshift-service-ca.crt", "istio-ca-root-cert"},
	"serviceaccounts": {"default", "builder", "deployer"},
}

// Holds names an object that is in a namespace and would be lost with it, "" if
// there is none. What goes with an owner, is on its way out, or is in every
// namespace does not count, nor does what but, which may be nil, says is known. It reads no content. A resource that the user may
// not list is told in place of an object.
func (c *Client) Holds(ctx context.Context, namespace string, but func(r schema.GroupResource, name string) bool) (string, error) {
	all, err := c.namespaced(ctx)
	if err != nil {
		return "", err
	}
	for _, r := range all {
		foreign := func(o *metav1.ObjectMeta) bool {
			return !common(r.Resource, o) && (but == nil || !but(r.GroupResource(), o.Name))
		}
		found, err := c.Find(ctx, r, namespace, foreign, 1)
		if isNotFound(err) {
			continue // the type has just gone
		}
		if f, ok := errors.AsType[*ForbiddenError](err); ok {
			return fmt.Sprintf("objects that cannot be seen: user %s may not list %s in it", f.User, r.GroupResource()), nil
		}
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return clean(r.GroupResource().String() + " " + namespace + "/" + found[0]), nil
		}
	}
	return "", nil
}

// common reports whether nobody misses an object that goes with its namespace.
func common(resource string, o *metav1.ObjectMeta) bool {
	account, isToken := o.Annotations["kubernetes.io/service-account.name"]
	switch {
	case o.DeletionTimestamp != nil, len(o.OwnerReferences) > 0, slices.Contains(inEvery[resource], o.Name):
		return true
	case resource == "secrets" && isToken:
		return slices.Contains(inEvery["serviceaccounts"], account)
	case resource == "rolebindings":
		return strings.HasPrefix(o.Name, "system:")
	}
	return false
}

// namespaced are the resources that a namespace can hold, each in one version.
func (c *Client) namespaced(ctx context.Context) ([]schema.GroupVersionResource, error) {
	var groups metav1.APIGroupList
	if err := c.clientset.CoreV1().RESTClient().Get().AbsPath("/apis").Do(ctx).Into(&groups); err != nil {
		return nil, fmt.Errorf("read the kinds of %s: %w", c.server, c.Explain(err))
	}
	versions := []schema.GroupVersion{{Version: "v1"}}
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			versions = append(versions, schema.GroupVersion{Group: g.Name, Version: v.Version})
		}
	}
	var out []schema.GroupVersionResource
	seen := make(map[schema.GroupResource]bool)
	for _, gv := range versions {
		list, err := c.resources(ctx, gv)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			at := gv.WithResource(r.Name)
			if g := at.GroupResource(); r.Namespaced && !containsSlash(r.Name) && slices.Contains(r.Verbs, "list") && !passing[g] && !seen[g] {
				seen[g] = true
				out = append(out, at)
			}
		}
	}
	return out, nil
}
