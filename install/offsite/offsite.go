// Package offsite keeps what must be seen from, or survive, more than one
// machine in the site's own registry: the lock that says which machine installs,
// and a copy of the record. Both are small OCI artifacts in one repository,
// airlock-state below the site's prefix.
//
// Why a registry: it is what every site of this tool has. The distribution-spec
// has no conditional write, so that the lock cannot be perfect; see [Guard].
package offsite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
)

// Repository is the repository's last segment.
const Repository = "airlock-state"

// Limits on what is read back.
const (
	maxManifest = 4 << 20 // distribution-spec 1.1, "Pushing Manifests"
	maxLease    = 64 << 10
)

// Annotations of manifests.
const (
	annotationSite = "dev.airlock.site"
	annotationRun  = "dev.airlock.run"
	annotationSeq  = "dev.airlock.ledger.seq"
	annotationHead = "dev.airlock.ledger.head"
)

// Place is a repository in the site's registry. *remote.Repository of oras-go is
// one.
type Place interface {
	oras.ReadOnlyTarget
	content.Pusher
	PushReference(ctx context.Context, expected ocispec.Descriptor, content io.Reader, reference string) error
}

// maxTag is the most characters a tag has.
const maxTag = 128

// tagOf joins the parts of a tag; one that would be too long ends in a digest of
// what it stands for.
func tagOf(prefix, name string) string {
	tag := prefix + "-" + name
	if len(tag) <= maxTag {
		return tag
	}
	sum := sha256.Sum256([]byte(name))
	return tag[:maxTag-17] + "-" + hex.EncodeToString(sum[:8])
}

// LockTag is the tag of a site's lock.
func LockTag(site string) string { return tagOf("lock", site) }

// LedgerTag is the tag of a site's newest record; with a run's id, of that run's
// last one.
func LedgerTag(site, runID string) string {
	if runID == "" {
		return tagOf("ledger", site)
	}
	return tagOf("ledger", site+"-"+runID)
}

// pushBlob puts data there unless it is.
func pushBlob(ctx context.Context, p Place, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	if ok, err := p.Exists(ctx, desc); err == nil && ok {
		return nil
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := p.Push(ctx, desc, r); err != nil && !errors.Is(err, errdef.ErrAlreadyExists) {
		return fmt.Errorf("push %s: %w", desc.Digest, err)
	}
	return nil
}

func pushBytes(ctx context.Context, p Place, mediaType string, data []byte) (ocispec.Descriptor, error) {
	desc := content.NewDescriptorFromBytes(mediaType, data)
	return desc, pushBlob(ctx, p, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
}

// packed is the manifest of an artifact whose blobs are there already.
func packed(artifactType string, layers []ocispec.Descriptor, at time.Time, more map[string]string) (ocispec.Descriptor, []byte, error) {
	annotations := map[string]string{ocispec.AnnotationCreated: at.UTC().Format(time.RFC3339)}
	maps.Copy(annotations, more)
	raw, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: ocispec.DescriptorEmptyJSON, Layers: layers, Annotations: annotations,
	})
	if err != nil {
		return ocispec.Descriptor{}, nil, fmt.Errorf("encode manifest: %w", err)
	}
	if len(raw) > maxManifest {
		return ocispec.Descriptor{}, nil, fmt.Errorf("its manifest would have %d bytes, registries take %d", len(raw), maxManifest)
	}
	desc := content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, raw)
	desc.ArtifactType = artifactType
	return desc, raw, nil
}

// fetchManifest reads what a tag or digest names; nil where there is nothing.
func fetchManifest(ctx context.Context, p Place, reference, artifactType string) (*ocispec.Manifest, digest.Digest, error) {
	desc, err := p.Resolve(ctx, reference)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("look for %s: %w", reference, err)
	}
	raw, err := fetch(ctx, p, desc, maxManifest)
	if err != nil {
		return nil, "", err
	}
	m := new(ocispec.Manifest)
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, "", fmt.Errorf("read %s: %w", reference, err)
	}
	if m.ArtifactType != artifactType {
		return nil, "", &ForeignError{Reference: reference, Type: m.ArtifactType, Want: artifactType}
	}
	return m, desc.Digest, nil
}

// fetch reads small content, checked by digest and size.
func fetch(ctx context.Context, p Place, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	if desc.Size < 0 || desc.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", desc.Digest, desc.Size, limit)
	}
	r, err := p.Fetch(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", desc.Digest, err)
	}
	defer r.Close()
	data, err := content.ReadAll(r, desc)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", desc.Digest, err)
	}
	return data, nil
}

// ForeignError is something else under a name that Airlock uses.
type ForeignError struct {
	Reference string
	Type      string
	Want      string
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is an artifact of type %q, want %s: it is not Airlock's", e.Reference, e.Type, e.Want)
}
