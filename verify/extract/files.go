package extract

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/airlock-project/airlock/verify"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of the layers of a chart (Helm, "Use OCI-based registries"). Said
// here again because package chart brings Helm, which verify must not reach.
const (
	mediaTypeChart      = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	mediaTypeProvenance = "application/vnd.cncf.helm.chart.provenance.v1.prov"
)

// output is one layer and the name it gets.
type output struct {
	layer bundle.Descriptor
	name  string
	meta  artifact.Meta // of a packed file or directory
}

// planFiles plans an artifact as one file or directory for each layer. What all
// of them will have on disk is promised by signed sizes and checked against the
// limits here; that nothing exceeds its promise is checked while it is written.
func planFiles(b *verify.Bundle, e bundle.Entry, l limits) (writer, error) {
	n, err := node(b, e)
	if err != nil {
		return nil, err
	}
	switch {
	case len(n.Layers) == 0:
		return nil, fmt.Errorf("%s %q has no layers: there is nothing to write", e.Kind, e.Ref)
	case len(n.Layers) > l.layers:
		return nil, fmt.Errorf("%s %q has %d layers, at most %d are written: %w", e.Kind, e.Ref, len(n.Layers), l.layers, artifact.ErrTooLarge)
	}
	outputs, err := planLayers(e, n.Layers, l.unpacked)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", e.Kind, e.Ref, err)
	}
	return func(ctx context.Context, root *os.Root) ([]string, error) {
		var names []string
		for _, o := range outputs {
			if err := o.write(ctx, b, root, l); err != nil {
				return nil, err
			}
			names = append(names, o.name)
		}
		return names, nil
	}, nil
}

func planLayers(e bundle.Entry, layers []bundle.Descriptor, left int64) ([]output, error) {
	var outputs []output
	taken := map[string]bool{}
	for i, layer := range layers {
		o := output{layer: layer, name: layerName(e, layer, i)}
		if err := artifact.BaseName(o.name); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
		if taken[o.name] {
			return nil, fmt.Errorf("layer %d: another layer is called %q too", i+1, o.name)
		}
		taken[o.name] = true
		size := layer.Size
		if layer.MediaType == bundle.MediaTypeFile || layer.MediaType == bundle.MediaTypeDirectory {
			var err error
			if o.meta, err = artifact.ParseMeta(layer.Annotations); err != nil {
				return nil, fmt.Errorf("layer %d: %w", i+1, err)
			}
			size = o.meta.Size
		}
		if layer.MediaType == bundle.MediaTypeDirectory && len(layers) > 1 {
			return nil, fmt.Errorf("layer %d: a directory is one of %d layers, it must be alone", i+1, len(layers))
		}
		if size > left {
			return nil, fmt.Errorf("layer %d: %d bytes, %d are left of what one item may take: %w", i+1, size, left, artifact.ErrTooLarge)
		}
		left -= size
		outputs = append(outputs, o)
	}
	return outputs, nil
}

// layerName is the title of a layer, or else a name made of the reference; the
// caller checks it. A chart gets the name that helm package gives it.
func layerName(e bundle.Entry, layer bundle.Descriptor, i int) string {
	if t, ok := layer.Annotations[ocispec.AnnotationTitle]; ok {
		return t
	}
	name := strings.NewReplacer(":", "-", "@", "-").Replace(path.Base(e.Ref))
	switch {
	case layer.MediaType == mediaTypeChart:
		return name + ".tgz"
	case layer.MediaType == mediaTypeProvenance:
		return name + ".tgz.prov"
	case layer.MediaType == bundle.MediaTypeModule:
		name += ".zip"
	case layer.MediaType == bundle.MediaTypeLock:
		name = e.Name // "airlock.lock"
	}
	if i > 0 {
		return fmt.Sprintf("%d-%s", i+1, name)
	}
	return name
}

func (o output) write(ctx context.Context, b *verify.Bundle, root *os.Root, l limits) error {
	rc, err := b.Fetch(ctx, o.layer)
	if err != nil {
		return err
	}
	defer rc.Close() // only read
	switch o.layer.MediaType {
	case bundle.MediaTypeFile:
		return artifact.ExtractFile(ctx, root, o.name, rc, o.meta, artifact.Limits{Bytes: l.unpacked})
	case bundle.MediaTypeDirectory:
		if err := root.Mkdir(o.name, 0o755); err != nil {
			return err
		}
		sub, err := root.OpenRoot(o.name)
		if err != nil {
			return err
		}
		defer sub.Close() // files are synced one by one, the directories at the end
		return artifact.ExtractDirectory(ctx, sub, rc, o.meta, artifact.Limits{Bytes: l.unpacked, Entries: l.entries})
	}
	if err := save(ctx, root, o.name, rc); err != nil {
		return fmt.Errorf("extract %q: %w", o.name, err)
	}
	return nil
}
