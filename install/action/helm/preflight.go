package helm

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/action/internal/charts"
	"github.com/airlock-project/airlock/install/internal/kube"
	"golang.org/x/sync/errgroup"
	"helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"
)

const (
	// maxRecord is what Helm's record of a release may have, encoded, in bytes. A
	// part of what a Secret takes is kept for what is written into it later: how a
	// hook went, why it failed.
	maxRecord = corev1.MaxSecretSize - 16<<10
	// tries is how many objects are tried at a time, and how many that the server
	// refuses are told.
	tries = 8
)

// sound refuses what could not be installed whatever the cluster is like.
func (p *prepared) sound() error {
	if p.chart.Library() {
		return fmt.Errorf("chart %s is a library for other charts: it installs nothing", p.a.Chart)
	}
	for _, o := range p.crds() {
		if o.Kind() != "CustomResourceDefinition" {
			return &kube.InvalidError{Object: kube.Clean(o.Kind() + " " + o.Name()), Reason: "it lies in the chart's crds and is no CustomResourceDefinition: " + kube.Clean(o.Source)}
		}
	}
	at := make(map[objectKey]string)
	for _, o := range stage(p.objects, isResource) {
		for _, tree := range flat(o.Tree) {
			k := key(tree, p.a.Namespace)
			if first, twice := at[k]; twice && refsOf(tree)[0].Name != "" {
				return &kube.InvalidError{Object: k.name, Reason: fmt.Sprintf("chart %s has it twice: in %s and in %s", p.a.Chart, first, o.Source)}
			}
			at[k] = o.Source
			if err := plainSecret(k.name, tree); err != nil {
				return err
			}
		}
	}
	return nil
}

// plainSecret says which key of a Secret the server could not read. The server
// would say only that there is one: what it says may hold the value.
func plainSecret(name string, tree map[string]any) error {
	if tree["kind"] != "Secret" || tree["apiVersion"] != "v1" {
		return nil
	}
	for _, field := range []string{"data", "stringData"} {
		values, _ := tree[field].(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(values)) {
			text, ok := values[k].(string)
			reason := "it is no text: quote it"
			if ok && field == "data" {
				_, err := base64.StdEncoding.DecodeString(text)
				ok, reason = err == nil, "it is no base64"
			}
			if !ok && values[k] != nil {
				return &kube.InvalidError{Object: name, Fields: []string{kube.Clean(field + "." + k)}, Reason: kube.Clean(fmt.Sprintf("%s.%s: %s", field, k, reason))}
			}
		}
	}
	return nil
}

// fits refuses a release that Helm could not record.
func (p *prepared) fits() error {
	size, err := p.record()
	if err != nil || size <= maxRecord {
		return err
	}
	return &kube.InvalidError{
		Object: fmt.Sprintf("Secret %s/sh.helm.release.v1.%s", p.a.Namespace, p.a.Release),
		Reason: fmt.Sprintf("Helm keeps a release with its chart in one Secret, and that of chart %s would have %d bytes, more than %d: make the chart or its values smaller", p.a.Chart, size, maxRecord),
	}
}

// record is how large Helm's record of the release will be: the release as JSON,
// in gzip, in base64.
func (p *prepared) record() (int, error) {
	h, err := p.helmChart()
	if err != nil {
		return 0, err
	}
	manifest, err := charts.Join(stage(p.objects, isResource))
	if err != nil {
		return 0, err
	}
	r := release.Release{Name: p.a.Release, Namespace: p.a.Namespace, Chart: h, Config: p.values, Manifest: manifest, Info: &release.Info{Notes: p.notes}}
	for _, o := range stage(p.objects, isHook) {
		text, err := charts.Join([]chart.Object{o})
		if err != nil {
			return 0, err
		}
		r.Hooks = append(r.Hooks, &release.Hook{Name: o.Name(), Kind: o.Kind(), Path: o.Source, Manifest: text})
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(json.NewEncoder(z).Encode(r), z.Close()); err != nil {
		return 0, fmt.Errorf("encode the record of release %s: %w", p.a.Release, err)
	}
	return base64.StdEncoding.EncodedLen(out.Len()), nil
}

// trial is an object as it is tried before anything is changed.
type trial struct {
	object chart.Object
	before map[string]any // as the deployed revision has it; nil if it does not
	hook   bool
	runs   bool // a hook of what is about to be done
	goes   bool // what is there is removed, and waited for, first
}

// refused collects what keeps a release from being installed.
type refused []install.Finding

func (r refused) Error() string {
	var list []string
	for _, f := range r {
		list = append(list, f.Detail)
	}
	return strings.Join(list, "; ")
}

// preflight asks the server whether it would take every object, and whose those
// are that are there already. Nothing is changed. What the chart itself makes
// possible, such as the kind of an object, cannot be tried before.
func (j *job) preflight(ctx context.Context) error {
	if err := j.p.fits(); err != nil {
		return err
	}
	list, err := j.trials()
	if err != nil {
		return err
	}
	errs := make([]error, len(list))
	var g errgroup.Group
	g.SetLimit(tries)
	for i, t := range list {
		g.Go(func() error { errs[i] = j.s.cluster.try(ctx, t, j.a.Release); return nil })
	}
	_ = g.Wait() // every error is in errs
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var out refused
	for i, err := range errs {
		if err == nil || j.brought(list[i], err) {
			continue
		}
		f, ok := j.finding(err)
		if !ok {
			return err
		}
		if out = append(out, f); len(out) == tries {
			break
		}
	}
	if len(out) > 0 {
		return out
	}
	return nil
}

// finding is a refusal under its code.
func (j *job) finding(err error) (install.Finding, bool) {
	f, ok := kube.Access{}.Finding(err, map[string]string{"namespace": j.a.Namespace})
	if t, own := errors.AsType[*trouble](err); own {
		f, ok = t.Finding, true
	}
	f.Detail = j.p.hidden(f.Detail)
	for k, v := range f.Fields {
		f.Fields[k] = j.p.hidden(v)
	}
	return f, ok
}

// trials are the objects of the release, lists taken apart.
func (j *job) trials() ([]trial, error) {
	old := make(keyed)
	if r := j.d.current(); r != nil && !j.d.back {
		resources, _, err := recorded(r)
		if err != nil {
			return nil, err
		}
		old = index(resources, j.a.Namespace)
	}
	var out []trial
	for _, o := range stage(j.p.objects, func(s chart.Stage) bool { return s != chart.StageCRD }) {
		if isResource(o.Stage) && o.Kind() == kindCRD {
			continue // as those of the crds directory, see applyCRDs
		}
		for _, tree := range flat(o.Tree) {
			single := chart.Object{Source: o.Source, Stage: o.Stage, Tree: tree}
			t := trial{object: chart.WithNamespace([]chart.Object{single}, j.a.Namespace)[0], hook: isHook(o.Stage), goes: j.d.clear}
			if t.hook {
				t.runs = j.runs(o)
			} else {
				t.before = old[key(tree, j.a.Namespace)].Tree
			}
			out = append(out, t)
		}
	}
	return out, nil
}

// runs says whether a hook is one of what is about to be done.
func (j *job) runs(o chart.Object) bool {
	event := "install"
	if j.d.mode == modeUpgrade {
		event = "upgrade"
	}
	return slices.ContainsFunc(strings.Split(annotation(o, helmHook), ","), func(s string) bool {
		s = strings.ToLower(strings.TrimSpace(s))
		return s == "pre-"+event || s == "post-"+event
	})
}

// brought says whether an object was refused for what the release will bring: its
// kind, or its namespace.
func (j *job) brought(t trial, err error) bool {
	if e, ok := errors.AsType[*kube.TerminatingError](err); ok && e.Missing {
		return e.Namespace == j.a.Namespace && j.create || slices.ContainsFunc(j.p.objects, func(o chart.Object) bool {
			return o.Kind() == "Namespace" && o.Name() == e.Namespace
		})
	}
	if _, ok := errors.AsType[*kube.UnknownKindError](err); !ok {
		return false
	}
	// A hook may come after what makes its kind known; Helm needs the kind of
	// everything else before it makes the first.
	if t.hook {
		return true
	}
	for _, o := range slices.Concat(j.p.crds(), j.p.types()) {
		if slices.Contains(served(o), t.object.APIVersion()+"/"+t.object.Kind()) {
			return true
		}
	}
	return false
}
