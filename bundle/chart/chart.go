// Package chart is the only place that loads, renders and packages Helm charts.
//
// A chart comes from outside, so it is read within limits and never unpacked to
// disk. Rendering needs no cluster and no network: lookup finds nothing, host
// names do not resolve, remote references of a values schema are not followed.
//
// [Images] and [Relocate] share one walk over the rendered objects: what the
// first lists is exactly what the second rewrites, so a reference cannot be
// carried and then be forgotten on its way into the cluster.
//
// Why Helm's engine and not its action package: action brings the Kubernetes
// clients and a release store, neither of which has a part in reading a chart.
package chart

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
)

// Limits on a chart. Those of files and of the whole are Helm's own: a chart
// beyond them could not be installed anyway.
const (
	// MaxArchive bounds a .tgz, and what all of it holds uncompressed, vendored
	// subcharts included.
	MaxArchive = 100 << 20
	// MaxFile bounds one file of a chart and one values file.
	MaxFile = 5 << 20
	// MaxEntries bounds the tar entries of a chart, subcharts included; the
	// largest public umbrella charts have about 3,000.
	MaxEntries = 20_000
	// MaxDepth bounds how deep charts nest; nothing real goes beyond four.
	MaxDepth = 8
	// MaxPath bounds a file name in a chart.
	MaxPath = 1024
	// MaxRender bounds what rendering may yield, in bytes.
	MaxRender = 64 << 20
	// MaxObjects bounds the objects rendered, so that four digits number them.
	MaxObjects = 9999
	// MaxRenderTime bounds rendering, in addition to the caller's context.
	MaxRenderTime = 2 * time.Minute
	// MaxMemory bounds, in bytes, by how much the process may grow while a chart
	// is rendered: a template's loops and texts know no limit.
	MaxMemory = 2 << 30
)

// Media types of a chart as an OCI artifact, as Helm writes them.
const (
	MediaTypeConfig     = "application/vnd.cncf.helm.config.v1+json"
	MediaTypeArchive    = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	MediaTypeProvenance = "application/vnd.cncf.helm.chart.provenance.v1.prov"
)

// The artifact that carries a chart's values files: one layer per file, in the
// order in which they are merged, each with a title.
const (
	ArtifactTypeValues = "application/vnd.airlock.values.v1"
	MediaTypeValues    = "application/yaml"
)

// Chart is a loaded chart. It is immutable and safe for concurrent use.
type Chart struct {
	tree *tree
	meta *helmchart.Metadata
}

// Name is the chart's name from Chart.yaml: one path segment, never empty.
func (c *Chart) Name() string { return c.meta.Name }

// Version is the chart's version from Chart.yaml, a semantic version.
func (c *Chart) Version() string { return c.meta.Version }

// AppVersion is the version of what the chart installs; it may be empty.
func (c *Chart) AppVersion() string { return c.meta.AppVersion }

// Library says whether the chart is for use by others and installs nothing itself.
func (c *Chart) Library() bool { return c.meta.Type == "library" }

// Timed says whether a template may print the time, so that rendering again later
// yields something else.
func (c *Chart) Timed() bool { return c.tree.timed() }

var clock = regexp.MustCompile(`\b(now|date)`)

func (t *tree) timed() bool {
	return slices.ContainsFunc(t.files, func(f *loader.BufferedFile) bool {
		return strings.HasPrefix(f.Name, "templates/") && clock.Match(f.Data)
	}) || slices.ContainsFunc(t.subs, (*tree).timed)
}

// Tag is the version as an OCI tag, the way Helm writes it: + becomes _.
func (c *Chart) Tag() string { return strings.ReplaceAll(c.meta.Version, "+", "_") }

// Config is the config blob that helm push makes: the metadata as JSON.
func (c *Chart) Config() ([]byte, error) {
	b, err := json.Marshal(c.meta)
	if err != nil {
		return nil, fmt.Errorf("encode metadata of chart %q: %w", c.Name(), err)
	}
	return b, nil
}

// Annotations are the manifest annotations that helm push makes, with created
// in place of the clock.
func (c *Chart) Annotations(created time.Time) map[string]string {
	m := c.meta
	out := map[string]string{}
	add := func(key, value string) {
		if strings.TrimSpace(value) != "" {
			out[key] = value
		}
	}
	add(ocispec.AnnotationDescription, m.Description)
	add(ocispec.AnnotationTitle, m.Name)
	add(ocispec.AnnotationVersion, m.Version)
	add(ocispec.AnnotationURL, m.Home)
	add(ocispec.AnnotationCreated, created.UTC().Format(time.RFC3339))
	if len(m.Sources) > 0 {
		add(ocispec.AnnotationSource, m.Sources[0])
	}
	add(ocispec.AnnotationAuthors, authors(m.Maintainers))
	for k, v := range m.Annotations {
		if k != ocispec.AnnotationVersion && k != ocispec.AnnotationTitle {
			out[k] = v
		}
	}
	return out
}

func authors(maintainers []*helmchart.Maintainer) string {
	var list []string
	for _, m := range maintainers {
		s := m.Name
		if m.Email != "" {
			s += " (" + m.Email + ")"
		}
		list = append(list, s)
	}
	return strings.Join(list, ", ")
}
