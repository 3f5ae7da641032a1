// Package dockerarchive carries images from docker-save and OCI-layout tars.
//
// [Read] takes a tar as a stream, once, in whatever order its members come:
// every layer goes into the spool as it arrives, compressed on its way, and is
// matched with its image at the end. Nothing is unpacked to disk, links are
// followed inside the tar only, and memory does not grow with the image.
//
// An image of docker-save keeps its config byte for byte, hence its image ID;
// its layers become tar+zstd, checked one by one against the config's diffIDs.
// A layer that is compressed already, and everything in a complete OCI layout,
// keeps its bytes, hence its digests and signatures. Where docker-save wrote
// both manifest.json and index.json, the layout is preferred if it is complete
// and its layers are compressed, because then the image has the digest it has
// in its registry.
package dockerarchive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/airlock-project/airlock/bundle/source/file"
	"github.com/airlock-project/airlock/manifests"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Source carries one image of a tar. It implements bundle.Source.
type Source struct {
	spool *bundle.Spool
	entry manifests.Image
	opts  file.Options
}

// New returns the source of an images entry with a path. Nothing is opened
// before Resolve.
func New(spool *bundle.Spool, entry manifests.Image, opts file.Options) *Source {
	return &Source{spool: spool, entry: entry, opts: opts}
}

// Origin implements bundle.Source.
func (s *Source) Origin() string {
	return fmt.Sprintf("image %s from %s", s.entry.As, s.entry.Path)
}

// Open implements bundle.Source.
func (s *Source) Open(_ context.Context, _ bundle.Pin, desc bundle.Descriptor) (io.ReadCloser, error) {
	return s.spool.Open(desc)
}

// Resolve reads the tar into the spool and returns the pin of its image, tagged
// as the entry says.
func (s *Source) Resolve(ctx context.Context, _ []bundle.Pin) ([]bundle.Pin, error) {
	img, err := s.resolve(ctx)
	if err != nil {
		return nil, fmt.Errorf("read image %q from %q: %w", s.entry.As, s.entry.Path, err)
	}
	return []bundle.Pin{img.Pin(s.entry.As, s.Origin())}, nil
}

func (s *Source) resolve(ctx context.Context) (*Image, error) {
	f, err := os.Open(s.opts.Path(s.entry.Path))
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, errors.New("not a file: give a docker-save or OCI-layout tar")
	}
	s.opts.Listen.Send(bundle.Event{Op: "resolve", Object: s.Origin(), Total: fi.Size()})
	defer s.opts.Listen.Send(bundle.Event{Op: "resolve", Object: s.Origin(), Done: true})
	img, err := Read(ctx, artifact.Watch(ctx, f, s.opts.Listen, s.Origin()), s.spool, Options{As: s.entry.As})
	if err != nil {
		return nil, err
	}
	return img, img.checkPlatforms(s.entry.Platforms)
}

// Options choose the image to read.
type Options struct {
	// As is the reference the image is carried as, with a tag. If the tar holds
	// several images it also says which: the one with exactly this tag.
	As string
}

// Image is an image in the spool.
type Image struct {
	Manifests    []bundle.Manifest   // the root first
	Blobs        []bundle.Descriptor // configs and layers, each digest once
	RepoTags     []string            // the references that the tar gives it
	ConfigDigest digest.Digest       // the image ID; empty if the root is an index
	DiffIDs      []digest.Digest     // of the layers uncompressed; nil if the root is an index
	Platform     *ocispec.Platform   // nil if the root is an index
}

// Pin returns the image's pin as an item tagged as.
func (i *Image) Pin(as, origin string) bundle.Pin {
	ms := slices.Clone(i.Manifests)
	ms[0].Ref = as
	return bundle.Pin{
		Item:      bundle.Item{Kind: bundle.KindImage, Name: as, Ref: as},
		Origin:    origin,
		Manifests: ms,
		Blobs:     i.Blobs,
	}
}

// CheckAs refuses a reference that cannot name an image: it needs a repository
// and a tag; a registry is optional.
func CheckAs(as string) error {
	if _, err := name.NewTag(as, name.StrictValidation); err == nil {
		return nil
	}
	// Strict validation asks for a tag, which is wanted, and a registry, which is not.
	if _, err := name.NewTag("registry.invalid/"+as, name.StrictValidation); err != nil {
		return fmt.Errorf("%q is no image reference with a tag, such as backend:v1.0", as)
	}
	return nil
}

// checkPlatforms refuses an image without one of the platforms wanted. An index
// is carried whole in any case: its digest is part of what was exported. An
// image that is no index has one platform, so one of those wanted is enough.
func (i *Image) checkPlatforms(want manifests.Platforms) error {
	if want.All() {
		return nil
	}
	if i.Platform != nil {
		if slices.ContainsFunc(want, func(w string) bool { return matches(w, *i.Platform) }) {
			return nil
		}
		return &PlatformError{Want: strings.Join(want, ", "), Have: []string{platformString(*i.Platform)}}
	}
	var have []string
	found := make([]bool, len(want))
	for _, m := range i.Manifests {
		if m.Platform == nil {
			continue
		}
		have = append(have, platformString(*m.Platform))
		for j, w := range want {
			found[j] = found[j] || matches(w, *m.Platform)
		}
	}
	var missing []string
	for j, w := range want {
		if !found[j] {
			missing = append(missing, w)
		}
	}
	if len(missing) > 0 {
		return &PlatformError{Want: strings.Join(missing, ", "), Have: have}
	}
	return nil
}

// matches compares as images from registries are compared: the variant counts
// only where it is asked for, and an arm64 without variant is v8.
func matches(want string, have ocispec.Platform) bool {
	base := have.OS + "/" + have.Architecture
	if have.Variant == "" && have.Architecture == "arm64" {
		have.Variant = "v8"
	}
	return want == base || want == base+"/"+have.Variant
}

func platformString(p ocispec.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}
