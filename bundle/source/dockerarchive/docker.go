package dockerarchive

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// dockerManifest is an entry of docker-save's manifest.json (moby,
// image/spec/v1.2.md "Combined Image JSON + Filesystem Changeset Format").
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// hexName finds the sha256 that names a config: "<hex>.json" of Docker,
// "sha256:<hex>" of go-containerregistry, "blobs/sha256/<hex>" of a layout.
var hexName = regexp.MustCompile(`^(?:sha256:)?([0-9a-f]{64})(?:\.json)?$`)

// dockerEntry chooses the entry of manifest.json: the only one, or the only one
// tagged as.
func (c *contents) dockerEntry(as string) (dockerManifest, error) {
	raw, err := c.document("manifest.json", "docker-save")
	if err != nil {
		return dockerManifest{}, err
	}
	var entries []dockerManifest
	if err := json.Unmarshal(raw, &entries); err != nil {
		return dockerManifest{}, fmt.Errorf("read manifest.json: %w", err)
	}
	if len(entries) == 0 || len(entries) > maxImages {
		return dockerManifest{}, fmt.Errorf("manifest.json lists %d images, want 1 to %d", len(entries), maxImages)
	}
	if len(entries) == 1 {
		return entries[0], nil
	}
	var found []dockerManifest
	var have []string
	for _, e := range entries {
		have = append(have, e.RepoTags...)
		if slices.Contains(e.RepoTags, as) {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		slices.Sort(have)
		return dockerManifest{}, &SelectError{Ref: as, Have: slices.Compact(have)}
	}
	return found[0], nil
}

// dockerImage makes the manifest of an image that docker-save wrote.
func (c *contents) dockerImage(e dockerManifest) (*Image, error) {
	raw, err := c.document(e.Config, "manifest.json")
	if err != nil {
		return nil, err
	}
	config := bundle.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if m := hexName.FindStringSubmatch(path.Base(e.Config)); m != nil && m[1] != config.Digest.Encoded() {
		return nil, &DigestError{Name: e.Config, Want: digest.NewDigestFromEncoded(digest.SHA256, m[1]), Got: config.Digest}
	}
	img, err := parseConfig(raw)
	if err != nil {
		return nil, fmt.Errorf("read config %q: %w", e.Config, err)
	}
	layers, err := c.dockerLayers(e, img.RootFS.DiffIDs)
	if err != nil {
		return nil, err
	}
	if _, err := c.spool.AddBytes(config.MediaType, raw); err != nil {
		return nil, err
	}
	root, err := bundle.PackManifest(c.spool, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config,
		Layers:    layers,
	})
	if err != nil {
		return nil, err
	}
	root.Platform = platformOf(img)
	out := &Image{
		Manifests:    []bundle.Manifest{root},
		Blobs:        []bundle.Descriptor{config},
		RepoTags:     slices.Clone(e.RepoTags),
		ConfigDigest: config.Digest,
		DiffIDs:      img.RootFS.DiffIDs,
		Platform:     root.Platform,
	}
	for _, l := range layers {
		out.Blobs = artifact.AppendBlob(out.Blobs, l)
	}
	return out, nil
}

// dockerLayers checks the layers against the config and returns what the spool
// holds of them.
func (c *contents) dockerLayers(e dockerManifest, want []digest.Digest) ([]bundle.Descriptor, error) {
	if len(e.Layers) != len(want) || len(want) > MaxLayers {
		return nil, fmt.Errorf("manifest.json lists %d layers and the config %d diffIDs: want as many, at most %d", len(e.Layers), len(want), MaxLayers)
	}
	layers := make([]bundle.Descriptor, 0, len(want)) // "layers" of a manifest is a list even if empty
	for i, name := range e.Layers {
		m, err := c.lookup(name, "manifest.json")
		if err != nil {
			return nil, err
		}
		if err := c.spooled(m); err != nil {
			return nil, fmt.Errorf("read layer %q: %w", name, err)
		}
		if m.diffID != want[i] {
			return nil, &DiffIDError{Layer: name, Want: want[i], Got: m.diffID}
		}
		layers = append(layers, m.stored)
	}
	return layers, nil
}

// parseConfig reads what is needed of an image config (image-spec 1.1,
// config.md). Its other fields are none of Airlock's business.
func parseConfig(raw []byte) (ocispec.Image, error) {
	var img struct {
		ocispec.Platform
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(raw, &img); err != nil {
		return ocispec.Image{}, err
	}
	if img.OS == "" || img.Architecture == "" || strings.ContainsAny(img.OS+img.Architecture+img.Variant, "/ \n") {
		return ocispec.Image{}, fmt.Errorf("it names no platform: os %q, architecture %q", img.OS, img.Architecture)
	}
	if img.RootFS.Type != "layers" {
		return ocispec.Image{}, fmt.Errorf("rootfs.type is %q, want %q", img.RootFS.Type, "layers")
	}
	for _, d := range img.RootFS.DiffIDs {
		if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
			return ocispec.Image{}, fmt.Errorf("diffID %q is no sha256 digest", d)
		}
	}
	return ocispec.Image{Platform: img.Platform, RootFS: img.RootFS}, nil
}

// platformOf returns the part of a config's platform that descriptors carry and
// definitions ask for.
func platformOf(img ocispec.Image) *ocispec.Platform {
	return &ocispec.Platform{OS: img.OS, Architecture: img.Architecture, Variant: img.Variant}
}
