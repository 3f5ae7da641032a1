package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// plane are the managers of fields that a control plane keeps.
var plane = []string{"kube-controller-manager", "kube-scheduler", "kube-apiserver", "kubelet", "cloud-controller-manager"}

// Writers names whoever beside Airlock wrote to an object as the API server
// remembers it, status aside, with the time of each: "kubectl-edit
// (2026-11-27T10:00:00Z)".
func Writers(o *unstructured.Unstructured) []string {
	var out []string
	for _, m := range o.GetManagedFields() {
		if m.Subresource != "" || m.Manager == Manager || strings.HasPrefix(m.Manager, Manager+"-") || slices.Contains(plane, m.Manager) {
			continue
		}
		text := clean(m.Manager)
		if m.Time != nil {
			text += " (" + m.Time.UTC().Format("2006-01-02T15:04:05Z") + ")"
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return out[:min(len(out), maxReasons)]
}

// May asks whether the user may do something with an object, and nothing else. A
// server that does not answer such questions is no error: then it is allowed, as
// far as is known.
func (c *Client) May(ctx context.Context, verb string, r schema.GroupResource, namespace, name string) (bool, error) {
	got, err := c.clientset.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authv1.SelfSubjectAccessReview{
		Spec: authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authv1.ResourceAttributes{
			Verb: verb, Group: r.Group, Resource: r.Resource, Namespace: namespace, Name: name,
		}},
	}, metav1.CreateOptions{})
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask for the rights of the user: %w", c.Explain(err))
	}
	return got.Status.Allowed, nil
}
