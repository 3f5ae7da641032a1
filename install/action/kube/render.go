package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Objects implements install.Renderer. An object of a kind that only the cluster
// knows has to name its namespace.
func (Apply) Objects(_ context.Context, in install.Input) ([]install.Manifest, error) {
	var a applyArguments
	if err := in.Decode(&a); err != nil {
		return nil, err
	}
	list, err := gather(a, in.Site)
	if err != nil {
		return nil, err
	}
	objects := make([]chart.Object, len(list))
	for i, o := range list {
		objects[i] = chart.Object{Tree: o.Object}
	}
	var out []install.Manifest
	for _, o := range chart.WithNamespace(objects, orElse(a.Namespace, metav1.NamespaceDefault)) {
		out = append(out, install.Manifest{Tree: o.Tree})
	}
	return out, nil
}

// Held implements install.Renderer.
func (Apply) Held(ctx context.Context, in install.Input, want []install.Manifest) (install.Holding, error) {
	var a applyArguments
	if err := in.Decode(&a); err != nil {
		return install.Holding{}, err
	}
	c, err := a.Open(ctx)
	if err == nil {
		var waits []string
		if waits, err = c.Held(ctx, want, a.Namespace); err == nil {
			return install.Holding{Waits: waits}, nil
		}
	}
	res, err := a.fail(err, "")
	return install.Holding{Result: res}, err
}

// Objects implements install.Renderer. With merge and remove it is a part of a
// Secret that another step makes.
func (Secret) Objects(_ context.Context, in install.Input) ([]install.Manifest, error) {
	w, err := given(in)
	if err != nil {
		return nil, err
	}
	w.before = nil
	if !w.Merge {
		if w.check(); len(w.findings) > 0 {
			return nil, errors.New(w.findings[0].Detail)
		}
		return []install.Manifest{{Tree: w.object(w.data).Object}}, nil
	}
	if len(w.findings) > 0 {
		return nil, errors.New(w.findings[0].Detail)
	}
	data := make(map[string]any)
	for k, v := range w.data {
		data[k] = base64Of(v)
	}
	for _, k := range w.Remove {
		data[k] = nil
	}
	return []install.Manifest{{Patch: true, Tree: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": w.Name, "namespace": w.Namespace}, "data": data,
	}}}, nil
}

// given reads the arguments and asks no cluster.
func given(in install.Input) (*keeping, error) {
	w := &keeping{}
	if err := in.Decode(&w.secretArguments); err != nil {
		return nil, err
	}
	if w.Namespace == "" || w.Name == "" {
		return nil, errors.New("want namespace and name of a secret")
	}
	return w, w.read(in.Site)
}

// Held implements install.Renderer. Its output is that of Apply.
func (Secret) Held(ctx context.Context, in install.Input, want []install.Manifest) (install.Holding, error) {
	w, err := beginSecret(ctx, in)
	if err != nil {
		res, err := w.failed(err)
		return install.Holding{Result: res}, err
	}
	if len(w.findings) > 0 && (!w.Merge || w.before != nil) {
		return install.Holding{Result: install.Result{Findings: w.findings}}, nil
	}
	name := "Secret " + w.Namespace + "/" + w.Name
	if w.before == nil {
		return install.Holding{Waits: []string{name}}, nil
	}
	if w.Merge {
		return install.Holding{Waits: w.differing(name)}, nil
	}
	for _, m := range want {
		for k, v := range m.Marked() {
			if w.before.Annotations[k] != v {
				return install.Holding{Waits: []string{name}}, nil
			}
		}
	}
	return install.Holding{Result: install.Result{Outputs: map[string]any{OutputOf(w.Name): cluster.ContentHash(w.before)}}}, nil
}

// differing names the Secret and the keys that are not as given.
func (w *keeping) differing(name string) []string {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(w.data)) {
		if have, ok := w.before.Data[key]; !ok || string(have) != string(w.data[key]) {
			keys = append(keys, key)
		}
	}
	for _, key := range w.Remove {
		if _, ok := w.before.Data[key]; ok {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s (%s)", name, strings.Join(keys, ", "))}
}

// Objects implements install.Renderer: a restart is no object. Whoever may
// change the cluster restarts.
func (Restart) Objects(_ context.Context, in install.Input) ([]install.Manifest, error) {
	var a restartArguments
	return nil, in.Decode(&a)
}

// Held implements install.Renderer: it waits for pods that started with the
// secrets as they are.
func (Restart) Held(ctx context.Context, in install.Input, _ []install.Manifest) (install.Holding, error) {
	w, err := beginRestart(ctx, in)
	if err != nil {
		res, err := w.failed(err)
		return install.Holding{Result: res}, err
	}
	var h install.Holding
	list, missing, err := w.survey(ctx)
	if err != nil {
		h.Result, err = w.failed(err)
		return h, err
	}
	for _, name := range missing {
		h.Waits = append(h.Waits, "Deployment "+w.Namespace+"/"+name)
	}
	for _, d := range list {
		if d.reason != "" {
			h.Waits = append(h.Waits, fmt.Sprintf("Deployment %s/%s (to be restarted: %s)", w.Namespace, d.name, d.reason))
		}
	}
	return h, nil
}
