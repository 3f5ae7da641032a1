package helm

import (
	"context"
	"fmt"
	"slices"

	"oras.land/oras-go/v2/content"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/manifests"
)

// Discover implements bundle.Discoverer: it renders the chart with the values
// of the definition, in order, and lists the images that the objects name. An
// ignore entry that matches none of them is an error: it hides a typing mistake
// or has outlived what it was written for.
func (s *Source) Discover(ctx context.Context, pin bundle.Pin) ([]bundle.Reference, error) {
	if pin.Kind != bundle.KindChart {
		return nil, nil
	}
	refs, err := s.discover(ctx, pin)
	if err != nil {
		return nil, fmt.Errorf("chart %q: %w", s.chart.Name, err)
	}
	return refs, nil
}

func (s *Source) discover(ctx context.Context, pin bundle.Pin) ([]bundle.Reference, error) {
	c, err := s.chartOf(ctx, pin)
	if err != nil {
		return nil, err
	}
	values, err := s.readValues()
	if err != nil {
		return nil, err
	}
	objects, err := c.Render(ctx, chart.Options{Values: values})
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	var refs []bundle.Reference
	for _, r := range chart.Images(objects) {
		used[r.Image] = true
		if !s.ignores(r.Image) {
			refs = append(refs, bundle.Reference{Image: r.Image, Where: r.Where})
		}
	}
	for _, g := range s.chart.Ignore {
		if !used[g.Image] {
			return nil, &UnusedIgnoreError{Image: g.Image}
		}
	}
	return refs, nil
}

// UnusedIgnoreError says that a chart's ignore list names an image that the
// chart does not name. The cure is to correct or remove the entry.
type UnusedIgnoreError struct {
	Image string
}

func (e *UnusedIgnoreError) Error() string {
	return fmt.Sprintf("ignored image %q is not one that the chart names", e.Image)
}

func (s *Source) ignores(image string) bool {
	return slices.ContainsFunc(s.chart.Ignore, func(g manifests.IgnoredImage) bool { return g.Image == image })
}

// chartOf loads the chart of a pin, which Resolve has usually done.
func (s *Source) chartOf(ctx context.Context, pin bundle.Pin) (*chart.Chart, error) {
	for _, layer := range pin.Blobs {
		if layer.MediaType != chart.MediaTypeArchive {
			continue
		}
		s.mu.Lock()
		c := s.loaded[layer.Digest.String()]
		s.mu.Unlock()
		if c != nil {
			return c, nil
		}
		r, err := s.Open(ctx, pin, layer)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		if layer.Size > chart.MaxArchive {
			return nil, fmt.Errorf("chart archive has %d bytes, the limit is %d", layer.Size, chart.MaxArchive)
		}
		raw, err := content.ReadAll(r, layer)
		if err != nil {
			return nil, err
		}
		return s.load(raw, layer)
	}
	return nil, fmt.Errorf("pin of %q has no chart archive", pin.Name)
}
