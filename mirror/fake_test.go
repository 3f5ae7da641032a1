package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/verify"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var _ source = (*verify.Bundle)(nil)

// fakeBundle keeps what *verify.Bundle promises, without files and signatures.
type fakeBundle struct {
	t         testing.TB
	blobs     map[digest.Digest][]byte
	manifests map[digest.Digest]bundle.Descriptor
	entries   []bundle.Entry

	mu      sync.Mutex
	corrupt map[digest.Digest]bool
	fetched map[digest.Digest]int
}

type corruptError struct{ digest digest.Digest }

func (e *corruptError) Error() string { return fmt.Sprintf("content of %s is damaged", e.digest) }

func newFake(t testing.TB) *fakeBundle {
	return &fakeBundle{
		t:         t,
		blobs:     map[digest.Digest][]byte{},
		manifests: map[digest.Digest]bundle.Descriptor{},
		corrupt:   map[digest.Digest]bool{},
		fetched:   map[digest.Digest]int{},
	}
}

func (f *fakeBundle) Info() verify.Info { return verify.Info{Digest: digest.FromString("bundle")} }

func (f *fakeBundle) Items() iter.Seq2[bundle.Entry, error] {
	return func(yield func(bundle.Entry, error) bool) {
		for _, e := range f.entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (f *fakeBundle) Manifest(d digest.Digest) ([]byte, bundle.Descriptor, bool) {
	desc, ok := f.manifests[d]
	return f.blobs[d], desc, ok
}

func (f *fakeBundle) Predecessors(_ context.Context, desc bundle.Descriptor) ([]bundle.Descriptor, error) {
	var list []bundle.Descriptor
	for d, m := range f.manifests {
		if bytes.Contains(f.blobs[d], []byte(desc.Digest)) {
			list = append(list, m)
		}
	}
	return list, nil
}

func (f *fakeBundle) Fetch(_ context.Context, desc bundle.Descriptor) (io.ReadCloser, error) {
	raw, ok := f.blobs[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("blob %s is not carried", desc.Digest)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fetched[desc.Digest]++
	if !f.corrupt[desc.Digest] {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}
	held := io.MultiReader(bytes.NewReader(raw[:len(raw)-1]), failing{&corruptError{desc.Digest}})
	return io.NopCloser(held), nil
}

type failing struct{ err error }

func (r failing) Read([]byte) (int, error) { return 0, r.err }

func (f *fakeBundle) blob(mediaType string, raw []byte) ocispec.Descriptor {
	d := digest.FromBytes(raw)
	f.blobs[d] = raw
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}
}

// layer makes n bytes that depend on seed only.
func (f *fakeBundle) layer(seed uint64, n int) ocispec.Descriptor {
	raw := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(raw) // never fails
	return f.blob(ocispec.MediaTypeImageLayerGzip, raw)
}

// manifest stores a manifest or index.
func (f *fakeBundle) manifest(mediaType string, v any) ocispec.Descriptor {
	raw, err := json.Marshal(v)
	if err != nil {
		f.t.Fatal(err)
	}
	desc := f.blob(mediaType, raw)
	f.manifests[desc.Digest] = desc
	return desc
}

// image makes an image manifest; config tells images apart.
func (f *fakeBundle) image(config string, layers ...ocispec.Descriptor) ocispec.Descriptor {
	return f.manifest(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    f.blob(ocispec.MediaTypeImageConfig, fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","author":%q}`, config)),
		Layers:    layers,
	})
}

func (f *fakeBundle) index(annotations map[string]string, children ...ocispec.Descriptor) ocispec.Descriptor {
	return f.manifest(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispec.MediaTypeImageIndex,
		Manifests:   children,
		Annotations: annotations,
	})
}

// artifact makes a referrer of subject.
func (f *fakeBundle) artifact(artifactType, content string, subject ocispec.Descriptor) ocispec.Descriptor {
	return f.manifest(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: artifactType,
		Config:       f.blob(ocispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers:       []ocispec.Descriptor{f.blob("text/plain", []byte(content))},
		Subject:      &subject,
		Annotations:  map[string]string{"made-by": "test"},
	})
}

func (f *fakeBundle) entry(kind, ref, role string, desc ocispec.Descriptor) {
	f.entries = append(f.entries, bundle.Entry{
		Descriptor: desc, Item: bundle.Item{Kind: kind, Name: ref, Ref: ref}, Role: role,
	})
}

func (f *fakeBundle) root(ref string, desc ocispec.Descriptor) {
	f.entry(bundle.KindImage, ref, bundle.RoleRoot, desc)
}

func (f *fakeBundle) setCorrupt(d digest.Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.corrupt[d] = true
}

// signed makes an index of two platforms that share a layer, with an SBOM
// signed by a referrer and a cosign signature by tag.
func signed(f *fakeBundle) (index, sbom, sbomSig, cosign ocispec.Descriptor) {
	shared := f.layer(1, 3<<20)
	amd := f.image("amd64", shared, f.layer(2, 70_000))
	arm := f.image("arm64", shared, f.layer(3, 60_000))
	amd.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	index = f.index(nil, amd, arm)
	f.root("quay.io/jetstack/x:v1", index)
	f.entry(bundle.KindImage, "quay.io/jetstack/x:v1", bundle.RoleChild, amd)
	f.entry(bundle.KindImage, "quay.io/jetstack/x:v1", bundle.RoleChild, arm)
	sbom = f.artifact("application/spdx+json", "sbom", index)
	f.entry(bundle.KindImage, "", bundle.RoleReferrer, sbom)
	sbomSig = f.artifact("application/vnd.test.signature", "signature of the sbom", sbom)
	f.entry(bundle.KindImage, "", bundle.RoleReferrer, sbomSig)
	cosign = f.image("cosign", f.blob("application/vnd.dev.cosign.simplesigning.v1+json", []byte("payload")))
	f.entry(bundle.KindImage, "quay.io/jetstack/x:sha256-"+index.Digest.Encoded()+".sig", bundle.RoleCosignTag, cosign)
	return index, sbom, sbomSig, cosign
}

func as[E error](t *testing.T, err error) E {
	t.Helper()
	e, ok := errors.AsType[E](err)
	if !ok {
		t.Fatalf("error %v (%T) is no %T", err, err, e)
	}
	return e
}
