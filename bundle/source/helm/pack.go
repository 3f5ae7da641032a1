package helm

import (
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"regexp"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/chart"
)

// maxValues bounds the values files of one chart.
const maxValues = 64

// repositoryName is one path component of distribution-spec's <name>.
var repositoryName = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$`)

// pack makes the artifact that helm push makes of a chart archive.
func (s *Source) pack(raw []byte, origin string) (bundle.Pin, string, error) {
	layer, err := s.spool.AddBytes(chart.MediaTypeArchive, raw)
	if err != nil {
		return bundle.Pin{}, "", err
	}
	c, err := s.load(raw, layer)
	if err != nil {
		return bundle.Pin{}, "", err
	}
	if !repositoryName.MatchString(c.Name()) || len(c.Name()) > 128 {
		return bundle.Pin{}, "", fmt.Errorf("chart name %q cannot name a repository: lower case letters and digits with . _ - between them are allowed", c.Name())
	}
	if len(c.Tag()) > 128 {
		return bundle.Pin{}, "", fmt.Errorf("chart version %q is longer than a tag may be", c.Version())
	}
	meta, err := c.Config()
	if err != nil {
		return bundle.Pin{}, "", err
	}
	config, err := s.spool.AddBytes(chart.MediaTypeConfig, meta)
	if err != nil {
		return bundle.Pin{}, "", err
	}
	// Helm writes no mediaType into the manifest, and the digest has to be the
	// one that helm push reports.
	m, err := bundle.PackManifest(s.spool, ocispec.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		Config:      config,
		Layers:      []bundle.Descriptor{layer},
		Annotations: c.Annotations(s.created),
	})
	if err != nil {
		return bundle.Pin{}, "", err
	}
	m.MediaType = ocispec.MediaTypeImageManifest
	m.Ref = "charts/" + c.Name() + ":" + c.Tag()
	return bundle.Pin{
		Item:      bundle.Item{Kind: bundle.KindChart, Name: s.chart.Name, Ref: m.Ref},
		Origin:    origin,
		Manifests: []bundle.Manifest{m},
		Blobs:     []bundle.Descriptor{config, layer},
	}, c.Tag(), nil
}

// packValues makes the item that carries the values files, one layer each, in
// the order in which they are merged.
func (s *Source) packValues(version string) (bundle.Pin, error) {
	files, err := s.readValues()
	if err != nil {
		return bundle.Pin{}, err
	}
	var layers, blobs []bundle.Descriptor
	seen := map[digest.Digest]bool{}
	for i, f := range files {
		layer, err := s.spool.AddBytes(chart.MediaTypeValues, f.Data)
		if err != nil {
			return bundle.Pin{}, err
		}
		if !seen[layer.Digest] {
			seen[layer.Digest] = true
			blobs = append(blobs, layer)
		}
		// Numbered, because files in two directories may share a name and tools
		// unpack layers by title.
		layer.Annotations = map[string]string{ocispec.AnnotationTitle: fmt.Sprintf("%02d-%s", i+1, path.Base(f.Name))}
		layers = append(layers, layer)
	}
	m, err := bundle.PackArtifact(s.spool, chart.ArtifactTypeValues, bundle.Descriptor{}, layers, map[string]string{
		ocispec.AnnotationTitle:   "values-" + s.chart.Name,
		ocispec.AnnotationVersion: version,
	})
	if err != nil {
		return bundle.Pin{}, err
	}
	m.Ref = "values/" + s.chart.Name + ":" + version
	return bundle.Pin{
		Item:      bundle.Item{Kind: bundle.KindFile, Name: "values-" + s.chart.Name, Ref: m.Ref},
		Origin:    s.Origin() + " values",
		Manifests: []bundle.Manifest{m},
		Blobs:     append([]bundle.Descriptor{bundle.EmptyConfig()}, blobs...),
	}, nil
}

// readValues reads the values files of the definition, in order.
func (s *Source) readValues() ([]chart.ValuesFile, error) {
	if len(s.chart.Values) > maxValues {
		return nil, fmt.Errorf("%d values files, the limit is %d", len(s.chart.Values), maxValues)
	}
	var files []chart.ValuesFile
	for _, name := range s.chart.Values {
		p := filepath.FromSlash(name)
		if !filepath.IsAbs(p) {
			p = filepath.Join(s.dir, p)
		}
		data, err := readFile(p, chart.MaxFile)
		if err != nil {
			return nil, fmt.Errorf("values file %q: %w", name, err)
		}
		files = append(files, chart.ValuesFile{Name: filepath.ToSlash(name), Data: data})
	}
	return files, nil
}

// parseManifest reads a chart's manifest and says what is wrong with it.
func parseManifest(raw []byte) (ocispec.Manifest, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, fmt.Errorf("parse manifest: %w", err)
	}
	if m.Config.MediaType != chart.MediaTypeConfig {
		return m, fmt.Errorf("not a Helm chart: its config is %q, not %q", m.Config.MediaType, chart.MediaTypeConfig)
	}
	if len(m.Layers) > maxLayers {
		return m, fmt.Errorf("not a Helm chart: it has %d layers", len(m.Layers))
	}
	if _, err := archiveLayer(m); err != nil {
		return m, err
	}
	return m, nil
}

// maxLayers bounds the layers of a chart's manifest: archive and provenance,
// and room for what Helm may add.
const maxLayers = 16

func archiveLayer(m ocispec.Manifest) (bundle.Descriptor, error) {
	for _, l := range m.Layers {
		if l.MediaType == chart.MediaTypeArchive {
			return l, nil
		}
	}
	return bundle.Descriptor{}, fmt.Errorf("not a Helm chart: it has no layer of type %q", chart.MediaTypeArchive)
}
