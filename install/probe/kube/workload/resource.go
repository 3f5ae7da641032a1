package workload

import (
	"context"
	"errors"
	"fmt"

	"github.com/airlock-project/airlock/install/internal/answer"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// resource looks at a custom resource: two values in it have to be the same,
// such as what is wanted and what is there.
func (w *work) resource(ctx context.Context) error {
	if w.Kind == "" {
		return nil
	}
	o := &unstructured.Unstructured{}
	version, err := w.served(ctx)
	if err != nil {
		return err
	}
	o.SetAPIVersion(version)
	o.SetKind(w.Kind)
	o.SetNamespace(w.Namespace)
	r, _, err := w.Resource(ctx, o)
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
	if want == actual && want != "nothing" {
		return nil
	}
	fields["want"], fields["actual"] = want, actual
	return w.differs(ctx, fields)
}

// differs reports the custom resource, and why its pods do not run.
func (w *work) differs(ctx context.Context, fields map[string]string) error {
	detail := fmt.Sprintf("%s is %s and %s is %s", w.Equal[0], fields["want"], w.Equal[1], fields["actual"])
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
func (w *work) served(ctx context.Context) (string, error) {
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
		if kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind"); kind != w.Kind {
			continue
		}
		group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
		versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
		for _, v := range versions {
			if m, _ := v.(map[string]any); m["storage"] == true {
				name, _ := m["name"].(string)
				if found != "" && found != group+"/"+name {
					return "", errors.New("several groups have a kind " + w.Kind + ": say which with api_version")
				}
				found = group + "/" + name
			}
		}
	}
	if found == "" {
		return "", &cluster.UnknownKindError{Server: w.Server(), Kind: w.Kind, Version: "any group"}
	}
	return found, nil
}
