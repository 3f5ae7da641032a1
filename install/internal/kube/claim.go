package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Unbound says why a claim has no volume; "" if it has one, or if it cannot be
// told.
func (c *Client) Unbound(ctx context.Context, namespace, name string) string {
	p, err := c.clientset.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, name, metav1.GetOptions{})
	if isNotFound(err) {
		return "it does not exist"
	}
	if err != nil || p.Status.Phase == corev1.ClaimBound {
		return ""
	}
	why := "no volume is bound to it, it is " + clean(string(p.Status.Phase))
	class := p.Spec.StorageClassName
	if class == nil { // the server would have put the default one in
		return why + ": it names no StorageClass, and the cluster has no default one"
	}
	if *class == "" {
		return why + ": it wants no StorageClass, so somebody has to make a PersistentVolume for it"
	}
	if events := c.warnings(ctx, namespace, name); len(events) > 0 {
		return why + ": " + events[len(events)-1]
	}
	if _, err := c.clientset.StorageV1().StorageClasses().Get(ctx, *class, metav1.GetOptions{}); isNotFound(err) {
		return why + ": the cluster has no StorageClass " + clean(*class)
	}
	return why
}

// unbound says of the claims of a pod why they have no volume.
func (c *Client) unbound(ctx context.Context, p *corev1.Pod) []string {
	var out []string
	for _, v := range p.Spec.Volumes {
		if v.PersistentVolumeClaim == nil || len(out) == maxEvents {
			continue
		}
		name := v.PersistentVolumeClaim.ClaimName
		if why := c.Unbound(ctx, p.Namespace, name); why != "" {
			out = append(out, fmt.Sprintf("PersistentVolumeClaim %s: %s", clean(name), why))
		}
	}
	return out
}
