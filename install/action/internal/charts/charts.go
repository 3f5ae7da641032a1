// Package charts reads charts and their values out of a verified bundle and
// points what they install at the enclave's registry. Every step that renders or
// installs a chart does it through this package, so that all of them see the
// same objects.
package charts

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Carrier is what is read of a *verify.Bundle.
type Carrier interface {
	Items() iter.Seq2[bundle.Entry, error]
	Manifest(d digest.Digest) (raw []byte, desc bundle.Descriptor, ok bool)
	ReadBlob(ctx context.Context, desc bundle.Descriptor) ([]byte, error)
	Fetch(ctx context.Context, desc bundle.Descriptor) (io.ReadCloser, error)
}

// AbsentError says that a bundle does not carry a chart.
type AbsentError struct {
	Chart string
	Have  string // the names it carries, "none" if there are none
}

func (e *AbsentError) Error() string {
	return fmt.Sprintf("the bundle carries no chart %q; it carries %s", e.Chart, e.Have)
}

// Load reads the chart that is carried under a name, with the digest of its
// archive. Without one the error is an *AbsentError.
func Load(ctx context.Context, b Carrier, name string) (*chart.Chart, digest.Digest, error) {
	entries, err := roots(b, bundle.KindChart)
	if err != nil {
		return nil, "", err
	}
	var have []string
	for _, e := range entries {
		if e.Name != name {
			have = append(have, e.Name)
			continue
		}
		m, err := manifestOf(b, e)
		if err != nil {
			return nil, "", err
		}
		for _, l := range m.Layers {
			if l.MediaType == chart.MediaTypeArchive {
				c, err := loadLayer(ctx, b, name, l)
				return c, l.Digest, err
			}
		}
		return nil, "", fmt.Errorf("chart %s: its manifest has no layer of type %s", name, chart.MediaTypeArchive)
	}
	return nil, "", &AbsentError{Chart: name, Have: cmp.Or(strings.Join(have, ", "), "none")}
}

func loadLayer(ctx context.Context, b Carrier, name string, layer bundle.Descriptor) (*chart.Chart, error) {
	rc, err := b.Fetch(ctx, layer)
	if err != nil {
		return nil, fmt.Errorf("read chart %s: %w", name, err)
	}
	defer rc.Close()
	c, err := chart.Load(rc)
	if err != nil {
		return nil, fmt.Errorf("load chart %s: %w", name, err)
	}
	return c, nil
}

// Values lists what a chart is rendered with, in the order in which it is
// merged, a later one wins: what the bundle carries for it, what another tool
// made for the site, what the step says, and last what the site gave on the
// command line: files for this chart by name, and, where main is set, those for
// no chart in particular. A base that cannot be read is a *ValuesError.
func Values(ctx context.Context, b Carrier, name string, base Base, step []map[string]any, site []install.ValuesFile, main bool) ([]chart.ValuesFile, error) {
	out, err := carried(ctx, b, name)
	if err != nil {
		return nil, err
	}
	made, err := base.values()
	if err != nil {
		return nil, err
	}
	out = append(out, made...)
	for i, v := range step {
		own, err := json.Marshal(v) // JSON is YAML
		if err != nil {
			return nil, fmt.Errorf("encode values: %w", err)
		}
		out = append(out, chart.ValuesFile{Name: fmt.Sprintf("values[%d] of the checklist", i), Data: own})
	}
	for _, f := range site {
		if f.Chart == name || f.Chart == "" && main {
			out = append(out, chart.ValuesFile{Name: f.Name, Data: f.Data})
		}
	}
	return out, nil
}

// Grounds says what of the site's values files a step rests on, for
// install.Grounder: their digests, never their content. These are the files that
// [Values] would take. An argument that is only known later (${…}) may name any
// chart, and may ask for the files of none.
func Grounds(in install.Input) []string {
	name, _ := in.With["chart"].(string)
	files, plain := in.With["files"].(bool)
	main := files || !plain && in.With["files"] != nil
	out := []string{}
	for _, f := range in.Values {
		if f.Chart == "" && main || f.Chart != "" && (f.Chart == name || strings.Contains(name, "${")) {
			out = append(out, f.Chart+"="+digest.FromBytes(f.Data).String())
		}
	}
	return out
}

// roots lists the carried items of a kind.
func roots(b Carrier, kind string) ([]bundle.Entry, error) {
	var out []bundle.Entry
	for e, err := range b.Items() {
		if err != nil {
			return nil, fmt.Errorf("list bundle: %w", err)
		}
		if e.Kind == kind && e.Role == bundle.RoleRoot {
			out = append(out, e)
		}
	}
	return out, nil
}

func manifestOf(b Carrier, e bundle.Entry) (ocispec.Manifest, error) {
	var m ocispec.Manifest
	raw, _, ok := b.Manifest(e.Digest)
	if !ok {
		return m, fmt.Errorf("%s %s: manifest %s is not carried", e.Kind, e.Name, e.Digest)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, fmt.Errorf("%s %s: decode manifest: %w", e.Kind, e.Name, err)
	}
	return m, nil
}

// carried reads the values files that the bundle carries for a chart, in the
// order in which they were merged when its images were found.
func carried(ctx context.Context, b Carrier, name string) ([]chart.ValuesFile, error) {
	entries, err := roots(b, bundle.KindFile)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Name != "values-"+name {
			continue
		}
		m, err := manifestOf(b, e)
		if err != nil {
			return nil, err
		}
		if m.ArtifactType != chart.ArtifactTypeValues {
			continue // a file that happens to have the name
		}
		var out []chart.ValuesFile
		for _, l := range m.Layers {
			data, err := b.ReadBlob(ctx, l)
			if err != nil {
				return nil, fmt.Errorf("read values of chart %s: %w", name, err)
			}
			out = append(out, chart.ValuesFile{Name: l.Annotations[ocispec.AnnotationTitle], Data: data})
		}
		return out, nil
	}
	return nil, nil
}
