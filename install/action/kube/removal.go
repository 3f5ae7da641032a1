package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
	live, reason, err := r.find(ctx, o)
	return live != nil, reason, err
}

// Writers names who else wrote to an object that is there to be removed.
func (r *Removal) Writers(ctx context.Context, o install.Object) ([]string, error) {
	live, _, err := r.find(ctx, o)
	if err != nil || live == nil {
		return nil, err
	}
	return cluster.Writers(live), nil
}

// find is an object that is to be removed; without one, reason says why.
func (r *Removal) find(ctx context.Context, o install.Object) (live *unstructured.Unstructured, reason string, err error) {
	res, _, err := r.client.Resource(ctx, named(o))
	if isUnknown(err) {
		return nil, "it is gone", nil
	}
	if err != nil {
		return nil, "", err
	}
	live, err = res.Get(ctx, o.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, "it is gone", nil
	case err != nil:
		return nil, "", fmt.Errorf("read %s: %w", o, r.client.Explain(err))
	case !cluster.Made(live):
		return nil, "it was there before the installation", nil
	}
	return live, "", nil
}

// Lacking names the rights to remove objects that the user has not, each once:
// "delete secrets in namespace shop". Of a release these are its objects and
// the Secrets in which Helm keeps it.
func (r *Removal) Lacking(ctx context.Context, list []install.Object) ([]string, error) {
	var out []string
	may := make(map[string]bool)
	for _, o := range list {
		verbs := []string{"delete"}
		if o.IsRelease() { // Helm marks it, then takes it away
			verbs, o = []string{"list", "update", "delete"}, install.Object{APIVersion: "v1", Kind: "Secret", Namespace: o.Namespace}
		}
		_, m, err := r.client.Resource(ctx, named(o))
		if isUnknown(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, verb := range verbs {
			right := verb + " " + m.Resource.GroupResource().String()
			if o.Kind == "Namespace" {
				right += " " + o.Name
			}
			if o.Namespace != "" {
				right += " in namespace " + o.Namespace
			}
			if may[right] {
				continue
			}
			at := o.Namespace
			if o.APIVersion == "v1" && o.Kind == "Namespace" {
				at = o.Name // what the server takes it for
			}
			// A role may be about all of them, or about this one.
			for _, name := range []string{"", o.Name} {
				ok, err := r.client.May(ctx, verb, m.Resource.GroupResource(), at, name)
				if err != nil {
					return nil, err
				}
				if may[right] = ok && name == ""; ok {
					break
				}
				if name == o.Name && !slices.Contains(out, right) {
					out = append(out, right)
				}
			}
		}
	}
	return out, nil
}

// Holds says what others keep in a namespace, or of a type, that stays when the
// objects of gone are removed; "" if nothing does.
func (r *Removal) Holds(ctx context.Context, o install.Object, gone []install.Object) (string, error) {
	if o.APIVersion != "v1" || o.Kind != "Namespace" {
		return "", nil
	}
	known, records := make(map[string]bool), []string{}
	for _, g := range gone {
		if g.Namespace != o.Name {
			continue
		}
		if g.IsRelease() {
			records = append(records, "sh.helm.release.v1."+g.Name+".v")
			continue
		}
		_, m, err := r.client.Resource(ctx, named(g))
		if isUnknown(err) {
			continue
		}
		if err != nil {
			return "", err
		}
		known[m.Resource.GroupResource().String()+"/"+g.Name] = true
	}
	held, err := r.client.Holds(ctx, o.Name, func(gr schema.GroupResource, name string) bool {
		return known[gr.String()+"/"+name] || gr == schema.GroupResource{Resource: "secrets"} &&
			slices.ContainsFunc(records, func(p string) bool { return strings.HasPrefix(name, p) })
	})
	if err != nil || held == "" {
		return "", err
	}
	return "it still holds " + held, nil
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
		held, err := r.client.Holds(ctx, o.Name, nil)
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
	short, cancel := context.WithTimeout(ctx, removalWait)
	defer cancel()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	holds := o.String() + " is being removed"
	for {
		live, _, err := r.find(short, o)
		if err == nil && live == nil {
			return nil
		}
		if err == nil {
			holds = cluster.Lingers(live)
		}
		select {
		case <-short.Done():
			if ctx.Err() != nil {
				return fmt.Errorf("wait until %s is gone: %w", o, context.Cause(ctx))
			}
			if err != nil {
				return err
			}
			return fmt.Errorf("%s, for %s now; see to that, and run it again", holds, removalWait)
		case <-tick.C:
		}
	}
}
