package registry

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/manifests"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Annotations that buildx puts on an attestation manifest in an index.
const (
	annotationReferenceType   = "vnd.docker.reference.type"
	annotationReferenceDigest = "vnd.docker.reference.digest"
	attestationManifest       = "attestation-manifest"
)

// PlatformError says that an image lacks platforms that were chosen.
type PlatformError struct {
	Ref     string
	Missing []string // chosen and absent
	Have    []string // what there is, sorted
}

// Error implements error.
func (e *PlatformError) Error() string {
	have := strings.Join(e.Have, ", ")
	if have == "" {
		have = "no platform"
	}
	return fmt.Sprintf("%s is not available for %s; it has %s", e.Ref, strings.Join(e.Missing, ", "), have)
}

// platform is os/arch, or os/arch/variant.
type platform struct {
	os, arch, variant string
}

func (p platform) String() string {
	if p.variant == "" {
		return p.os + "/" + p.arch
	}
	return p.os + "/" + p.arch + "/" + p.variant
}

// matches asks for the same os and architecture, and for the variant only if p
// names one: linux/arm takes every variant there is. An arm64 without variant
// is v8, there is no other.
func (p platform) matches(o ocispec.Platform) bool {
	if p.os != o.OS || p.arch != o.Architecture {
		return false
	}
	if o.Variant == "" && o.Architecture == "arm64" {
		o.Variant = "v8"
	}
	return p.variant == "" || p.variant == o.Variant
}

var platformWord = regexp.MustCompile(`^[A-Za-z0-9._-]{0,64}$`)

var platformPattern = regexp.MustCompile(`^([a-z0-9]+)/([a-z0-9]+)(?:/([a-z0-9.]+))?$`)

// parsePlatforms returns nil for all.
func parsePlatforms(in manifests.Platforms) ([]platform, error) {
	if in.All() {
		return nil, nil
	}
	var out []platform
	for _, s := range in {
		m := platformPattern.FindStringSubmatch(s)
		if m == nil {
			return nil, fmt.Errorf("platform %q: want os/arch or os/arch/variant, such as linux/amd64", s)
		}
		p := platform{os: m[1], arch: m[2], variant: m[3]}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, nil
}

// realPlatform returns the platform of a descriptor, without what buildx writes for
// manifests that have none.
func realPlatform(d bundle.Descriptor) *ocispec.Platform {
	p := d.Platform
	if p == nil || p.OS == "" || p.Architecture == "" || p.OS == "unknown" || p.Architecture == "unknown" {
		return nil
	}
	// What comes from outside ends up in index.json; os.features are left out,
	// nothing chooses by them.
	for _, word := range []string{p.OS, p.Architecture, p.Variant, p.OSVersion} {
		if !platformWord.MatchString(word) {
			return nil
		}
	}
	return &ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion}
}

// configPlatform reads the platform out of an image config; nil if it has none.
func configPlatform(raw []byte) (*ocispec.Platform, error) {
	var p ocispec.Platform
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("parse image config: %w", err)
	}
	return realPlatform(bundle.Descriptor{Platform: &p}), nil
}

func isImageConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == mediaTypeDockerConfig
}

// selection decides which children of an index are carried.
type selection struct {
	want  []platform
	found []bool // by want
	have  map[string]bool
	keep  map[digest.Digest]bool
}

func newSelection(want []platform) *selection {
	return &selection{want: want, found: make([]bool, len(want)), have: map[string]bool{}, keep: map[digest.Digest]bool{}}
}

// take notes a manifest of platform p and reports whether it was chosen.
func (s *selection) take(p *ocispec.Platform) bool {
	if p == nil {
		return false
	}
	s.have[platform{p.OS, p.Architecture, p.Variant}.String()] = true
	chosen := false
	for i, w := range s.want {
		if w.matches(*p) {
			s.found[i], chosen = true, true
		}
	}
	return chosen
}

// attestations keeps buildx attestations of the children that are kept.
func (s *selection) attestations(children []bundle.Descriptor) {
	for _, d := range children {
		if isAttestation(d) && s.keep[digest.Digest(d.Annotations[annotationReferenceDigest])] {
			s.keep[d.Digest] = true
		}
	}
}

func isAttestation(d bundle.Descriptor) bool {
	return d.Annotations[annotationReferenceType] == attestationManifest
}

// check returns a *PlatformError if a chosen platform was not found.
func (s *selection) check(ref string) error {
	e := &PlatformError{Ref: ref}
	for i, w := range s.want {
		if !s.found[i] {
			e.Missing = append(e.Missing, w.String())
		}
	}
	if e.Missing == nil {
		return nil
	}
	for h := range s.have {
		e.Have = append(e.Have, h)
	}
	slices.Sort(e.Have)
	return e
}
