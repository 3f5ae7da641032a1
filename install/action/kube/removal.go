package kube

import (
	"context"
	"fmt"
	"time"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// removalWait is how long an object may take to go once it was asked to.
const removalWait = 3 * time.Minute

// Removal takes objects out of a cluster that k8s.apply and k8s.secret created
// there. It is safe for concurrent use.
type Removal struct{ client *cluster.Client }

// OpenRemoval opens the cluster of a kubeconfig.
func OpenRemoval(ctx context.Context, kubeconfig, name string) (*Removal, error) {
	c, err := cluster.Open(ctx, cluster.Config{Kubeconfig: kubeconfig, Context: name})
	if err != nil {
		return nil, err
	}
	return &Removal{c}, nil
}

// Look reports whether an object is there to be removed, and if not why.
func (r *Removal) Look(ctx context.Context, o install.Object) (there bool, reason string, err error) {
	u := named(o)
	res, _, err := r.client.Resource(ctx, u)
	if isUnknown(err) {
		return false, "it is gone", nil
	}
	if err != nil {
		return false, "", err
	}
	live, err := res.Get(ctx, o.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, "it is gone", nil
	case err != nil:
		return false, "", fmt.Errorf("read %s: %w", o, r.client.Explain(err))
	case !cluster.Made(live):
		return false, "it was there before the installation", nil
	}
	return true, "", nil
}

// Remove removes an object and waits until it is gone. A namespace, or a type,
// that still holds what the installation did not put there is left.
func (r *Removal) Remove(ctx context.Context, o install.Object) (removed bool, reason string, err error) {
	there, reason, err := r.Look(ctx, o)
	if err != nil || !there {
		return false, reason, err
	}
	if reason, err := r.inUse(ctx, o); err != nil || reason != "" {
		return false, reason, err
	}
	if removed, err = r.client.Delete(ctx, named(o)); err != nil || !removed {
		return removed, "", err
	}
	return true, "", r.gone(ctx, o)
}

func named(o install.Object) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetAPIVersion(o.APIVersion)
	u.SetKind(o.Kind)
	u.SetNamespace(o.Namespace)
	u.SetName(o.Name)
	return u
}

// inUse says what others keep in a namespace, or of a type.
func (r *Removal) inUse(ctx context.Context, o install.Object) (string, error) {
	switch {
	case o.APIVersion == "v1" && o.Kind == "Namespace":
		held, err := r.client.Holds(ctx, o.Name)
		if err != nil || held == "" {
			return "", err
		}
		return "it still holds " + held, nil
	case isCRD(named(o)):
		return r.instances(ctx, o)
	}
	return "", nil
}

// instances names an object of a type.
func (r *Removal) instances(ctx context.Context, o install.Object) (string, error) {
	res, _, err := r.client.Resource(ctx, named(o))
	if err != nil {
		return "", err
	}
	crd, err := res.Get(ctx, o.Name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("read %s: %w", o, r.client.Explain(err))
	}
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range versions {
		m, _ := v.(map[string]any)
		version, _ := m["name"].(string)
		if m["served"] != true {
			continue
		}
		list, err := r.client.Dynamic().Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: plural}).List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return "", fmt.Errorf("list %s.%s: %w", plural, group, r.client.Explain(err))
		}
		if len(list.Items) > 0 {
			return fmt.Sprintf("there still is %s", cluster.Name(&list.Items[0])), nil
		}
		return "", nil
	}
	return "", nil
}

// gone waits until an object is gone.
func (r *Removal) gone(ctx context.Context, o install.Object) error {
	ctx, cancel := context.WithTimeout(ctx, removalWait)
	defer cancel()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		there, _, err := r.Look(ctx, o)
		if err == nil && !there {
			return nil
		}
		select {
		case <-ctx.Done():
			if err != nil {
				return err
			}
			return fmt.Errorf("%s is being removed and does not go: look at its finalizers", o)
		case <-tick.C:
		}
	}
}
