package workload

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/airlock-project/airlock/install/internal/answer"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

var crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// resource looks at a custom resource: two values in it have to be the same,
// such as what is wanted and what is there.
func (w *work) resource(ctx context.Context) error {
	if w.Kind == "" {
		return nil
	}
	r, err := w.kind(ctx, w.Kind)
	if err != nil {
		return err
	}
	fields := map[string]string{"kind": w.Kind, "actual": "nothing", "want": "something"}
	if w.Fields["name"] == "" {
		fields["name"] = w.Name
	}
	got, err := r.Get(ctx, w.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		w.find(codeResource, fmt.Sprintf("there is no %s %s/%s", w.Kind, w.Namespace, w.Name), fields)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s %s/%s: %w", w.Kind, w.Namespace, w.Name, w.Explain(err))
	}
	if len(w.Equal) == 0 {
		return nil
	}
	want, actual := value(got, w.Equal[0]), value(got, w.Equal[1])
	fields["want"], fields["actual"] = want, actual
	if want == actual && want != "nothing" {
		return w.members(ctx, fields)
	}
	return w.differs(ctx, fmt.Sprintf("%s is %s and %s is %s", w.Equal[0], want, w.Equal[1], actual), fields, []string{w.Name})
}

// kind is the client for a kind in the namespace, of the version that is served.
func (w *work) kind(ctx context.Context, kind string) (dynamic.ResourceInterface, error) {
	version, err := w.served(ctx, kind)
	if err != nil {
		return nil, err
	}
	o := &unstructured.Unstructured{}
	o.SetAPIVersion(version)
	o.SetKind(kind)
	o.SetNamespace(w.Namespace)
	r, _, err := w.Resource(ctx, o)
	return r, err
}

// maxMembers bounds the objects that are looked at.
const maxMembers = 1000

// members looks at what belongs to the custom resource.
func (w *work) members(ctx context.Context, fields map[string]string) error {
	m := w.Members
	if m == nil {
		return nil
	}
	r, err := w.kind(ctx, m.Kind)
	if err != nil {
		return err
	}
	list, err := r.List(ctx, metav1.ListOptions{Limit: maxMembers})
	if err != nil {
		return fmt.Errorf("list %s of %s: %w", m.Kind, w.Namespace, w.Explain(err))
	}
	good, names := 0, []string{w.Name}
	for i := range list.Items {
		o := &list.Items[i]
		switch {
		case o.GetAnnotations()[m.Annotation] != w.Name || o.GetDeletionTimestamp() != nil:
		case value(o, m.Path) == m.Is:
			good++
		default:
			names = append(names, o.GetName())
		}
	}
	if n, err := strconv.Atoi(fields["want"]); err == nil && good >= n {
		return nil
	}
	fields["actual"] = strconv.Itoa(good)
	return w.differs(ctx, fmt.Sprintf("of %s objects %s, %d have %s %s", fields["want"], m.Kind, good, m.Path, m.Is), fields, names)
}

// differs reports the custom resource: what is told of it and what belongs to it,
// and why its pods do not run.
func (w *work) differs(ctx context.Context, detail string, fields map[string]string, names []string) error {
	for _, name := range names[:min(len(names), 3)] {
		if events := w.Warnings(ctx, w.Namespace, name); len(events) > 0 {
			detail += "; " + events[len(events)-1]
		}
	}
	var reasons []cluster.Reason
	if w.Selector != "" {
		var err error
		if reasons, err = w.Why(ctx, w.Namespace, w.Selector); err != nil {
			return err
		}
	}
	if len(reasons) > 0 {
		detail += "; " + reasons[0].String()
	}
	w.find(codeResource, detail, fields)
	for _, r := range reasons[:min(len(reasons), 3)] {
		if byClass[r.Class] != "" {
			w.reason(r, with(fields, map[string]string{"workload": w.Name, "ready": fields["actual"]}))
		}
	}
	return nil
}

// value is a scalar of an object for people, "nothing" where there is none.
func value(o *unstructured.Unstructured, path string) string {
	v, ok := answer.At(o.Object, path)
	if !ok {
		return "nothing"
	}
	if s, ok := answer.Text(v); ok {
		return cluster.Clean(s)
	}
	return "no single value"
}

// served finds the version of a custom resource by its kind alone.
func (w *work) served(ctx context.Context, want string) (string, error) {
	if w.APIVersion != "" {
		return w.APIVersion, nil
	}
	list, err := w.Dynamic().Resource(crds).List(ctx, metav1.ListOptions{Limit: 1000})
	if err != nil {
		return "", fmt.Errorf("list types: %w", w.Explain(err))
	}
	found := ""
	for i := range list.Items {
		o := &list.Items[i]
		if kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind"); kind != want {
			continue
		}
		group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
		versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
		for _, v := range versions {
			if m, _ := v.(map[string]any); m["storage"] == true {
				name, _ := m["name"].(string)
				if found != "" && found != group+"/"+name {
					return "", errors.New("several groups have a kind " + want + ": say which with api_version")
				}
				found = group + "/" + name
			}
		}
	}
	if found == "" {
		return "", &cluster.UnknownKindError{Server: w.Server(), Kind: want, Version: "any group"}
	}
	return found, nil
}
