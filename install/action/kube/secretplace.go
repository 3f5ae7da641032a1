package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	cluster "github.com/airlock-project/airlock/install/internal/kube"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
)

// merger is the field manager of keys that merge sets: what a later step changed
// on purpose stays when the step that gives the whole set runs again.
const merger = cluster.Manager + "-merge"

var ours = []string{cluster.Manager, merger}

// place brings the Secret to what it should be, or has the server try it.
func (w *keeping) place(ctx context.Context, dryRun bool) (cluster.Outcome, error) {
	if w.Merge {
		return w.merge(ctx, dryRun)
	}
	var gone []string
	if w.before != nil {
		gone = slices.DeleteFunc(slices.Clone(w.Remove), func(key string) bool { _, ok := w.before.Data[key]; return !ok })
	}
	if len(gone) > 0 && !dryRun {
		if err := w.drop(ctx, gone); err != nil {
			return cluster.Outcome{}, err
		}
	}
	out, err := w.whole(ctx, dryRun)
	if err == nil && len(gone) > 0 {
		out.Change = cluster.Changed
		for _, key := range gone {
			out.Fields = append(out.Fields, "data."+key)
		}
	}
	return out, err
}

// whole applies the set as our own. The hash is that of what comes out, keys of
// other managers included, so the server is asked for it first.
func (w *keeping) whole(ctx context.Context, dryRun bool) (cluster.Outcome, error) {
	data := maps.Clone(w.data)
	for _, key := range w.merged() {
		delete(data, key)
	}
	o := w.object(data)
	if w.before != nil && w.before.Annotations[cluster.AnnotationContent] != "" {
		o.SetAnnotations(map[string]string{cluster.AnnotationContent: w.before.Annotations[cluster.AnnotationContent]})
	}
	out, err := w.apply(ctx, o, true)
	if err != nil {
		return out, err
	}
	next, err := typed(out.Object)
	if err != nil {
		return out, fmt.Errorf("read %s: %w", w.what(), err)
	}
	if w.before != nil {
		o.SetAnnotations(map[string]string{cluster.AnnotationContent: cluster.ContentHash(next)})
	} else {
		o.SetAnnotations(nil)
	}
	return w.apply(ctx, o, dryRun)
}

// apply forces only what conflicts with nobody but us.
func (w *keeping) apply(ctx context.Context, o *unstructured.Unstructured, dryRun bool) (cluster.Outcome, error) {
	out, err := w.Client.Apply(ctx, o, cluster.ApplyOptions{DryRun: dryRun, Force: w.Force})
	if e, ok := errors.AsType[*cluster.ConflictError](err); ok && onlyOurs(e.Owners) {
		return w.Client.Apply(ctx, o, cluster.ApplyOptions{DryRun: dryRun, Force: true})
	}
	return out, err
}

func onlyOurs(owners []string) bool {
	return len(owners) > 0 && !slices.ContainsFunc(owners, func(s string) bool { return !slices.Contains(ours, s) })
}

func (w *keeping) object(data map[string][]byte) *unstructured.Unstructured {
	encoded := make(map[string]any, len(data))
	for k, v := range data {
		encoded[k] = base64Of(v)
	}
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "data": encoded, "type": orElse(w.Type, string(corev1.SecretTypeOpaque))}}
	o.SetName(w.Name)
	o.SetNamespace(w.Namespace)
	if len(w.Labels) > 0 {
		o.SetLabels(w.Labels)
	}
	return o
}

// merged are the keys of the set that a merge owns and that differ from it.
func (w *keeping) merged() []string {
	if w.before == nil {
		return nil
	}
	var out []string
	for key := range w.data {
		if slices.Contains(owners(w.before, key), merger) {
			out = append(out, key)
		}
	}
	return out
}

// owners are the field managers of a key.
func owners(s *corev1.Secret, key string) []string {
	var out []string
	for _, m := range s.ManagedFields {
		if m.FieldsV1 == nil || m.Subresource != "" {
			continue
		}
		var fields struct {
			Data map[string]json.RawMessage `json:"f:data"`
		}
		if json.Unmarshal(m.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		if _, owned := fields.Data["f:"+key]; owned {
			out = append(out, m.Manager)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// merge changes keys and keeps the others. A patch takes a key from whoever owns
// it, so owners are looked at first; that what was looked at is what is patched,
// the resource version makes sure.
func (w *keeping) merge(ctx context.Context, dryRun bool) (cluster.Outcome, error) {
	var out cluster.Outcome
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		var err error
		out, err = w.mergeOnce(ctx, dryRun)
		if apierrors.IsConflict(err) {
			var again error
			if w.before, again = w.Clientset().CoreV1().Secrets(w.Namespace).Get(ctx, w.Name, metav1.GetOptions{}); again != nil {
				return fmt.Errorf("read %s: %w", w.what(), w.Explain(again))
			}
		}
		return err
	})
	return out, err
}

func (w *keeping) mergeOnce(ctx context.Context, dryRun bool) (cluster.Outcome, error) {
	next := w.before.DeepCopy()
	if next.Data == nil {
		next.Data = make(map[string][]byte)
	}
	changes := make(map[string]any)
	var foreign cluster.ConflictError
	set := func(key string, value any) {
		changes[key] = value
		for _, o := range owners(w.before, key) {
			if !slices.Contains(ours, o) {
				foreign.Fields, foreign.Owners = append(foreign.Fields, ".data."+key), append(foreign.Owners, o)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(w.data)) {
		if have, ok := next.Data[key]; !ok || string(have) != string(w.data[key]) {
			set(key, base64Of(w.data[key]))
			next.Data[key] = w.data[key]
		}
	}
	for _, key := range w.Remove {
		if _, ok := next.Data[key]; ok {
			set(key, nil)
			delete(next.Data, key)
		}
	}
	if len(foreign.Fields) > 0 && !w.Force {
		foreign.Object = "Secret " + w.Namespace + "/" + w.Name
		slices.Sort(foreign.Owners)
		foreign.Owners = slices.Compact(foreign.Owners)
		return cluster.Outcome{}, &foreign
	}
	hash := cluster.ContentHash(next)
	if len(changes) == 0 && w.before.Annotations[cluster.AnnotationContent] == hash {
		o, err := object(w.before)
		return cluster.Outcome{Change: cluster.Unchanged, Object: o}, err
	}
	return w.patch(ctx, changes, hash, dryRun)
}

func (w *keeping) patch(ctx context.Context, changes map[string]any, hash string, dryRun bool) (cluster.Outcome, error) {
	body, err := json.Marshal(map[string]any{
		"data":     changes,
		"metadata": map[string]any{"resourceVersion": w.before.ResourceVersion, "annotations": map[string]string{cluster.AnnotationContent: hash}},
	})
	if err != nil {
		return cluster.Outcome{}, fmt.Errorf("encode %s: %w", w.what(), err)
	}
	options := metav1.PatchOptions{FieldManager: merger}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	after, err := w.Clientset().CoreV1().Secrets(w.Namespace).Patch(ctx, w.Name, types.MergePatchType, body, options)
	if err != nil {
		return cluster.Outcome{}, w.RefusedSecret(w.Namespace, w.Name, err)
	}
	o, err := object(after)
	if err != nil {
		return cluster.Outcome{}, err
	}
	before, err := object(w.before)
	if err != nil {
		return cluster.Outcome{}, err
	}
	out := cluster.Outcome{Change: cluster.Unchanged, Fields: cluster.Diff(before, o), Object: o}
	if len(out.Fields) > 0 {
		out.Change = cluster.Changed
	}
	return out, nil
}

// drop removes keys that must not be there, whoever they belong to: that is what
// remove says.
func (w *keeping) drop(ctx context.Context, keys []string) error {
	changes := make(map[string]any)
	for _, key := range keys {
		changes[key] = nil
	}
	body, err := json.Marshal(map[string]any{"data": changes})
	if err != nil {
		return fmt.Errorf("encode %s: %w", w.what(), err)
	}
	_, err = w.Clientset().CoreV1().Secrets(w.Namespace).Patch(ctx, w.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: cluster.Manager})
	if err != nil {
		return w.RefusedSecret(w.Namespace, w.Name, err)
	}
	return nil
}

func object(s *corev1.Secret) (*unstructured.Unstructured, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode secret %s: %w", s.Name, err)
	}
	o := &unstructured.Unstructured{Object: map[string]any{}}
	if err := json.Unmarshal(raw, &o.Object); err != nil {
		return nil, fmt.Errorf("decode secret %s: %w", s.Name, err)
	}
	o.SetAPIVersion("v1")
	o.SetKind("Secret")
	return o, nil
}
