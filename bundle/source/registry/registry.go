// Package registry is the source of images that lie in an OCI or Docker
// registry. It pins a reference with everything that belongs to it: platform
// manifests, attestations, referrers and cosign's tags, each with its config
// and layers, and opens them by digest.
package registry

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/manifests"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	oras "oras.land/oras-go/v2/registry/remote"
)

// Docker's media types that this package names.
const (
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeDockerConfig   = "application/vnd.docker.container.image.v1+json"
	mediaTypeSchema1        = "application/vnd.docker.distribution.manifest.v1+json"
	mediaTypeSchema1Signed  = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// Source is one image of a definition. It implements bundle.Source and is safe
// for concurrent use.
type Source struct {
	hosts   *remote.Hosts
	spool   *bundle.Spool
	written string // the reference exactly as written
	chosen  manifests.Platforms
	target  func() (*target, error)
}

// target is what a Source works on, once its definition has been checked.
type target struct {
	ref   remote.Reference
	want  []platform // nil: all
	repo  *oras.Repository
	byTag *oras.Repository // the same, for referrers by tag schema only
}

// New returns the source of img, whose Ref must be set. Where img names no
// platforms, defaults decides. The definition is checked by Resolve and Open,
// which need no network to refuse it.
func New(hosts *remote.Hosts, spool *bundle.Spool, img manifests.Image, defaults manifests.Platforms) *Source {
	s := &Source{hosts: hosts, spool: spool, written: img.Ref, chosen: img.Platforms}
	if len(s.chosen) == 0 {
		s.chosen = defaults
	}
	s.target = sync.OnceValues(s.parse)
	return s
}

// Origin implements bundle.Source: "image " and the reference as written.
func (s *Source) Origin() string { return "image " + s.written }

// Resolve implements bundle.Source. It returns one pin. Locked pins come back
// as they are, without a request.
func (s *Source) Resolve(ctx context.Context, locked []bundle.Pin) ([]bundle.Pin, error) {
	t, err := s.target()
	if err != nil {
		return nil, err
	}
	if len(locked) > 0 {
		if err := checkLocked(t.ref, locked); err != nil {
			return nil, fmt.Errorf("image %s: %w", s.written, err)
		}
		return locked, nil
	}
	r := &resolver{fetcher: fetcher{target: t}, spool: s.spool, written: s.written, nodes: map[digest.Digest]*node{}}
	pin, err := r.pin(ctx)
	if err != nil {
		return nil, fmt.Errorf("resolve image %s: %w", s.written, err)
	}
	return []bundle.Pin{pin}, nil
}

// checkLocked refuses a lock that contradicts a digest in the definition.
func checkLocked(ref remote.Reference, locked []bundle.Pin) error {
	if len(locked) != 1 || len(locked[0].Manifests) == 0 {
		return fmt.Errorf("the lock records %d items where there must be one with manifests: make the lock again", len(locked))
	}
	if ref.Digest == "" {
		return nil
	}
	for _, m := range locked[0].Manifests {
		if m.Digest == ref.Digest && (m.Role == bundle.RoleRoot || m.Role == bundle.RoleSourceIndex) {
			return nil
		}
	}
	return fmt.Errorf("the lock does not record the digest that the definition names: make the lock again")
}

func (s *Source) parse() (*target, error) {
	ref, err := remote.ParseReference(s.written)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	want, err := parsePlatforms(s.chosen)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", s.written, err)
	}
	repo, err := s.hosts.Repository(s.written)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	// Schema 1 is asked for last, only to be recognised and refused by name.
	repo.ManifestMediaTypes = []string{
		ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest,
		mediaTypeDockerList, mediaTypeDockerManifest,
		mediaTypeSchema1Signed, mediaTypeSchema1,
	}
	byTag, err := s.hosts.Repository(s.written)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	if err := byTag.SetReferrersCapability(false); err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return &target{ref: ref, want: want, repo: repo, byTag: byTag}, nil
}

// object names a tag or digest of the repository, for errors.
func (t *target) object(reference string) string {
	if strings.Contains(reference, ":") {
		return t.ref.Name() + "@" + reference
	}
	return t.ref.Name() + ":" + reference
}

// repositoryAsWritten returns a reference without its tag and digest.
func repositoryAsWritten(ref string) string {
	name, _, _ := strings.Cut(ref, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name
}
