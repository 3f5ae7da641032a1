package kube

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WorkloadKind is a kind that keeps pods running.
type WorkloadKind string

// Kinds of workload.
const (
	KindDeployment  WorkloadKind = "Deployment"
	KindDaemonSet   WorkloadKind = "DaemonSet"
	KindStatefulSet WorkloadKind = "StatefulSet"
)

// Rollout is how far a workload's pods are.
type Rollout struct {
	Kind      WorkloadKind
	Name      string
	Selector  string // of its pods, "" if there is no such workload
	Want      int
	Available int
	Done      bool   // its controller has seen the last change, and every pod is of it and available
	Reason    string // why it is not done
}

// Rollout looks at a workload. One that does not exist is not done.
func (c *Client) Rollout(ctx context.Context, kind WorkloadKind, namespace, name string) (Rollout, error) {
	r := Rollout{Kind: kind, Name: name}
	var err error
	switch kind {
	case KindDeployment:
		var d *appsv1.Deployment
		if d, err = c.clientset.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{}); err == nil {
			r.deployment(d)
		}
	case KindDaemonSet:
		var d *appsv1.DaemonSet
		if d, err = c.clientset.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{}); err == nil {
			s := d.Status
			r.fill(d.Spec.Selector, int(s.DesiredNumberScheduled), int(s.UpdatedNumberScheduled), int(s.CurrentNumberScheduled), int(s.NumberAvailable), d.Generation == s.ObservedGeneration)
		}
	case KindStatefulSet:
		var d *appsv1.StatefulSet
		if d, err = c.clientset.AppsV1().StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{}); err == nil {
			s := d.Status
			r.fill(d.Spec.Selector, replicas(d.Spec.Replicas), int(s.UpdatedReplicas), int(s.Replicas), int(s.AvailableReplicas), d.Generation == s.ObservedGeneration)
		}
	}
	if apierrors.IsNotFound(err) {
		r.Reason = fmt.Sprintf("there is no %s %s in namespace %s", kind, name, namespace)
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("read %s %s/%s: %w", kind, namespace, name, c.Explain(err))
	}
	return r, nil
}

func replicas(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}

func (r *Rollout) fill(selector *metav1.LabelSelector, want, updated, total, available int, current bool) {
	r.Selector, r.Want, r.Available = metav1.FormatLabelSelector(selector), want, available
	switch {
	case !current:
		r.Reason = "its controller has not seen the last change yet"
	case updated < want:
		r.Reason = fmt.Sprintf("%d of %d pods are of the last change", updated, want)
	case total > want:
		r.Reason = fmt.Sprintf("%d pods of an earlier version still run", total-want)
	case available < want:
		r.Reason = fmt.Sprintf("%d of %d pods are available", available, want)
	default:
		r.Done = true
	}
}

func (r *Rollout) deployment(d *appsv1.Deployment) {
	s := d.Status
	r.fill(d.Spec.Selector, replicas(d.Spec.Replicas), int(s.UpdatedReplicas), int(s.Replicas), int(s.AvailableReplicas), d.Generation == s.ObservedGeneration)
	if r.Done {
		return
	}
	for _, c := range s.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue || c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse {
			r.Reason = clean(c.Reason + ": " + c.Message)
		}
	}
}
