package helm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/airlock-project/airlock/install/internal/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
)

// live is a cluster that is there.
type live struct {
	*kube.Client
	release string // the namespace of what names none
}

const (
	establishTime = time.Minute
	establishPoll = 250 * time.Millisecond
)

func (l *live) established(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, establishTime, fmt.Errorf("it is not established after %s", establishTime))
	defer cancel()
	tick := time.NewTicker(establishPoll)
	defer tick.Stop()
	for {
		o, err := l.read(ctx, Ref{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition", Name: name})
		if err != nil {
			return err
		}
		// One that serves goes on with its old names when it gets new ones.
		if status, reason, message := kube.Condition(o, "NamesAccepted"); status == "False" {
			return fmt.Errorf("apply CustomResourceDefinition %s: it is there, and the server does not take its names, for another has them: %s: %s", name, reason, message)
		}
		if condition(o, "Established") == "True" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("apply CustomResourceDefinition %s: %w", name, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func condition(o *unstructured.Unstructured, kind string) string {
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, v := range list {
		if m, ok := v.(map[string]any); ok && m["type"] == kind {
			s, _ := m["status"].(string)
			return s
		}
	}
	return ""
}

// resource finds where an object lives, and completes its name.
func (l *live) resource(ctx context.Context, r Ref) (dynamic.ResourceInterface, Ref, error) {
	o := &unstructured.Unstructured{}
	o.SetAPIVersion(r.APIVersion)
	o.SetKind(r.Kind)
	r.Namespace = cmp.Or(r.Namespace, l.release)
	o.SetNamespace(r.Namespace)
	client, m, err := l.Resource(ctx, o)
	if err == nil && m.Scope.Name() == meta.RESTScopeNameRoot {
		r.Namespace = ""
	}
	return client, r, err
}

func (l *live) read(ctx context.Context, r Ref) (*unstructured.Unstructured, error) {
	client, r, err := l.resource(ctx, r)
	if err != nil {
		return nil, err
	}
	o, err := client.Get(ctx, r.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r, l.Explain(err))
	}
	return o, nil
}

func (l *live) look(ctx context.Context, refs []Ref) (all, missing []Ref, err error) {
	for _, r := range refs {
		client, r, err := l.resource(ctx, r)
		all = append(all, r)
		if _, unknown := errors.AsType[*kube.UnknownKindError](err); unknown {
			missing = append(missing, r)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		_, err = client.Get(ctx, r.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			missing = append(missing, r)
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", r, l.Explain(err))
		}
	}
	return all, missing, nil
}

func (l *live) namespace(ctx context.Context, name string, create bool) (bool, error) {
	ns, err := l.Clientset().CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) && create:
		o := &unstructured.Unstructured{}
		o.SetAPIVersion("v1")
		o.SetKind("Namespace")
		o.SetName(name)
		_, err := l.Apply(ctx, o, kube.ApplyOptions{})
		return err == nil, err
	case apierrors.IsNotFound(err):
		return false, nil
	case apierrors.IsForbidden(err):
		return true, nil // who may not look at namespaces still may work in one
	case err != nil:
		return false, fmt.Errorf("read namespace %s: %w", name, l.Explain(err))
	case ns.DeletionTimestamp != nil:
		return false, l.Terminating(ctx, name)
	}
	return true, nil
}

func (l *live) unready(ctx context.Context, refs []Ref) ([]workload, error) {
	var out []workload
	for _, r := range refs {
		state, known := states[r.Kind]
		if !known {
			continue
		}
		client, r, err := l.resource(ctx, r)
		if err != nil {
			return out, err
		}
		o, err := client.Get(ctx, r.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue // a hook that is over, or was never begun
		}
		if err != nil {
			return out, fmt.Errorf("read %s: %w", r, l.Explain(err))
		}
		w, selector, ok := state(o)
		if ok {
			continue
		}
		w.Name = r.String()
		if r.Kind == "PersistentVolumeClaim" {
			w.Reason = cmp.Or(l.Unbound(ctx, r.Namespace, r.Name), w.Reason)
		}
		if selector != "" {
			if w.Pods, err = l.Why(ctx, r.Namespace, selector); err != nil {
				return append(out, w), err
			}
		}
		out = append(out, w)
	}
	return out, nil
}

// states says of the kinds that are waited for whether an object is ready, and
// which pods are its own.
var states = map[string]func(*unstructured.Unstructured) (w workload, selector string, ok bool){
	"Deployment": func(o *unstructured.Unstructured) (workload, string, bool) {
		old := number(o, 0, "status", "replicas") - number(o, 0, "status", "updatedReplicas")
		w := workload{Want: number(o, 1, "spec", "replicas"), Ready: max(0, number(o, 0, "status", "availableReplicas")-old)}
		return w.waiting(o)
	},
	"StatefulSet": func(o *unstructured.Unstructured) (workload, string, bool) {
		w := workload{Want: number(o, 1, "spec", "replicas"), Ready: number(o, 0, "status", "readyReplicas")}
		if kind, _, _ := unstructured.NestedString(o.Object, "spec", "updateStrategy", "type"); kind != "OnDelete" {
			w.Ready = min(w.Ready, number(o, 0, "status", "updatedReplicas"))
		}
		return w.waiting(o)
	},
	"DaemonSet": func(o *unstructured.Unstructured) (workload, string, bool) {
		w := workload{Want: number(o, 0, "status", "desiredNumberScheduled"), Ready: number(o, 0, "status", "numberReady")}
		if kind, _, _ := unstructured.NestedString(o.Object, "spec", "updateStrategy", "type"); kind != "OnDelete" {
			w.Ready = min(w.Ready, number(o, 0, "status", "updatedNumberScheduled"))
		}
		return w.waiting(o)
	},
	"Job": func(o *unstructured.Unstructured) (workload, string, bool) {
		w := workload{Want: number(o, 1, "spec", "completions"), Ready: number(o, 0, "status", "succeeded"), Reason: "the job does not end"}
		if condition(o, "Failed") == "True" {
			w.Reason = "the job failed"
		}
		return w, "batch.kubernetes.io/job-name=" + o.GetName(), w.Ready >= w.Want
	},
	"Service": func(o *unstructured.Unstructured) (workload, string, bool) {
		kind, _, _ := unstructured.NestedString(o.Object, "spec", "type")
		list, _, _ := unstructured.NestedSlice(o.Object, "status", "loadBalancer", "ingress")
		return workload{Want: 1, Reason: "no load balancer has given it an address"}, "", kind != "LoadBalancer" || len(list) > 0
	},
	"PersistentVolumeClaim": func(o *unstructured.Unstructured) (workload, string, bool) {
		phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
		return workload{Want: 1, Reason: "no volume is bound to it, it is " + phase}, "", phase == "Bound"
	},
}

// waiting ends the state of a workload that has replicas.
func (w workload) waiting(o *unstructured.Unstructured) (workload, string, bool) {
	if int64(number(o, 0, "status", "observedGeneration")) < o.GetGeneration() {
		w.Ready = 0
		w.Reason = "no controller has seen the change"
		return w, selector(o), false
	}
	w.Reason = "its pods are not ready"
	return w, selector(o), w.Ready >= w.Want
}

func selector(o *unstructured.Unstructured) string {
	var s metav1.LabelSelector
	m, _, _ := unstructured.NestedMap(o.Object, "spec", "selector")
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(m, &s); err != nil || len(m) == 0 {
		return "" // it would select every pod
	}
	return metav1.FormatLabelSelector(&s)
}

func number(o *unstructured.Unstructured, missing int, path ...string) int {
	n, ok, err := unstructured.NestedInt64(o.Object, path...)
	if !ok || err != nil {
		return missing
	}
	return int(n)
}
