package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// image is one of the two inputs.
type image struct {
	repo, tag string
	manifest  ocispec.Descriptor
	blobs     []ocispec.Descriptor // the config first
}

// inputs are the images in an OCI layout on disk.
type inputs struct {
	dir    string
	images []image
	unique []ocispec.Descriptor // every distinct config and layer
	bytes  int64                // of unique and of the manifests
}

// Layer sizes in kB of gzip: a base and a runtime that both images share, and
// what each has to itself. 391 MB in all, images of 369 and 280 MB.
var (
	sharedLayers = []int{121_000, 81_000, 40_000, 12_000, 3_300}
	ownLayers    = [][]int{{74_000, 26_000, 10_400, 1_290}, {14_500, 6_900, 1_300}}
)

// makeInputs writes the images under dir. The same program makes the same bytes.
func makeInputs(dir string) (*inputs, error) {
	in := &inputs{dir: dir}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return nil, err
	}
	seed := byte(0)
	layers := func(sizes []int) (out []layer, err error) {
		for _, kb := range sizes {
			seed++
			l, err := in.layer(seed, int64(kb)*1000)
			if err != nil {
				return nil, err
			}
			in.unique = append(in.unique, l.desc)
			out = append(out, l)
		}
		return out, nil
	}
	shared, err := layers(sharedLayers)
	if err != nil {
		return nil, err
	}
	for i, sizes := range ownLayers {
		own, err := layers(sizes)
		if err != nil {
			return nil, err
		}
		img, err := in.image(fmt.Sprintf("bench/app%d", i+1), append(shared[:len(shared):len(shared)], own...))
		if err != nil {
			return nil, err
		}
		in.images = append(in.images, img)
		in.unique = append(in.unique, img.blobs[0])
		in.bytes += img.manifest.Size
	}
	for _, d := range in.unique {
		in.bytes += d.Size
	}
	return in, in.index()
}

type layer struct {
	desc   ocispec.Descriptor
	diffID digest.Digest
}

// layer writes a gzip tar of about size bytes: files of random bytes with words
// between them, which compress by a fifth, as binaries in layers do at best.
func (in *inputs) layer(seed byte, size int64) (layer, error) {
	f, err := os.CreateTemp(in.dir, "layer-")
	if err != nil {
		return layer{}, err
	}
	defer f.Close()
	packed, plain := &counter{w: f, h: sha256.New()}, sha256.New()
	zw, err := gzip.NewWriterLevel(packed, gzip.BestSpeed)
	if err != nil {
		return layer{}, err
	}
	tw := tar.NewWriter(io.MultiWriter(zw, plain))
	rnd := rand.NewChaCha8([32]byte{seed})
	data := make([]byte, 1<<20)
	for i := 0; packed.n < size; i++ {
		n := min(int64(len(data)), max(size-packed.n, 512))
		fill(rnd, data[:n])
		h := &tar.Header{Name: fmt.Sprintf("opt/%03d/%05d", seed, i), Mode: 0o755, Size: n, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if err := tw.WriteHeader(h); err != nil {
			return layer{}, err
		}
		if _, err := tw.Write(data[:n]); err != nil {
			return layer{}, err
		}
	}
	if err := tw.Close(); err != nil {
		return layer{}, err
	}
	if err := zw.Close(); err != nil {
		return layer{}, err
	}
	d := digest.NewDigest(digest.SHA256, packed.h)
	l := layer{ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: d, Size: packed.n}, digest.NewDigest(digest.SHA256, plain)}
	return l, os.Rename(f.Name(), in.path(d))
}

// fill makes four fifths of b random and the rest words.
func fill(rnd *rand.ChaCha8, b []byte) {
	const piece = 4096
	for len(b) > 0 {
		n := min(piece, len(b))
		_, _ = rnd.Read(b[:n]) // never fails
		for i := n * 4 / 5; i < n; i++ {
			b[i] = "the quick brown fox jumps over the lazy dog "[i%44]
		}
		b = b[n:]
	}
}

// counter counts and hashes what passes.
type counter struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.h.Write(p[:n])
	c.n += int64(n)
	return n, err
}

func (in *inputs) path(d digest.Digest) string {
	return filepath.Join(in.dir, "blobs", "sha256", d.Encoded())
}

// image writes the config and manifest over layers.
func (in *inputs) image(repo string, layers []layer) (image, error) {
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}, Author: repo}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
		m.Layers = append(m.Layers, l.desc)
	}
	var err error
	if m.Config, err = in.document(ocispec.MediaTypeImageConfig, config); err != nil {
		return image{}, err
	}
	desc, err := in.document(m.MediaType, m)
	return image{repo: repo, tag: "v1", manifest: desc, blobs: append([]ocispec.Descriptor{m.Config}, m.Layers...)}, err
}

func (in *inputs) document(mediaType string, v any) (ocispec.Descriptor, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return d, os.WriteFile(in.path(d.Digest), raw, 0o644)
}

// index completes the layout, for skopeo.
func (in *inputs) index() error {
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, img := range in.images {
		d := img.manifest
		d.Annotations = map[string]string{ocispec.AnnotationRefName: filepath.Base(img.repo)}
		idx.Manifests = append(idx.Manifests, d)
	}
	raw, err := json.Marshal(idx)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(in.dir, "index.json"), raw, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(in.dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}
