package helm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	orasremote "oras.land/oras-go/v2/registry/remote"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/bundle/remote"
)

const ociScheme = "oci://"

// maxTags bounds the tags looked at to satisfy a version constraint.
const maxTags = 50_000

// maxSmall bounds the blobs of a chart other than its archive.
const maxSmall = archive.MaxConfig

// pull pins a chart in a registry. reference names the repository, and may hold
// a tag or a digest where version is empty.
func (s *Source) pull(ctx context.Context, reference, version string, locked *bundle.Pin) (bundle.Pin, string, error) {
	repo, err := s.hosts.Repository(reference)
	if err != nil {
		return bundle.Pin{}, "", err
	}
	tag, desc, err := resolveOCI(ctx, repo, version, locked)
	if err != nil {
		return bundle.Pin{}, "", fmt.Errorf("resolve %s%s: %w", ociScheme, reference, remote.Explain(err, reference))
	}
	name := repo.Reference.Registry + "/" + repo.Reference.Repository
	pin, c, err := s.fetchChart(ctx, repo, desc)
	if err != nil {
		return bundle.Pin{}, "", fmt.Errorf("fetch %s%s@%s: %w", ociScheme, name, desc.Digest, remote.Explain(err, name))
	}
	if tag == "" {
		tag = c.Tag()
	}
	pin.Item = bundle.Item{Kind: bundle.KindChart, Name: s.chart.Name, Ref: name + ":" + tag}
	pin.Origin = ociScheme + pin.Ref
	pin.Manifests[0].Ref = pin.Ref
	return pin, c.Tag(), nil
}

// resolveOCI returns the tag, where there is one, and the manifest's descriptor.
func resolveOCI(ctx context.Context, repo *orasremote.Repository, version string, locked *bundle.Pin) (string, bundle.Descriptor, error) {
	if locked != nil {
		return locked.Ref[strings.LastIndex(locked.Ref, ":")+1:], locked.Manifests[0].Descriptor, nil
	}
	tag := repo.Reference.Reference
	if version != "" {
		if tag != "" {
			return "", bundle.Descriptor{}, fmt.Errorf("the reference has %q and the definition version %q: name one of them", tag, version)
		}
		tag = strings.ReplaceAll(version, "+", "_")
	}
	if tag == "" || repo.Reference.Reference == "" && !isExact(version) {
		chosen, err := chooseTag(ctx, repo, version)
		if err != nil {
			return "", bundle.Descriptor{}, err
		}
		tag = chosen
	}
	desc, err := repo.Resolve(ctx, tag)
	if err != nil {
		return "", bundle.Descriptor{}, err
	}
	if _, err := digest.Parse(tag); err == nil {
		tag = "" // named by digest; the chart says its version
	}
	return tag, desc, nil
}

// chooseTag picks the highest version that satisfies constraint.
func chooseTag(ctx context.Context, repo *orasremote.Repository, constraint string) (string, error) {
	var versions []string
	err := repo.Tags(ctx, "", func(tags []string) error {
		if len(versions)+len(tags) > maxTags {
			return fmt.Errorf("more than %d tags", maxTags)
		}
		for _, t := range tags {
			versions = append(versions, strings.ReplaceAll(t, "_", "+"))
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("list tags: %w", err)
	}
	i, err := choose(repo.Reference.Repository, versions, constraint)
	if err != nil {
		return "", err
	}
	return strings.ReplaceAll(versions[i], "+", "_"), nil
}

// fetchChart fetches manifest and archive, checks that they make a chart, and
// keeps them in the spool. Manifest, config and layers stay as they are.
func (s *Source) fetchChart(ctx context.Context, repo *orasremote.Repository, desc bundle.Descriptor) (bundle.Pin, *chart.Chart, error) {
	if desc.MediaType != ocispec.MediaTypeImageManifest {
		return bundle.Pin{}, nil, fmt.Errorf("not a Helm chart: the manifest is %q", desc.MediaType)
	}
	if desc.Size > archive.MaxManifest {
		return bundle.Pin{}, nil, fmt.Errorf("manifest has %d bytes, the limit is %d", desc.Size, archive.MaxManifest)
	}
	raw, err := content.FetchAll(ctx, repo.Manifests(), desc)
	if err != nil {
		return bundle.Pin{}, nil, err
	}
	m, err := parseManifest(raw)
	if err != nil {
		return bundle.Pin{}, nil, err
	}
	if _, err := s.spool.AddBytes(desc.MediaType, raw); err != nil {
		return bundle.Pin{}, nil, err
	}
	desc = bundle.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, ArtifactType: m.ArtifactType}
	pin := bundle.Pin{Manifests: []bundle.Manifest{{Descriptor: desc, Role: bundle.RoleRoot, Raw: raw}}}
	layer, err := archiveLayer(m)
	if err != nil {
		return bundle.Pin{}, nil, err
	}
	var c *chart.Chart
	for _, d := range append([]bundle.Descriptor{m.Config}, m.Layers...) {
		if slices.ContainsFunc(pin.Blobs, func(b bundle.Descriptor) bool { return b.Digest == d.Digest }) {
			continue
		}
		blob, err := s.fetchBlob(ctx, repo, d)
		if err != nil {
			return bundle.Pin{}, nil, err
		}
		if d.Digest == layer.Digest {
			if c, err = s.load(blob, d); err != nil {
				return bundle.Pin{}, nil, err
			}
		}
		pin.Blobs = append(pin.Blobs, bundle.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
	}
	if c == nil {
		return bundle.Pin{}, nil, errors.New("not a Helm chart: config and archive are the same blob")
	}
	return pin, c, nil
}

// fetchBlob fetches a whole blob into the spool, within the limit of its kind.
func (s *Source) fetchBlob(ctx context.Context, repo *orasremote.Repository, d bundle.Descriptor) ([]byte, error) {
	limit := int64(maxSmall)
	if d.MediaType == chart.MediaTypeArchive {
		limit = chart.MaxArchive
	}
	if d.Size < 0 || d.Size > limit {
		return nil, fmt.Errorf("blob %s has %d bytes, the limit is %d", d.Digest, d.Size, limit)
	}
	if err := d.Digest.Validate(); err != nil || d.Digest.Algorithm() != digest.SHA256 {
		return nil, fmt.Errorf("blob %q is not named by a sha256 digest", d.Digest)
	}
	var r io.ReadCloser
	var err error
	if s.spool.Has(d) {
		r, err = s.spool.Open(d)
	} else {
		r, err = repo.Blobs().Fetch(ctx, d)
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	blob, err := content.ReadAll(r, d)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.Digest, err)
	}
	_, err = s.spool.Add(d.MediaType, bytes.NewReader(blob))
	return blob, err
}

// fetch opens content of a pin in the registry it came from. Only charts from
// a registry are ever missing from the spool.
func (s *Source) fetch(ctx context.Context, pin bundle.Pin, desc bundle.Descriptor) (io.ReadCloser, error) {
	reference, ok := strings.CutPrefix(pin.Origin, ociScheme)
	if !ok {
		return nil, errors.New("not resolved in this run")
	}
	repo, err := s.hosts.Repository(reference)
	if err != nil {
		return nil, err
	}
	fetcher := content.Fetcher(repo.Blobs())
	for _, m := range pin.Manifests {
		if m.Digest == desc.Digest {
			fetcher = repo.Manifests()
		}
	}
	r, err := fetcher.Fetch(ctx, desc)
	if err != nil {
		return nil, remote.Explain(err, reference)
	}
	return r, nil
}
