package vendor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/source/vendorarchive"
	"github.com/airlock-project/airlock/install"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// carried is a bundle as far as the probe reads it.
type carried struct {
	entries []bundle.Entry
	blobs   map[digest.Digest][]byte
}

func (c *carried) Items() iter.Seq2[bundle.Entry, error] {
	return func(yield func(bundle.Entry, error) bool) {
		for _, e := range c.entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (c *carried) Manifest(d digest.Digest) ([]byte, bundle.Descriptor, bool) {
	raw, ok := c.blobs[d]
	return raw, bundle.Descriptor{Digest: d, Size: int64(len(raw))}, ok
}

func (c *carried) ReadBlob(_ context.Context, desc bundle.Descriptor) ([]byte, error) {
	raw, ok := c.blobs[desc.Digest]
	if !ok {
		return nil, errors.New("no such blob")
	}
	return raw, nil
}

func (c *carried) add(media string, data []byte) bundle.Descriptor {
	d := digest.FromBytes(data)
	c.blobs[d] = data
	return bundle.Descriptor{MediaType: media, Digest: d, Size: int64(len(data))}
}

// release is a vendor's release and what a bundle carries of it.
type release struct {
	carried
	sums, sig, key []byte
	finger         string
	st             *vendorarchive.Statement
}

func hexOf(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func newRelease(t *testing.T) *release {
	t.Helper()
	r := &release{carried: carried{blobs: make(map[digest.Digest][]byte)}}
	who, err := openpgp.NewEntity("vendor", "", "vendor@example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.finger = fmt.Sprintf("%X", who.PrimaryKey.Fingerprint)
	archive := hexOf([]byte("the archive"))
	r.sums = []byte(archive + "  product-v1.tar.gz\n")
	var sig, key bytes.Buffer
	if err := openpgp.DetachSign(&sig, who, bytes.NewReader(r.sums), nil); err != nil {
		t.Fatal(err)
	}
	if err := who.Serialize(&key); err != nil {
		t.Fatal(err)
	}
	r.sig, r.key = sig.Bytes(), key.Bytes()
	diff := digest.FromString("layer")
	config := r.add(ocispec.MediaTypeImageConfig, encode(t, ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diff}}}))
	image := r.add(ocispec.MediaTypeImageManifest, encode(t, ocispec.Manifest{Config: config}))
	r.st = &vendorarchive.Statement{
		Version: 1, Archive: vendorarchive.Archive{Name: "product-v1.tar.gz", SHA256: archive, Size: 11}, Signer: r.finger,
		Sums: hexOf(r.sums), Signature: hexOf(r.sig), Key: hexOf(r.key), Files: []vendorarchive.File{},
		Images: []vendorarchive.Image{{Ref: "backend:v1", Path: "backend.tar", ConfigDigest: config.Digest, DiffIDs: []digest.Digest{diff}, ManifestDigest: image.Digest}},
	}
	return r
}

// pack carries the vendor item.
func (r *release) pack(t *testing.T) {
	t.Helper()
	statement, err := r.st.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m := encode(t, ocispec.Manifest{ArtifactType: bundle.MediaTypeVendor, Layers: []ocispec.Descriptor{
		r.add(vendorarchive.MediaTypeSums, r.sums), r.add(vendorarchive.MediaTypeSignature, r.sig), r.add(vendorarchive.MediaTypeKey, r.key),
		r.add(bundle.MediaTypeVendor, statement),
	}})
	desc := r.add(ocispec.MediaTypeImageManifest, m)
	r.entries = append(r.entries, bundle.Entry{Descriptor: desc, Item: bundle.Item{Kind: bundle.KindVendor, Name: "vendor"}, Role: bundle.RoleRoot})
}

func TestChain(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(r *release)
		with map[string]any
		want []string
	}{
		"whole":             {func(*release) {}, nil, nil},
		"by name":           {func(*release) {}, map[string]any{"name": "vendor"}, nil},
		"other name":        {func(*release) {}, map[string]any{"name": "else"}, []string{"ARC-03"}},
		"other fingerprint": {func(*release) {}, map[string]any{"fingerprint": "175FD97AD2358EFE02832978E302FB5AA29D88F7"}, []string{"ARC-02"}},
		"sums changed":      {func(r *release) { r.sums = bytes.Replace(r.sums, []byte("product"), []byte("Product"), 1) }, nil, []string{"ARC-02"}},
		"other archive":     {func(r *release) { r.st.Archive.SHA256 = hexOf([]byte("another")) }, nil, []string{"ARC-01"}},
		"other sums file":   {func(r *release) { r.st.Sums = hexOf(nil) }, nil, []string{"ARC-04"}},
		"image not carried": {func(r *release) { r.st.Images[0].ManifestDigest = digest.FromString("x") }, nil, []string{"ARC-04"}},
		"other layers":      {func(r *release) { r.st.Images[0].DiffIDs = []digest.Digest{digest.FromString("x")} }, nil, []string{"ARC-04"}},
		"other config":      {func(r *release) { r.st.Images[0].ConfigDigest = digest.FromString("x") }, nil, []string{"ARC-04"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelease(t)
			c.edit(r)
			r.pack(t)
			with := map[string]any{"fingerprint": r.finger}
			maps.Copy(with, c.with)
			res, err := run(t.Context(), r, install.Input{With: with})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range res.Findings {
				got = append(got, f.Code)
				for field := range f.Fields {
					if !slices.Contains(Probe{}.Codes()[f.Code], field) {
						t.Errorf("field %s is not listed with %s", field, f.Code)
					}
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("%s\n%+v", d, res.Findings)
			}
			if c.want == nil && res.Outputs["vendor.images"] != int64(1) {
				t.Errorf("outputs %v", res.Outputs)
			}
		})
	}
}

func TestNothingCarried(t *testing.T) {
	r := newRelease(t)
	res, err := run(t.Context(), r, install.Input{With: map[string]any{"fingerprint": r.finger}})
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "ARC-03" {
		t.Errorf("%+v, %v", res, err)
	}
	r.pack(t)
	r.pack(t)
	if res, err = run(t.Context(), r, install.Input{With: map[string]any{"fingerprint": r.finger}}); err != nil || len(res.Findings) != 1 {
		t.Errorf("two items: %+v, %v", res, err)
	}
	if _, err := run(t.Context(), r, install.Input{}); err == nil {
		t.Error("no fingerprint is accepted")
	}
}
