package bundle_test

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/verify"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestMemory creates and verifies half a GiB of zeros within little memory.
func TestMemory(t *testing.T) {
	const size = 512 << 20
	spool := fixture.Spool(t)
	s, err := newZeros(spool, size)
	if err != nil {
		t.Fatal(err)
	}
	p := fixture.Plan(t, spool, s)
	path := filepath.Join(t.TempDir(), "x")
	k, pub := fixture.Key(t)
	policy, err := verify.KeyPolicy(pub)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	create(t, p, bundle.CreateOptions{Output: path, Sign: fixture.Signer(k)})
	b, err := verify.Open(t.Context(), path, policy, verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.VerifyAll(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 64<<20 {
		t.Errorf("the heap grew by %d MB", grown>>20)
	}
}

// zeros is an image with one layer of zeros that exists nowhere.
type zeros struct {
	pin   bundle.Pin
	layer bundle.Descriptor
}

func newZeros(spool *bundle.Spool, size int64) (*zeros, error) {
	h := digest.SHA256.Digester()
	if _, err := io.CopyN(h.Hash(), zeroReader{}, size); err != nil {
		return nil, err
	}
	s := &zeros{layer: bundle.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: h.Digest(), Size: size}}
	m, err := bundle.PackArtifact(spool, "application/vnd.example", bundle.Descriptor{}, []bundle.Descriptor{s.layer}, nil)
	if err != nil {
		return nil, err
	}
	m.Ref = "example.com/zeros:1"
	s.pin = bundle.Pin{Item: bundle.Item{Kind: bundle.KindImage, Name: "zeros", Ref: m.Ref}, Manifests: []bundle.Manifest{m}, Blobs: []bundle.Descriptor{bundle.EmptyConfig(), s.layer}}
	return s, nil
}

func (s *zeros) Origin() string { return "zeros" }

func (s *zeros) Resolve(context.Context, []bundle.Pin) ([]bundle.Pin, error) {
	return []bundle.Pin{s.pin}, nil
}

func (s *zeros) Open(_ context.Context, _ bundle.Pin, d bundle.Descriptor) (io.ReadCloser, error) {
	if d.Digest != s.layer.Digest {
		return nil, fmt.Errorf("unknown blob %s", d.Digest)
	}
	return io.NopCloser(io.LimitReader(zeroReader{}, d.Size)), nil
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
