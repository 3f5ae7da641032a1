package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// Change is what applying an object did, or would do.
type Change string

// Changes.
const (
	Created   Change = "created"
	Changed   Change = "changed"
	Unchanged Change = "unchanged"
)

// Outcome is what came of applying one object.
type Outcome struct {
	Change Change
	// Fields are the paths that differ from what was there, sorted, at most 50;
	// of a Secret too only names. Empty for what was created.
	Fields []string
	// Object is what the server has, or would have.
	Object *unstructured.Unstructured
}

// ApplyOptions say how an object is applied.
type ApplyOptions struct {
	DryRun bool // the server checks and defaults it, and keeps nothing
	Force  bool // take fields over from other managers
}

// Resource is the client for the objects of one kind: in a namespace, or of the
// cluster where the kind has none.
func (c *Client) Resource(ctx context.Context, o *unstructured.Unstructured) (dynamic.ResourceInterface, *meta.RESTMapping, error) {
	m, err := c.Mapping(ctx, o.GroupVersionKind())
	if err != nil {
		return nil, nil, err
	}
	r := c.dynamic.Resource(m.Resource)
	if m.Scope.Name() == meta.RESTScopeNameRoot {
		return r, m, nil
	}
	return r.Namespace(cmp.Or(o.GetNamespace(), metav1.NamespaceDefault)), m, nil
}

// Apply applies an object server-side, as field manager [Manager]. It may be
// done again: what is as wanted stays untouched. Errors are a *ConflictError, a
// *TerminatingError, an *InvalidError, an *UnknownKindError, those of
// [Client.Explain], or an API error.
func (c *Client) Apply(ctx context.Context, o *unstructured.Unstructured, opts ApplyOptions) (Outcome, error) {
	name := Name(o)
	r, m, err := c.Resource(ctx, o)
	if err != nil {
		return Outcome{}, err
	}
	o = o.DeepCopy()
	if m.Scope.Name() == meta.RESTScopeNameRoot {
		o.SetNamespace("")
	}
	o.SetManagedFields(nil)
	before, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
	if isNotFound(err) {
		before, err = nil, nil
	}
	if err != nil {
		return Outcome{}, fmt.Errorf("read %s: %w", name, c.Explain(err))
	}
	if before != nil && before.GetKind() == "Namespace" {
		if err := terminating(before); err != nil {
			return Outcome{}, err
		}
	}
	if isType(o) {
		if err := c.rival(ctx, o); err != nil {
			return Outcome{}, err
		}
	}
	if before == nil || Made(before) {
		annotations := maps.Clone(o.GetAnnotations())
		if annotations == nil {
			annotations = make(map[string]string)
		}
		annotations[AnnotationMade] = Manager
		o.SetAnnotations(annotations)
	}
	data, err := json.Marshal(o)
	if err != nil {
		return Outcome{}, fmt.Errorf("encode %s: %w", name, err)
	}
	options := metav1.PatchOptions{FieldManager: Manager, Force: &opts.Force}
	if opts.DryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	after, err := r.Patch(ctx, o.GetName(), types.ApplyPatchType, data, options)
	if err != nil {
		return Outcome{}, c.refused(ctx, o, err)
	}
	return compare(before, after), nil
}

// AnnotationMade marks what Apply created, as opposed to what it found and
// changed: only that may be removed again.
const AnnotationMade = "airlock-project.io/made-by"

// Made reports whether Apply created an object.
func Made(o *unstructured.Unstructured) bool { return o.GetAnnotations()[AnnotationMade] == Manager }

// Delete removes an object that Apply created, with what belongs to it, and
// reports whether it was there and ours. What others made is left alone. The
// object may take a while to go: see [Client.Gone].
func (c *Client) Delete(ctx context.Context, o *unstructured.Unstructured) (removed bool, err error) {
	r, _, err := c.Resource(ctx, o)
	if _, unknown := errors.AsType[*UnknownKindError](err); unknown {
		return false, nil // the type is gone, and with it every object of it
	}
	if err != nil {
		return false, err
	}
	live, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
	if isNotFound(err) || err == nil && !Made(live) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", Name(o), c.Explain(err))
	}
	policy, uid := metav1.DeletePropagationForeground, live.GetUID()
	err = r.Delete(ctx, o.GetName(), metav1.DeleteOptions{PropagationPolicy: &policy, Preconditions: &metav1.Preconditions{UID: &uid}})
	if isNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remove %s: %w", Name(o), c.Explain(err))
	}
	return true, nil
}

// compare tells what changed, what the server keeps for itself aside.
func compare(before, after *unstructured.Unstructured) Outcome {
	if before == nil {
		return Outcome{Change: Created, Object: after}
	}
	fields := Diff(before, after)
	if len(fields) == 0 {
		return Outcome{Change: Unchanged, Object: after}
	}
	return Outcome{Change: Changed, Fields: fields, Object: after}
}

// refused gives the server's refusal a type.
func (c *Client) refused(ctx context.Context, o *unstructured.Unstructured, err error) error {
	name := Name(o)
	if fields, messages := causes(err, metav1.CauseTypeFieldManagerConflict); len(fields) > 0 {
		return &ConflictError{Object: name, Fields: fields, Owners: owners(messages)}
	}
	if apierrors.HasStatusCause(err, "NamespaceTerminating") {
		return c.Terminating(ctx, o.GetNamespace())
	}
	if apierrors.IsNotFound(err) && o.GetNamespace() != "" {
		// An apply makes what is not there, unless its namespace is missing.
		return &TerminatingError{Namespace: o.GetNamespace(), Missing: true}
	}
	invalid := apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsInternalError(err)
	if o.GetKind() == "Secret" && o.GroupVersionKind().Group == "" {
		return c.RefusedSecret(o.GetNamespace(), o.GetName(), err)
	}
	if invalid {
		fields, _ := causes(err, "")
		return &InvalidError{name, fields, plain(err)}
	}
	return fmt.Errorf("apply %s: %w", name, c.Explain(err))
}

// RefusedSecret gives a server's refusal of a Secret a type. Validation repeats
// values, so of its words only the names of fields stay.
func (c *Client) RefusedSecret(namespace, name string, err error) error {
	what := clean("Secret " + namespace + "/" + name)
	if _, isStatus := errors.AsType[*apierrors.StatusError](err); !isStatus || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) ||
		apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return fmt.Errorf("apply %s: %w", what, c.Explain(err))
	}
	fields, _ := causes(err, "")
	return &InvalidError{what, fields, fmt.Sprintf("the server refuses it (%s): %s", apierrors.ReasonForError(err), cmp.Or(strings.Join(fields, ", "), "it names no field"))}
}

// owners reads field managers out of what the server says: conflict with "helm"
// using apps/v1.
func owners(messages []string) []string {
	var out []string
	for _, m := range messages {
		if q, err := strconv.QuotedPrefix(strings.TrimPrefix(m, "conflict with ")); err == nil {
			if s, err := strconv.Unquote(q); err == nil {
				out = append(out, clean(s))
				continue
			}
		}
		out = append(out, clean(strings.TrimPrefix(m, "conflict with ")))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Terminating returns a *TerminatingError if a namespace is being removed, and
// nil if not.
func (c *Client) Terminating(ctx context.Context, namespace string) error {
	o := &unstructured.Unstructured{}
	o.SetAPIVersion("v1")
	o.SetKind("Namespace")
	r, _, err := c.Resource(ctx, o)
	if err != nil {
		return err
	}
	ns, err := r.Get(ctx, namespace, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read namespace %s: %w", namespace, c.Explain(err))
	}
	return terminating(ns)
}

func terminating(ns *unstructured.Unstructured) error {
	phase, _, _ := unstructured.NestedString(ns.Object, "status", "phase")
	if phase != "Terminating" && ns.GetDeletionTimestamp() == nil {
		return nil
	}
	return &TerminatingError{Namespace: ns.GetName(), Holds: holding(ns)}
}

// holding are the finalizers of a namespace that is being removed, and what its
// conditions say is left in it.
func holding(ns *unstructured.Unstructured) []string {
	var holds []string
	spec, _, _ := unstructured.NestedStringSlice(ns.Object, "spec", "finalizers")
	for _, f := range append(spec, ns.GetFinalizers()...) {
		holds = append(holds, "finalizer "+clean(f))
	}
	conditions, _, _ := unstructured.NestedSlice(ns.Object, "status", "conditions")
	for _, v := range conditions {
		c, _ := v.(map[string]any)
		if c["status"] != "True" {
			continue
		}
		if s, ok := c["message"].(string); ok && s != "" {
			holds = append(holds, clean(s))
		}
	}
	return holds
}

// Name names an object for messages: Deployment spacelift/server.
func Name(o *unstructured.Unstructured) string {
	name := o.GetName()
	if ns := o.GetNamespace(); ns != "" {
		name = ns + "/" + name
	}
	return clean(o.GetKind() + " " + name)
}

// maxFields bounds the paths that are told of one object.
const maxFields = 50

// Diff returns the paths in which two objects differ, sorted, at most 50. What
// the server keeps for itself (managedFields, resourceVersion, generation, uid,
// creationTimestamp, status) does not count.
func Diff(before, after *unstructured.Unstructured) []string {
	var out []string
	diff("", strip(before), strip(after), &out)
	slices.Sort(out)
	if len(out) > maxFields {
		out = out[:maxFields]
	}
	return out
}

func strip(o *unstructured.Unstructured) map[string]any {
	m := maps.Clone(o.Object)
	delete(m, "status")
	if md, ok := m["metadata"].(map[string]any); ok {
		md = maps.Clone(md)
		for _, k := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"} {
			delete(md, k)
		}
		m["metadata"] = md
	}
	return m
}

func diff(path string, a, b any, out *[]string) {
	am, aok := a.(map[string]any)
	bm, bok := b.(map[string]any)
	if aok && bok {
		for _, k := range union(am, bm) {
			diff(join(path, k), am[k], bm[k], out)
		}
		return
	}
	al, aok := a.([]any)
	bl, bok := b.([]any)
	if aok && bok && len(al) == len(bl) {
		for i := range al {
			diff(fmt.Sprintf("%s[%d]", path, i), al[i], bl[i], out)
		}
		return
	}
	if !same(a, b) {
		*out = append(*out, clean(path))
	}
}

func union(a, b map[string]any) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// join writes a name that holds dots, such as a label's, in brackets.
func join(path, name string) string {
	if strings.ContainsAny(name, ".[]/") {
		return path + "[" + strconv.Quote(name) + "]"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// same compares values as JSON has them: an empty list or map is like none.
func same(a, b any) bool {
	if empty(a) && empty(b) {
		return true
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

func empty(v any) bool {
	switch t := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(t) == 0
	case []any:
		return len(t) == 0
	}
	return false
}
