package helm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/action/internal/charts"
	"github.com/opencontainers/go-digest"
	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
)

// Ref names an object in a cluster.
type Ref struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"` // "" for what has none
	Name       string `json:"name"`
}

func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// Rendered is what a release would consist of.
type Rendered struct {
	Release   string
	Namespace string
	Objects   []chart.Object // in the order of installation
}

// prepared is a chart with all that will be done to it, before anything is.
type prepared struct {
	a       arguments
	chart   *chart.Chart
	digest  digest.Digest  // of its archive
	values  map[string]any // what is given beside the chart's own
	objects []chart.Object // relocated where the map is known
	again   []chart.Object // the same, rendered a second time: what differs is random
	notes   string
	unknown []string // objects that Helm leaves out: their hook is unknown
}

// prepare reads, renders and relocates. Helm will render once more by itself;
// this one is bounded, checks the values against the schema without fetching
// anything, and tells of images that are not there before anything has changed.
// What the checklist explains is a *trouble.
func prepare(ctx context.Context, b charts.Carrier, a arguments, site []install.ValuesFile, in *chart.Cluster) (*prepared, error) {
	p := &prepared{a: a}
	var err error
	p.chart, p.digest, err = charts.Load(ctx, b, a.Chart)
	if e, ok := errors.AsType[*charts.AbsentError](err); ok {
		return nil, &trouble{install.Finding{Code: codeAbsent, Detail: e.Error(), Fields: map[string]string{"chart": a.Chart, "have": e.Have}}}
	}
	if err != nil {
		return nil, err
	}
	files, err := charts.Values(ctx, b, a.Chart, a.Base, a.Values, site, a.Files)
	if _, ok := errors.AsType[*charts.ValuesError](err); ok {
		return nil, p.badValues(err)
	}
	if err != nil {
		return nil, err
	}
	if p.values, err = chart.MergeValues(files); err != nil {
		return nil, p.badValues(err)
	}
	o := chart.Options{ReleaseName: a.Release, Namespace: a.Namespace, Values: files, Cluster: in}
	if in != nil {
		known := *in
		if known.Capabilities, err = p.capabilities(in.Capabilities); err != nil {
			return nil, err
		}
		o.Cluster = &known
	}
	for _, to := range []*[]chart.Object{&p.objects, &p.again} {
		if to == &p.again && p.chart.Timed() {
			if err := nextSecond(ctx); err != nil {
				return nil, err
			}
		}
		out, err := p.chart.RenderAll(ctx, o)
		if _, ok := errors.AsType[*chart.SchemaError](err); ok {
			return nil, p.badValues(err)
		}
		if err != nil {
			return nil, err
		}
		p.notes, p.unknown = out.Notes, out.Unknown
		if *to, err = p.relocate(out.Objects); err != nil {
			return nil, err
		}
	}
	return p, p.sound()
}

// nextSecond waits until a template that prints the time prints another: what it
// prints is no change.
func nextSecond(ctx context.Context) error {
	now := time.Now()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(now.Truncate(time.Second).Add(time.Second).Sub(now)):
		return nil
	}
}

func (p *prepared) badValues(err error) error {
	return &trouble{install.Finding{Code: codeValues, Detail: err.Error(), Fields: map[string]string{"chart": p.a.Chart, "reason": err.Error()}}}
}

// relocate points images at the enclave's registry, if it is known where they are.
func (p *prepared) relocate(objects []chart.Object) ([]chart.Object, error) {
	if p.a.Map == nil {
		return objects, nil
	}
	out, err := charts.Relocate(objects, p.a.Map, p.a.Ignore)
	if e, ok := errors.AsType[*charts.UnknownError](err); ok {
		return nil, &trouble{install.Finding{Code: codeImages, Detail: "chart " + p.a.Chart + ": " + e.Error(), Fields: map[string]string{
			"chart": p.a.Chart, "images": e.Images(), "image": e.References[0].Image, "reason": e.Error(),
		}}}
	}
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", p.a.Chart, err)
	}
	return out, nil
}

// Run implements Helm's post-renderer. It never sees hooks: see recorder.
func (p *prepared) Run(manifest *bytes.Buffer) (*bytes.Buffer, error) {
	out, err := charts.Stream(manifest.String(), p.a.Map, p.a.Ignore)
	if err != nil {
		return nil, err
	}
	return bytes.NewBufferString(out), nil
}

// capabilities adds the types that the chart brings as CRDs to what the cluster
// can do: when the chart is installed they will be there.
func (p *prepared) capabilities(have *chartutil.Capabilities) (*chartutil.Capabilities, error) {
	out := *have
	out.APIVersions = slices.Clone(have.APIVersions)
	h, err := p.chart.Helm()
	if err != nil {
		return nil, err
	}
	for _, crd := range h.CRDObjects() {
		objects, err := chart.Parse(string(crd.File.Data))
		if err != nil {
			return nil, fmt.Errorf("chart %s: %s: %w", p.a.Chart, crd.Filename, err)
		}
		for _, o := range objects {
			out.APIVersions = append(out.APIVersions, served(o)...)
		}
	}
	return &out, nil
}

// served lists what a CustomResourceDefinition adds to a cluster's versions.
func served(o chart.Object) []string {
	spec, _ := o.Tree["spec"].(map[string]any)
	names, _ := spec["names"].(map[string]any)
	group, _ := spec["group"].(string)
	kind, _ := names["kind"].(string)
	versions, _ := spec["versions"].([]any)
	var out []string
	for _, v := range versions {
		if m, ok := v.(map[string]any); ok && m["served"] == true {
			name, _ := m["name"].(string)
			out = append(out, group+"/"+name, group+"/"+name+"/"+kind)
		}
	}
	return out
}

// helmChart is a fresh copy for Helm, which changes it.
func (p *prepared) helmChart() (*helmchart.Chart, error) { return p.chart.Helm() }

// stage returns the objects of which keep says so.
func stage(objects []chart.Object, keep func(chart.Stage) bool) []chart.Object {
	var out []chart.Object
	for _, o := range objects {
		if keep(o.Stage) {
			out = append(out, o)
		}
	}
	return out
}

func (p *prepared) crds() []chart.Object {
	return stage(p.objects, func(s chart.Stage) bool { return s == chart.StageCRD })
}

func isResource(s chart.Stage) bool { return s == chart.StageResource }

func isHook(s chart.Stage) bool { return s != chart.StageResource && s != chart.StageCRD }

// placed are the objects of an installation with their namespaces.
func (p *prepared) placed() []chart.Object {
	objects := stage(p.objects, func(s chart.Stage) bool { return s != chart.StageOther })
	return chart.WithNamespace(objects, p.a.Namespace)
}

// refs names objects that a release owns, lists taken apart.
func (p *prepared) refs(objects []chart.Object) []Ref {
	var out []Ref
	for _, o := range chart.WithNamespace(objects, p.a.Namespace) {
		out = append(out, refsOf(o.Tree)...)
	}
	return out
}

func refsOf(tree map[string]any) []Ref {
	text := func(m map[string]any, k string) string { s, _ := m[k].(string); return s }
	if items, ok := tree["items"].([]any); ok && strings.HasSuffix(text(tree, "kind"), "List") {
		var out []Ref
		for _, v := range items {
			if m, ok := v.(map[string]any); ok {
				out = append(out, refsOf(m)...)
			}
		}
		return out
	}
	meta, _ := tree["metadata"].(map[string]any)
	return []Ref{{APIVersion: text(tree, "apiVersion"), Kind: text(tree, "kind"), Namespace: text(meta, "namespace"), Name: text(meta, "name")}}
}

// imagesOf are the references of objects, each once, sorted.
func imagesOf(objects []chart.Object) []any {
	var list []string
	for _, ref := range chart.Images(objects) {
		list = append(list, ref.Image)
	}
	slices.Sort(list)
	out := []any{}
	for _, image := range slices.Compact(list) {
		out = append(out, image)
	}
	return out
}
