package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/opencontainers/go-digest"
)

// bodyAttempts bounds how often a manifest is read whose transfer breaks off;
// the transport has already repeated requests that got no answer.
const bodyAttempts = 3

// DigestError says that a registry's content is not what its digest says.
type DigestError struct {
	Object    string
	Want, Got digest.Digest
}

// Error implements error.
func (e *DigestError) Error() string {
	if strings.HasSuffix(e.Object, "@"+e.Want.String()) {
		return fmt.Sprintf("digest mismatch of %s: got %s", e.Object, e.Got)
	}
	return fmt.Sprintf("digest mismatch of %s: want %s, got %s", e.Object, e.Want, e.Got)
}

// FormatError says that an image is in a form that cannot be carried.
type FormatError struct {
	Object string
	Reason string // what it is and what to do
}

// Error implements error.
func (e *FormatError) Error() string { return fmt.Sprintf("%s: %s", e.Object, e.Reason) }

// node is a fetched and checked manifest or index.
type node struct {
	bundle.Manifest
	parsed bundle.Node
}

// fetcher reads manifests of one repository.
type fetcher struct {
	*target
}

// manifest fetches a tag or digest. With want, media type, size and digest must
// be those of that descriptor.
func (f fetcher) manifest(ctx context.Context, reference string, want *bundle.Descriptor) (*node, error) {
	object := f.object(reference)
	desc, raw, err := f.read(ctx, reference)
	if err != nil {
		return nil, err
	}
	if desc.MediaType == mediaTypeSchema1 || desc.MediaType == mediaTypeSchema1Signed {
		return nil, &FormatError{Object: object, Reason: "Docker schema 1 manifest; push the image again with a current tool"}
	}
	if !bundle.IsIndex(desc.MediaType) && !bundle.IsManifest(desc.MediaType) {
		return nil, &FormatError{Object: object, Reason: fmt.Sprintf("media type %q is neither manifest nor index", desc.MediaType)}
	}
	if got := digest.FromBytes(raw); got != desc.Digest {
		return nil, &DigestError{Object: object, Want: desc.Digest, Got: got}
	}
	if want != nil && (desc.Digest != want.Digest || desc.Size != want.Size || desc.MediaType != want.MediaType) {
		return nil, &FormatError{Object: object, Reason: fmt.Sprintf("its descriptor says %s of %d bytes, the registry serves %s of %d bytes",
			want.MediaType, want.Size, desc.MediaType, desc.Size)}
	}
	parsed, err := bundle.ParseNode(desc.MediaType, raw)
	if err != nil {
		return nil, &FormatError{Object: object, Reason: err.Error()}
	}
	if err := checkBlobs(parsed); err != nil {
		return nil, &FormatError{Object: object, Reason: err.Error()}
	}
	m := bundle.Manifest{Raw: raw}
	m.Descriptor = bundle.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, ArtifactType: parsed.ArtifactType}
	return &node{Manifest: m, parsed: parsed}, nil
}

// read gets the bytes and what the registry says of them, within MaxManifest.
func (f fetcher) read(ctx context.Context, reference string) (bundle.Descriptor, []byte, error) {
	object := f.object(reference)
	for attempt := 1; ; attempt++ {
		desc, rc, err := f.repo.Manifests().FetchReference(ctx, reference)
		if err != nil {
			return desc, nil, remote.Explain(err, object)
		}
		if desc.Size > archive.MaxManifest {
			rc.Close()
			return desc, nil, tooLarge(object)
		}
		raw, err := io.ReadAll(io.LimitReader(rc, archive.MaxManifest+1))
		rc.Close()
		switch {
		case err != nil && attempt < bodyAttempts && ctx.Err() == nil:
			continue
		case err != nil:
			return desc, nil, remote.Explain(err, object)
		case len(raw) > archive.MaxManifest:
			return desc, nil, tooLarge(object)
		case int64(len(raw)) != desc.Size:
			return desc, nil, &FormatError{Object: object, Reason: fmt.Sprintf("the registry says %d bytes and serves %d", desc.Size, len(raw))}
		}
		return desc, raw, nil
	}
}

func tooLarge(object string) error {
	return &FormatError{Object: object, Reason: fmt.Sprintf("manifest larger than %d bytes", archive.MaxManifest)}
}

// mediaTypePattern is RFC 6838 section 4.2 with room for parameters.
var mediaTypePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][ -~]{0,126}$`)

// checkBlobs checks what ParseNode leaves open: media types, and the size of
// children, which are fetched whole.
func checkBlobs(n bundle.Node) error {
	if n.ArtifactType != "" && !mediaTypePattern.MatchString(n.ArtifactType) {
		return fmt.Errorf("malformed artifactType %q", n.ArtifactType)
	}
	for _, d := range slices.Concat(n.Blobs(), n.Children) {
		if !mediaTypePattern.MatchString(d.MediaType) {
			return fmt.Errorf("%s has the malformed media type %q", d.Digest, d.MediaType)
		}
	}
	for _, d := range n.Children {
		if d.Size > archive.MaxManifest {
			return fmt.Errorf("child %s: %d bytes, at most %d allowed", d.Digest, d.Size, archive.MaxManifest)
		}
		if !bundle.IsIndex(d.MediaType) && !bundle.IsManifest(d.MediaType) {
			return fmt.Errorf("child %s: media type %q is neither manifest nor index", d.Digest, d.MediaType)
		}
	}
	return nil
}

// config reads a config of at most MaxConfig.
func (f fetcher) config(ctx context.Context, desc bundle.Descriptor) ([]byte, error) {
	object := f.object(desc.Digest.String())
	if desc.Size > archive.MaxConfig {
		return nil, &FormatError{Object: object, Reason: fmt.Sprintf("config larger than %d bytes", archive.MaxConfig)}
	}
	for attempt := 1; ; attempt++ {
		rc, err := f.repo.Blobs().Fetch(ctx, desc)
		if err != nil {
			return nil, remote.Explain(err, object)
		}
		raw, err := io.ReadAll(io.LimitReader(rc, desc.Size+1))
		err = errors.Join(err, rc.Close())
		if err != nil && attempt < bodyAttempts && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return nil, remote.Explain(err, object)
		}
		if got := digest.FromBytes(raw); got != desc.Digest {
			return nil, &DigestError{Object: object, Want: desc.Digest, Got: got}
		}
		return raw, nil
	}
}
