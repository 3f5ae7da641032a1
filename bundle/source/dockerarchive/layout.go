package dockerarchive

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// annotationImageName is what containerd and Docker call an image in a layout.
const annotationImageName = "io.containerd.image.name"

// Docker's names for what image-spec calls index and manifest (Docker Image
// Manifest V2, schema 2).
const (
	dockerList       = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifestV2 = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig     = "application/vnd.docker.container.image.v1+json"
	dockerLayerTar   = "application/vnd.docker.image.rootfs.diff.tar"
)

func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == dockerList
}

func isManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == dockerManifestV2
}

func isLayer(mediaType string) bool {
	return strings.HasPrefix(mediaType, ocispec.MediaTypeImageLayer) || strings.HasPrefix(mediaType, dockerLayerTar)
}

func isConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == dockerConfig
}

func blobName(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }

// layoutRoot chooses a descriptor of index.json (image-spec 1.1,
// image-layout.md): the only one, or the only one named as.
func (c *contents) layoutRoot(as string) (bundle.Descriptor, error) {
	raw, err := c.document("index.json", "the OCI layout")
	if err != nil {
		return bundle.Descriptor{}, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return bundle.Descriptor{}, fmt.Errorf("read index.json: %w", err)
	}
	if len(index.Manifests) == 0 || len(index.Manifests) > maxImages {
		return bundle.Descriptor{}, fmt.Errorf("index.json lists %d manifests, want 1 to %d", len(index.Manifests), maxImages)
	}
	if len(index.Manifests) == 1 {
		return index.Manifests[0], nil
	}
	tag := as[strings.LastIndex(as, ":")+1:]
	var have []string
	byName, byTag := map[digest.Digest]bundle.Descriptor{}, map[digest.Digest]bundle.Descriptor{}
	for _, d := range index.Manifests {
		ref, full := d.Annotations[ocispec.AnnotationRefName], d.Annotations[annotationImageName]
		have = append(have, strings.Trim(full+" "+ref, " "))
		if ref == as || full == as {
			byName[d.Digest] = d
		}
		if full == "" && ref == tag {
			byTag[d.Digest] = d
		}
	}
	for _, found := range []map[digest.Digest]bundle.Descriptor{byName, byTag} {
		for _, d := range found {
			if len(found) == 1 {
				return d, nil
			}
		}
	}
	slices.Sort(have)
	return bundle.Descriptor{}, &SelectError{Ref: as, Have: slices.Compact(have)}
}

// whole reports whether everything below a descriptor is in the tar with
// compressed layers, so that it can be carried as it is.
func (c *contents) whole(d bundle.Descriptor, depth int) bool {
	m := c.members[blobName(d.Digest)]
	if m == nil || m.data == nil || m.digest != d.Digest || depth > archive.MaxDepth {
		return false
	}
	switch {
	case isIndex(d.MediaType):
		var index ocispec.Index
		return json.Unmarshal(m.data, &index) == nil && !slices.ContainsFunc(index.Manifests, func(d bundle.Descriptor) bool {
			return !c.whole(d, depth+1)
		})
	case isManifest(d.MediaType):
		var man ocispec.Manifest
		return json.Unmarshal(m.data, &man) == nil && c.members[blobName(man.Config.Digest)] != nil &&
			!slices.ContainsFunc(man.Layers, func(d bundle.Descriptor) bool {
				return c.members[blobName(d.Digest)] == nil || d.MediaType == ocispec.MediaTypeImageLayer || d.MediaType == dockerLayerTar
			})
	}
	return false
}

// layoutImage carries everything below root as it is.
func (c *contents) layoutImage(root bundle.Descriptor) (*Image, error) {
	img := &Image{}
	if name := root.Annotations[annotationImageName]; name != "" {
		img.RepoTags = []string{name}
	} else if ref := root.Annotations[ocispec.AnnotationRefName]; strings.Contains(ref, ":") {
		img.RepoTags = []string{ref}
	}
	if err := c.walk(img, root, "index.json", 0); err != nil {
		return nil, err
	}
	return img, nil
}

// walk adds the manifest or index d and what is below it. Digests are checked
// on every step, so nothing refers to what contains it.
func (c *contents) walk(img *Image, d bundle.Descriptor, by string, depth int) error {
	if depth > archive.MaxDepth {
		return fmt.Errorf("indexes are nested deeper than %d", archive.MaxDepth)
	}
	if !isIndex(d.MediaType) && !isManifest(d.MediaType) {
		return fmt.Errorf("%s names %s of media type %q, which is no index and no manifest", by, d.Digest, d.MediaType)
	}
	if slices.ContainsFunc(img.Manifests, func(m bundle.Manifest) bool { return m.Digest == d.Digest }) {
		return nil
	}
	if len(img.Manifests) >= maxImages {
		return fmt.Errorf("image has more than %d manifests", maxImages)
	}
	stored, err := c.blob(d, by)
	if err != nil {
		return err
	}
	raw, err := c.document(blobName(d.Digest), by)
	if err != nil {
		return err
	}
	stored.ArtifactType, stored.Platform = d.ArtifactType, d.Platform
	role := bundle.RoleChild
	if depth == 0 {
		role = bundle.RoleRoot
	}
	img.Manifests = append(img.Manifests, bundle.Manifest{Descriptor: stored, Role: role, Raw: raw})
	if isIndex(d.MediaType) {
		return c.walkIndex(img, raw, d.Digest.String(), depth)
	}
	return c.walkManifest(img, raw, d.Digest.String(), depth)
}

func (c *contents) walkIndex(img *Image, raw []byte, by string, depth int) error {
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return fmt.Errorf("read index %s: %w", by, err)
	}
	for _, d := range index.Manifests {
		if err := c.walk(img, d, by, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (c *contents) walkManifest(img *Image, raw []byte, by string, depth int) error {
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("read manifest %s: %w", by, err)
	}
	if len(m.Layers) > MaxLayers {
		return fmt.Errorf("manifest %s has more than %d layers", by, MaxLayers)
	}
	for _, d := range append([]bundle.Descriptor{m.Config}, m.Layers...) {
		stored, err := c.blob(d, by)
		if err != nil {
			return err
		}
		img.Blobs = artifact.AppendBlob(img.Blobs, stored)
	}
	if !isConfig(m.Config.MediaType) {
		return nil
	}
	rawConfig, err := c.document(blobName(m.Config.Digest), by)
	if err != nil {
		return err
	}
	config, err := parseConfig(rawConfig)
	if err != nil {
		return fmt.Errorf("read config %s: %w", m.Config.Digest, err)
	}
	if err := c.checkLayers(m, config.RootFS.DiffIDs); err != nil {
		return err
	}
	if depth == 0 {
		img.Platform = platformOf(config)
		img.Manifests[0].Platform = img.Platform
		img.ConfigDigest, img.DiffIDs = m.Config.Digest, config.RootFS.DiffIDs
	}
	return nil
}

// checkLayers checks the layers of an image against its config. Layers of other
// kinds, such as attestations, have no diffIDs to speak of.
func (c *contents) checkLayers(m ocispec.Manifest, want []digest.Digest) error {
	if slices.ContainsFunc(m.Layers, func(d bundle.Descriptor) bool { return !isLayer(d.MediaType) }) {
		return nil
	}
	if len(m.Layers) != len(want) {
		return fmt.Errorf("manifest lists %d layers and the config %d diffIDs", len(m.Layers), len(want))
	}
	for i, d := range m.Layers {
		l, err := c.lookup(blobName(d.Digest), "the manifest")
		if err != nil {
			return err
		}
		if err := c.spooled(l); err != nil {
			return fmt.Errorf("read layer %q: %w", l.name, err)
		}
		if l.diffID != want[i] {
			return &DiffIDError{Layer: l.name, Want: want[i], Got: l.diffID}
		}
	}
	return nil
}

// blob returns the descriptor of a member that the spool holds as it stands in
// the tar, after checking it against the descriptor that names it.
func (c *contents) blob(d bundle.Descriptor, by string) (bundle.Descriptor, error) {
	if err := d.Digest.Validate(); err != nil || d.Digest.Algorithm() != digest.SHA256 {
		return bundle.Descriptor{}, fmt.Errorf("digest %q in %s is no sha256 digest", d.Digest, by)
	}
	m, err := c.lookup(blobName(d.Digest), by)
	if err != nil {
		return bundle.Descriptor{}, err
	}
	if m.digest != d.Digest {
		return bundle.Descriptor{}, &DigestError{Name: m.name, Want: d.Digest, Got: m.digest}
	}
	if m.size != d.Size {
		return bundle.Descriptor{}, fmt.Errorf("size of %q differs: %s says %d, it has %d", m.name, by, d.Size, m.size)
	}
	return c.verbatim(m, d.MediaType)
}
