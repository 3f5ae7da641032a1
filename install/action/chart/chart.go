// Package chart is the action chart.render: a chart out of the bundle, rendered
// with its carried values and the site's, every image taken from the enclave's
// registry by digest, as files in a directory that kubectl apply -R -f takes.
package chart

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/action/internal/charts"
	"github.com/airlock-project/airlock/manifests"
)

// Codes.
const (
	codeImages = "REN-01"
	codeValues = "REN-02"
	codeAbsent = "REN-03"
	codeRefuse = "REN-04"
)

// Action is chart.render. Its zero value is ready and safe for concurrent use
// with different directories.
type Action struct{}

// arguments are the step's with.
type arguments struct {
	Chart       string                   `json:"chart"`   // the name it is carried under
	Release     string                   `json:"release"` // default: the chart's own name
	Namespace   string                   `json:"namespace"`
	KubeVersion string                   `json:"kube_version"`
	Base        charts.Base              `json:"base"`   // after the carried values
	Values      []map[string]any         `json:"values"` // in order, after the base; a later one wins
	Files       bool                     `json:"files"`  // then the site's values files for no chart in particular
	Map         *manifests.RelocationMap `json:"map"`    // where the images are
	Ignore      []string                 `json:"ignore"` // images left as they are
	Refuse      []charts.Refusal         `json:"refuse"` // what no object may be or hold
	To          string                   `json:"to"`     // directory below the render directory; default: Chart
}

// Codes implements install.Coder.
func (Action) Codes() map[string][]string {
	return map[string][]string{codeImages: {"chart", "images"}, codeValues: {"chart", "reason"}, codeAbsent: {"chart", "have"}, codeRefuse: {"chart", "object", "value", "reason", "fix"}}
}

// Grounds implements install.Grounder: files in one render directory say nothing
// of another, nor those of other values files.
func (Action) Grounds(in install.Input) any {
	dir, err := filepath.Abs(in.Render)
	if err != nil {
		dir = in.Render // no working directory: Apply says so
	}
	return map[string]any{"render": dir, "values": charts.Grounds(in)}
}

// Plan says what would be written. Where the images will be need not be known
// yet.
func (Action) Plan(ctx context.Context, in install.Input) (install.Change, error) {
	return plan(ctx, in.Bundle, in)
}

// Apply renders and writes; what is refused is told first, and nothing is written
// of it. Its outputs are render.dir (an absolute path) and
// render.images (the references in the files); a finding for information names
// the command that applies the files.
func (Action) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	return apply(ctx, in.Bundle, in)
}

func plan(ctx context.Context, b charts.Carrier, in install.Input) (install.Change, error) {
	if _, known := in.With["map"].(map[string]any); !known {
		with := make(map[string]any, len(in.With))
		for k, v := range in.With {
			if k != "map" {
				with[k] = v
			}
		}
		in.With = with
	}
	a, err := decode(in)
	if err != nil {
		return install.Change{}, err
	}
	objects, finding, err := render(ctx, b, a, in.Values)
	if err != nil {
		return install.Change{}, err
	}
	if finding != nil {
		return install.Change{}, errors.New(finding.Detail)
	}
	findings, refused := a.refused(objects)
	if refused {
		return install.Change{}, errors.New(findings[0].Detail)
	}
	c := install.Change{Summary: fmt.Sprintf("render chart %s: %d objects into %s", a.Chart, len(objects), a.To)}
	if a.Map != nil && in.Render != "" {
		if objects, c.Nothing, err = rendered(in.Render, a, objects); err != nil {
			return install.Change{}, err
		}
	}
	for _, ref := range chart.Images(objects) {
		c.Details = append(c.Details, ref.Image+" in "+ref.Where)
	}
	for _, f := range findings {
		c.Details = append(c.Details, "careful: "+f.Detail)
	}
	return c, nil
}

// rendered returns the objects as they would be written, and whether base holds
// exactly them already. Images that the map lacks leave the objects as they are:
// a map of an earlier run may be about to be made again.
func rendered(base string, a arguments, objects []chart.Object) ([]chart.Object, bool, error) {
	moved, finding, err := relocate(objects, a)
	if err != nil {
		return nil, false, err
	}
	if finding != nil {
		return objects, false, nil
	}
	files, err := chart.Files(moved)
	if err != nil {
		return nil, false, err
	}
	same, err := written(base, a.To, files)
	return moved, same, err
}

func decode(in install.Input) (arguments, error) {
	var a arguments
	if err := in.Decode(&a); err != nil {
		return a, err
	}
	if a.Chart == "" {
		return a, errors.New("want chart, the name of a carried chart")
	}
	if a.To == "" {
		a.To = a.Chart
	}
	if strings.Trim(a.To, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" || strings.HasPrefix(a.To, ".") {
		return a, fmt.Errorf("to %q is not one directory name", a.To)
	}
	return a, nil
}

func apply(ctx context.Context, b charts.Carrier, in install.Input) (install.Result, error) {
	a, err := decode(in)
	if err != nil {
		return install.Result{}, err
	}
	if a.Map == nil {
		return install.Result{}, errors.New("want map, the relocation map of the mirrored images")
	}
	if in.Render == "" {
		return install.Result{}, errors.New("no render directory is given")
	}
	objects, finding, err := render(ctx, b, a, in.Values)
	if err != nil {
		return install.Result{}, err
	}
	if finding != nil {
		return install.Result{Findings: []install.Finding{*finding}}, nil
	}
	findings, refused := a.refused(objects)
	if refused {
		return install.Result{Findings: findings}, nil
	}
	objects, finding, err = relocate(objects, a)
	if err != nil {
		return install.Result{}, err
	}
	if finding != nil {
		return install.Result{Findings: []install.Finding{*finding}}, nil
	}
	files, err := chart.Files(objects)
	if err != nil {
		return install.Result{}, err
	}
	dir, changed, err := write(in.Render, a.To, files)
	if err != nil {
		return install.Result{}, fmt.Errorf("write chart %s: %w", a.Chart, err)
	}
	images := []any{}
	for _, ref := range chart.Images(objects) {
		if n := len(images); n == 0 || images[n-1] != ref.Image {
			images = append(images, ref.Image)
		}
	}
	return install.Result{
		Outputs: map[string]any{"render.dir": dir, "render.images": images}, Changed: changed,
		Findings: append(findings, install.Finding{Severity: install.SeverityInfo, Detail: "to apply it: kubectl apply -R -f " + quote(dir)}),
	}, nil
}

// refused holds the objects against what the step refuses. Findings that only
// warn keep nothing from being written.
func (a arguments) refused(objects []chart.Object) (findings []install.Finding, fails bool) {
	for _, r := range charts.Refuse(objects, a.Refuse) {
		detail := fmt.Sprintf("chart %s: %s: %s", a.Chart, r.Object, r.Says)
		if r.Value != "" {
			detail += fmt.Sprintf(": %q", r.Value)
		}
		findings = append(findings, install.Finding{Code: codeRefuse, Severity: r.Severity, Detail: detail, Fields: map[string]string{
			"chart": a.Chart, "object": r.Object, "value": r.Value, "reason": r.Says, "fix": r.Fix,
		}})
		fails = fails || r.Severity == "" || r.Severity == install.SeverityFail
	}
	return findings, fails
}

// quote makes a path one word of a shell's command line.
func quote(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// render loads the chart and its values out of the bundle and renders it.
func render(ctx context.Context, b charts.Carrier, a arguments, site []install.ValuesFile) ([]chart.Object, *install.Finding, error) {
	c, _, err := charts.Load(ctx, b, a.Chart)
	if e, ok := errors.AsType[*charts.AbsentError](err); ok {
		return nil, &install.Finding{Code: codeAbsent, Detail: e.Error(), Fields: map[string]string{"chart": a.Chart, "have": e.Have}}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	values, err := charts.Values(ctx, b, a.Chart, a.Base, a.Values, site, a.Files)
	if _, ok := errors.AsType[*charts.ValuesError](err); ok {
		return nil, &install.Finding{Code: codeValues, Detail: err.Error(), Fields: map[string]string{"chart": a.Chart, "reason": err.Error()}}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	objects, err := c.Render(ctx, chart.Options{ReleaseName: a.Release, Namespace: a.Namespace, KubeVersion: a.KubeVersion, Values: values})
	if _, ok := errors.AsType[*chart.SchemaError](err); ok {
		return nil, &install.Finding{Code: codeValues, Detail: err.Error(), Fields: map[string]string{"chart": a.Chart, "reason": err.Error()}}, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("render chart %s: %w", a.Chart, err)
	}
	if a.Namespace != "" {
		objects = chart.WithNamespace(objects, a.Namespace)
	}
	return objects, nil, nil
}

// relocate points every image at the enclave's registry. An image that was not
// mirrored is a finding.
func relocate(objects []chart.Object, a arguments) ([]chart.Object, *install.Finding, error) {
	out, err := charts.Relocate(objects, a.Map, a.Ignore)
	if e, ok := errors.AsType[*charts.UnknownError](err); ok {
		return nil, &install.Finding{Code: codeImages, Detail: e.Error(), Fields: map[string]string{"chart": a.Chart, "images": e.Images()}}, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("chart %s: %w", a.Chart, err)
	}
	return out, nil, nil
}
