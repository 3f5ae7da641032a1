// Package kube holds the actions on a Kubernetes cluster: a kubeconfig of its
// own, objects applied by the server, Secrets, and restarts. Each says in a plan
// what it would change, in words that hold no value of a Secret.
package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/action/internal/charts"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	"github.com/airlock-project/airlock/manifests"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// codeImages is what package action/chart reports too: an image that is nowhere
// in the enclave.
const codeImages = "REN-01"

const (
	defaultWait = 60 * time.Second
	// pause is how long a step waits before it looks again.
	pause = 500 * time.Millisecond
)

// Apply is the action k8s.apply: server-side apply of objects. Its zero value is
// ready and safe for concurrent use.
type Apply struct{}

type applyArguments struct {
	cluster.Access
	Objects   []json.RawMessage        `json:"objects"`
	File      paths                    `json:"file"`      // of YAML documents, or several
	Namespace string                   `json:"namespace"` // of those that name none and live in one
	Force     bool                     `json:"force"`     // take fields over from other managers
	Images    *manifests.RelocationMap `json:"images"`
	Ignore    []string                 `json:"ignore"` // images that stay as they are
	Embed     []embedding              `json:"embed"`
	Wait      string                   `json:"wait"` // for new types; default 60s
}

// embedding puts the content of a file into an object, in base64: an authority
// that an API wants as caBundle. Without a file nothing is put there.
type embedding struct {
	Object string `json:"object"` // Kind/name
	Path   string `json:"path"`   // dotted
	File   string `json:"file"`
}

// Codes implements install.Coder.
func (Apply) Codes() map[string][]string {
	return cluster.General(map[string][]string{codeImages: {"images", "reason", "namespace"}})
}

// applying is one run.
type applying struct {
	applyArguments
	*cluster.Client
	objects []*unstructured.Unstructured
	wait    time.Duration
	made    map[string]bool // group/kind of types among the objects
	spaces  map[string]bool // namespaces among the objects
}

func (a applyArguments) start(ctx context.Context, site string) (*applying, error) {
	w := &applying{applyArguments: a, wait: defaultWait, made: make(map[string]bool), spaces: make(map[string]bool)}
	if a.Wait != "" {
		d, err := time.ParseDuration(a.Wait)
		if err != nil || d <= 0 {
			return nil, fmt.Errorf("wait %q is not a duration such as 60s", a.Wait)
		}
		w.wait = d
	}
	var err error
	if w.objects, err = gather(a, site); err != nil {
		return nil, err
	}
	for _, o := range w.objects {
		switch weight(o) {
		case 0:
			w.spaces[o.GetName()] = true
		case 1:
			group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
			kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
			w.made[group+"/"+kind] = true
		}
	}
	w.Client, err = a.Open(ctx)
	return w, err
}

// home puts an object into the step's namespace if it names none and its kind
// lives in one.
func (w *applying) home(ctx context.Context, o *unstructured.Unstructured) error {
	m, err := w.Mapping(ctx, o.GroupVersionKind())
	if err != nil {
		return err
	}
	switch namespaced := m.Scope.Name() == meta.RESTScopeNameNamespace; {
	case !namespaced:
		o.SetNamespace("")
	case o.GetNamespace() == "":
		o.SetNamespace(cmp.Or(w.Namespace, metav1.NamespaceDefault))
	}
	return nil
}

// Plan has the server go through everything without keeping it.
func (Apply) Plan(ctx context.Context, in install.Input) (install.Change, error) {
	var a applyArguments
	if err := in.Decode(&a); err != nil {
		return install.Change{}, err
	}
	w, err := a.start(ctx, in.Site)
	if err != nil {
		return install.Change{}, err
	}
	c := install.Change{Nothing: true}
	counts := make(map[cluster.Change]int)
	for _, o := range w.objects {
		out, text, err := w.preview(ctx, o)
		if err != nil {
			return install.Change{}, err
		}
		counts[out]++
		if out != cluster.Unchanged {
			c.Nothing = false
			c.Details = append(c.Details, text)
		}
	}
	c.Summary = fmt.Sprintf("apply %d objects: %d to create, %d to change, %d as wanted", len(w.objects), counts[cluster.Created], counts[cluster.Changed], counts[cluster.Unchanged])
	return c, nil
}

func (w *applying) preview(ctx context.Context, o *unstructured.Unstructured) (cluster.Change, string, error) {
	if err := w.home(ctx, o); err != nil {
		if isUnknown(err) && w.made[o.GroupVersionKind().Group+"/"+o.GetKind()] {
			return cluster.Created, "create " + cluster.Name(o) + ", of a type that is made with it", nil
		}
		return "", "", err
	}
	out, err := w.Client.Apply(ctx, o, cluster.ApplyOptions{DryRun: true, Force: w.Force})
	if e, ok := errors.AsType[*cluster.ConflictError](err); ok {
		return cluster.Changed, e.Error() + "; it will be refused", nil
	}
	if e, ok := errors.AsType[*cluster.TerminatingError](err); ok && e.Missing && w.spaces[o.GetNamespace()] {
		return cluster.Created, "create " + cluster.Name(o) + ", in a namespace that is made with it", nil
	}
	if err != nil {
		return "", "", err
	}
	switch out.Change {
	case cluster.Created:
		return out.Change, "create " + cluster.Name(o), nil
	case cluster.Changed:
		return out.Change, "change " + cluster.Name(o) + ": " + strings.Join(out.Fields, ", "), nil
	}
	return out.Change, "", nil
}

func isUnknown(err error) bool {
	_, ok := errors.AsType[*cluster.UnknownKindError](err)
	return ok
}

// Apply applies the objects in order: namespaces, types, the rest. It stops at
// the first that is refused; done again, it goes on.
func (Apply) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	var a applyArguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	w, err := a.start(ctx, in.Site)
	if err != nil {
		return a.fail(err, "")
	}
	var res install.Result
	var kept []install.Object
	for _, o := range w.objects {
		if err := errors.Join(w.known(ctx, o), w.home(ctx, o)); err != nil {
			return a.fail(err, o.GetNamespace())
		}
		if err := in.Keeps(nameOf(o)); err != nil {
			return res, errors.Join(err, keep(&res, kept))
		}
		out, err := w.Client.Apply(ctx, o, cluster.ApplyOptions{Force: a.Force})
		if err != nil {
			failed, err := a.fail(err, o.GetNamespace())
			failed.Changed = res.Changed
			return failed, errors.Join(err, keep(&failed, kept))
		}
		kept = append(kept, nameOf(o))
		res.Changed = res.Changed || out.Change != cluster.Unchanged
		if isCRD(o) {
			if err := w.established(ctx, o); err != nil {
				failed, err := a.fail(err, "")
				return failed, errors.Join(err, keep(&failed, kept))
			}
		}
	}
	return res, keep(&res, kept)
}

func nameOf(o *unstructured.Unstructured) install.Object {
	return install.Object{APIVersion: o.GetAPIVersion(), Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
}

// keep puts the objects into the record, of a step that fails too.
func keep(res *install.Result, objects []install.Object) error {
	ev, err := install.Objects(objects...)
	if err != nil {
		return err
	}
	res.Evidence = append(res.Evidence, ev)
	return nil
}

// fail turns an error into what a step reports.
func (a applyArguments) fail(err error, namespace string) (install.Result, error) {
	if namespace == "" {
		namespace = a.Namespace
	}
	if e, ok := errors.AsType[*charts.UnknownError](err); ok {
		f := a.Report(codeImages, e.Error(), map[string]string{"images": e.Images(), "namespace": namespace})
		return install.Result{Findings: []install.Finding{f}}, nil
	}
	return a.Failed(err, map[string]string{"namespace": namespace})
}

// known waits until the server serves a kind whose type was just made.
func (w *applying) known(ctx context.Context, o *unstructured.Unstructured) error {
	if !w.made[o.GroupVersionKind().Group+"/"+o.GetKind()] {
		return nil
	}
	return w.poll(ctx, func() (bool, error) {
		_, err := w.Mapping(ctx, o.GroupVersionKind())
		return !isUnknown(err), err
	})
}

// established waits until the server has taken a type in.
func (w *applying) established(ctx context.Context, o *unstructured.Unstructured) error {
	r, _, err := w.Resource(ctx, o)
	if err != nil {
		return err
	}
	return w.poll(ctx, func() (bool, error) {
		now, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
		if err != nil {
			return true, w.Explain(err)
		}
		reason := cluster.Unmet(now, "Established")
		// One that serves goes on with its old names when it gets new ones.
		if status, _, names := cluster.Condition(now, "NamesAccepted"); status == "False" {
			reason = strings.TrimPrefix(reason+"; its names are not accepted: "+names, "; ")
		}
		if reason == "" {
			return true, nil
		}
		return false, fmt.Errorf("make type %s: it is not established: %s", o.GetName(), reason)
	})
}

// poll looks until look says that it is done, or time is up; then its last error
// counts.
func (w *applying) poll(ctx context.Context, look func() (done bool, err error)) error {
	return poll(ctx, w.wait, look)
}

func poll(ctx context.Context, wait time.Duration, look func() (done bool, err error)) error {
	end := time.NewTimer(wait)
	defer end.Stop()
	for {
		done, err := look()
		if done || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-end.C:
			return err
		case <-time.After(pause):
		}
	}
}
