package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// platformError says that nodes of a platform cannot run an image.
type platformError struct {
	want string
	have []string
}

func (e *platformError) Error() string {
	return fmt.Sprintf("nodes are %s, the image is for %s", e.want, strings.Join(e.have, ", "))
}

// runsOn checks that an image has content for each platform. Artifacts that are
// no images have no platform, and are not asked.
func (w *walk) runsOn(ctx context.Context, desc ocispec.Descriptor, want []string) error {
	if len(want) == 0 {
		return nil
	}
	have, err := w.platforms(ctx, desc, 0)
	if err != nil || len(have) == 0 {
		return err
	}
	for _, p := range want {
		if !slices.ContainsFunc(have, func(h string) bool { return h == p || strings.HasPrefix(h, p+"/") }) {
			return &platformError{want: p, have: have}
		}
	}
	return nil
}

// platforms lists the platforms of an index, or the one of an image. An index
// that does not say them is followed to its images.
func (w *walk) platforms(ctx context.Context, desc ocispec.Descriptor, depth int) ([]string, error) {
	if depth > maxDepth {
		return nil, &lostError{fmt.Sprintf("indexes nest deeper than %d", maxDepth)}
	}
	raw, err := w.read(ctx, desc)
	if err != nil {
		return nil, err
	}
	var c content
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, &lostError{fmt.Sprintf("manifest %s cannot be read", desc.Digest)}
	}
	var out []string
	for _, child := range c.Manifests {
		p := child.Platform
		switch {
		case p == nil:
			more, err := w.platforms(ctx, child, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		case p.OS != "unknown": // as an attestation that stands beside the images
			out = append(out, platformName(*p))
		}
	}
	if len(c.Manifests) > 0 || c.Config == nil || !isImageConfig(c.Config.MediaType) {
		return out, nil
	}
	raw, err = w.read(ctx, *c.Config)
	if err != nil {
		return nil, err
	}
	var config ocispec.Platform
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, &lostError{fmt.Sprintf("config %s cannot be read", c.Config.Digest)}
	}
	return []string{platformName(config)}, nil
}

func isImageConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == "application/vnd.docker.container.image.v1+json"
}

func platformName(p ocispec.Platform) string {
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	return name
}
