//go:build all

package helm

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

var typesOf = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// annotationLimit is what all annotations of an object may hold in bytes, and so
// a client's record of what it applied.
const annotationLimit = 256 << 10

// subTypes is a chart as that of the worker controller is: a subchart holds the
// types as templates, one of them larger than a client can apply, and a switch
// turns it off. Each test has a group of its own: types are the whole cluster's.
func subTypes(group, version, says string) map[string]string {
	crd := strings.NewReplacer(
		"metadata: {name: gadgets.demo.test}", "metadata: {name: gadgets."+group+", annotations: {{ .Values.annotations | toJson }}}", "demo.test", group,
	).Replace(gadgets(says + strings.Repeat(" and more of it", annotationLimit/12)))
	return map[string]string{
		"Chart.yaml":                   "apiVersion: v2\nname: demo\nversion: " + version + "\ndependencies: [{name: crds, version: 0.1.0, condition: crds.install}]\n",
		"values.yaml":                  "crds: {install: true, annotations: {helm.sh/resource-policy: keep}}\n",
		"templates/c.yaml":             "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {version: {{ .Chart.Version }}}\n",
		"charts/crds/Chart.yaml":       "apiVersion: v2\nname: crds\nversion: 0.1.0\n",
		"charts/crds/values.yaml":      "annotations: {}\n",
		"charts/crds/templates/g.yaml": crd,
	}
}

// dirTypes is the chart as it was before: the type in its crds directory.
func dirTypes(group, version, says string) map[string]string {
	return map[string]string{
		"Chart.yaml":       "apiVersion: v2\nname: demo\nversion: " + version + "\n",
		"templates/c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {version: {{ .Chart.Version }}}\n",
		"crds/g.yaml":      strings.ReplaceAll(gadgets(says), "demo.test", group),
	}
}

func dynamicClient(t *testing.T) dynamic.Interface {
	t.Helper()
	d, err := dynamic.NewForConfig(box.REST)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// gadgetType reads a type, and what it says of itself.
func gadgetType(t *testing.T, group string) (*unstructured.Unstructured, string) {
	t.Helper()
	o, err := dynamicClient(t).Resource(typesOf).Get(t.Context(), "gadgets."+group, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
	says, _, _ := unstructured.NestedString(versions[0].(map[string]any), "schema", "openAPIV3Schema", "description")
	return o, says
}

// managers lists who has the fields of a type's spec, and how.
func managers(o *unstructured.Unstructured) string {
	var out []string
	for _, m := range o.GetManagedFields() {
		if m.FieldsV1 != nil && m.Subresource == "" && strings.Contains(string(m.FieldsV1.GetRawBytes()), `"f:spec"`) {
			out = append(out, m.Manager+" "+string(m.Operation))
		}
	}
	return strings.Join(out, ", ")
}

func makeGadget(t *testing.T, group, ns string) func() error {
	t.Helper()
	r := dynamicClient(t).Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: "gadgets"}).Namespace(ns)
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": group + "/v1", "kind": "Gadget", "metadata": map[string]any{"name": "mine"}}}
	if _, err := r.Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return func() error {
		o, err := r.Get(t.Context(), "mine", metav1.GetOptions{})
		if err == nil && o.GetDeletionTimestamp() != nil {
			err = fmt.Errorf("it is being removed")
		}
		return err
	}
}

// dropTypes removes a type when the test ends.
func dropTypes(t *testing.T, group string) {
	t.Helper()
	t.Cleanup(func() {
		_ = dynamicClient(t).Resource(typesOf).Delete(context.Background(), "gadgets."+group, metav1.DeleteOptions{})
	}) // it may be gone
}

// TestRealTypes: types among a subchart's templates are applied by the server, as
// Helm's own; an upgrade changes them and takes nothing with it.
func TestRealTypes(t *testing.T) {
	const group = "sub.test"
	dropTypes(t, group)
	ns := box.Namespace(t)
	first, in := carry(t, subTypes(group, "1.0.0", "a gadget"), ""), real(t, ns, nil)
	plan, err := Action{}.plan(t.Context(), first, in)
	if err != nil || !strings.Contains(strings.Join(plan.Details, "\n"), "apply CustomResourceDefinition gadgets."+group) {
		t.Errorf("plan: %+v, %v", plan, err)
	}
	must(t, first, in)
	o, says := gadgetType(t, group)
	if raw, err := json.Marshal(o); err != nil || len(raw) < annotationLimit || !strings.HasPrefix(says, "a gadget and more") {
		t.Errorf("the type has %d bytes, %v", len(raw), err)
	}
	if got := managers(o); got != "airlock Apply" {
		t.Errorf("the type's spec is of %s", got)
	}
	if manifest := stock(t, ns, "get", "manifest", "prod"); !strings.Contains(manifest, "gadgets."+group) || o.GetAnnotations()[annotationName] != "prod" || o.GetAnnotations()[annotationNamespace] != ns {
		t.Errorf("it is not the release's: %v", o.GetAnnotations())
	}
	if !nothing(t, first, in) {
		t.Error("a second run has something to do")
	}
	there := makeGadget(t, group, ns)
	second := carry(t, subTypes(group, "1.1.0", "a better gadget"), "")
	must(t, second, in)
	o, says = gadgetType(t, group)
	if !strings.HasPrefix(says, "a better gadget") || managers(o) != "airlock Apply" {
		t.Errorf("after the upgrade it says %.20q and is of %s", says, managers(o))
	}
	wantRevisions(t, ns, "1 superseded", "2 deployed")
	if err := there(); err != nil {
		t.Errorf("what was there of the type: %v", err)
	}
	// The switch off is a release without them: those that are kept stay.
	must(t, second, real(t, ns, values(map[string]any{"crds": map[string]any{"install": false}})))
	if err := there(); err != nil {
		t.Errorf("after the switch was off: %v", err)
	}
	must(t, second, in)
}

// TestRealTypesMoved: a chart that had its types in its crds directory has them
// among its templates later, as that of the worker controller from v0.58.0 on.
func TestRealTypesMoved(t *testing.T) {
	const group = "moved.test"
	dropTypes(t, group)
	ns := box.Namespace(t)
	in := real(t, ns, nil)
	must(t, carry(t, dirTypes(group, "1.0.0", "a gadget"), ""), in)
	there := makeGadget(t, group, ns)
	must(t, carry(t, subTypes(group, "1.1.0", "a better gadget"), ""), in)
	o, says := gadgetType(t, group)
	if !strings.HasPrefix(says, "a better gadget") || o.GetLabels()[labelManaged] != "Helm" {
		t.Errorf("it says %.20q, labels %v", says, o.GetLabels())
	}
	wantRevisions(t, ns, "1 superseded", "2 deployed")
	if err := there(); err != nil {
		t.Errorf("what was there of the type: %v", err)
	}
}

// TestRealTypesTaken: a type that the stock helm made for the release is changed;
// one of somebody else is told of, and nothing is done.
func TestRealTypesTaken(t *testing.T) {
	apply := func(group, manager string, metadata map[string]any) {
		t.Helper()
		dropTypes(t, group)
		var o map[string]any
		text := strings.ReplaceAll(gadgets("an old gadget"), "demo.test", group)
		raw, err := yaml.YAMLToJSON([]byte(text))
		if err == nil {
			err = json.Unmarshal(raw, &o)
		}
		if err != nil {
			t.Fatal(err)
		}
		metadata["name"] = "gadgets." + group
		o["metadata"] = metadata
		if raw, err = json.Marshal(o); err != nil {
			t.Fatal(err)
		}
		if _, err := dynamicClient(t).Resource(typesOf).Patch(t.Context(), "gadgets."+group, types.ApplyPatchType, raw, metav1.PatchOptions{FieldManager: manager}); err != nil {
			t.Fatal(err)
		}
	}
	ns := box.Namespace(t)
	apply("helm.test", "helm", map[string]any{
		"labels": map[string]any{labelManaged: "Helm"}, "annotations": map[string]any{annotationName: "prod", annotationNamespace: ns},
	})
	must(t, carry(t, subTypes("helm.test", "1.0.0", "a gadget"), ""), real(t, ns, nil))
	if _, says := gadgetType(t, "helm.test"); !strings.HasPrefix(says, "a gadget") {
		t.Errorf("it says %.20q", says)
	}
	for group, metadata := range map[string]map[string]any{
		"theirs.test": {}, "other.test": {"labels": map[string]any{labelManaged: "Helm"}, "annotations": map[string]any{annotationName: "prod", annotationNamespace: "elsewhere"}},
	} {
		ns := box.Namespace(t)
		apply(group, "somebody", metadata)
		f := fails(t, carry(t, subTypes(group, "1.0.0", "a gadget"), ""), real(t, ns, nil), codeConflict)
		if f.Fields["object"] != "CustomResourceDefinition gadgets."+group {
			t.Errorf("%+v", f)
		}
		if _, says := gadgetType(t, group); says != "an old gadget" {
			t.Errorf("%s was changed: %.20q", group, says)
		}
		if got := revisionsOf(t, ns); got != "" {
			t.Errorf("there is a release: %s", got)
		}
	}
}

// revisionsOf lists the Secrets of Helm's revisions in a namespace.
func revisionsOf(t *testing.T, ns string) string {
	t.Helper()
	list, err := box.Clientset.CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range list.Items {
		out = append(out, s.Name)
	}
	return strings.Join(out, ", ")
}

// TestRealTypesOwn: a chart may have a type and an object of it among its
// templates: the type serves before Helm makes the first.
func TestRealTypesOwn(t *testing.T) {
	const group = "late.test"
	dropTypes(t, group)
	ns := box.Namespace(t)
	b := carry(t, odd(map[string]string{"a.yaml": strings.ReplaceAll(gadgets("x"), "demo.test", group) + thing(group+"/v1", "Gadget", "name: made", "")}), "")
	must(t, b, real(t, ns, nil))
	if !nothing(t, b, real(t, ns, nil)) {
		t.Error("a second run has something to do")
	}
}
