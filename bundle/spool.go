package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Spool holds content that Airlock makes (compressed layers of docker-save
// images, packed files, manifests) between the moment its digest becomes known
// and the moment it is written to its place in the bundle. It is a directory
// of files named by digest; several goroutines may use it.
type Spool struct {
	root *os.Root
}

// OpenSpool opens dir as a spool, creating it with mode 0700.
func OpenSpool(dir string) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create spool: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	return &Spool{root: root}, nil
}

// Close releases the directory handle. It deletes nothing.
func (s *Spool) Close() error { return s.root.Close() }

// Add stores what r yields and returns its descriptor.
func (s *Spool) Add(mediaType string, r io.Reader) (Descriptor, error) {
	w, err := s.Create()
	if err != nil {
		return Descriptor{}, err
	}
	defer w.Abort()
	if _, err := io.Copy(w, r); err != nil {
		return Descriptor{}, err
	}
	return w.Commit(mediaType)
}

// AddBytes stores b.
func (s *Spool) AddBytes(mediaType string, b []byte) (Descriptor, error) {
	return s.Add(mediaType, bytes.NewReader(b))
}

// AddZstd stores what r yields, compressed the one way Airlock compresses what
// it makes, and also returns the digest and size of the uncompressed bytes.
func (s *Spool) AddZstd(mediaType string, r io.Reader) (desc Descriptor, plain digest.Digest, plainSize int64, err error) {
	w, err := s.Create()
	if err != nil {
		return Descriptor{}, "", 0, err
	}
	defer w.Abort()
	z, err := NewZstdWriter(w)
	if err != nil {
		return Descriptor{}, "", 0, err
	}
	h := sha256.New()
	plainSize, err = io.Copy(io.MultiWriter(z, h), r)
	if err := errors.Join(err, z.Close()); err != nil {
		return Descriptor{}, "", 0, err
	}
	desc, err = w.Commit(mediaType)
	return desc, digest.NewDigestFromBytes(digest.SHA256, h.Sum(nil)), plainSize, err
}

// NewZstdWriter compresses the one way Airlock compresses what it makes: the
// same input gives the same bytes on every machine with the same klauspost
// release, which golden tests pin. One goroutine, because the encoder's output
// must not depend on the number of cores.
func NewZstdWriter(w io.Writer) (*zstd.Encoder, error) {
	return zstd.NewWriter(w,
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithWindowSize(1<<20))
}

// Has reports whether the spool holds desc, by name and size.
func (s *Spool) Has(desc Descriptor) bool {
	fi, err := s.root.Stat(desc.Digest.Encoded())
	return err == nil && fi.Size() == desc.Size
}

// Open opens stored content. The caller closes it.
func (s *Spool) Open(desc Descriptor) (io.ReadCloser, error) {
	f, err := s.root.Open(desc.Digest.Encoded())
	if err != nil {
		return nil, fmt.Errorf("open spooled %s: %w", desc.Digest, err)
	}
	return f, nil
}

// Create starts a new entry.
func (s *Spool) Create() (*SpoolWriter, error) {
	for i := 0; ; i++ {
		name := fmt.Sprintf("incoming-%d-%d", os.Getpid(), i)
		f, err := s.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("create spool entry: %w", err)
		}
		return &SpoolWriter{spool: s, name: name, f: f, h: sha256.New()}, nil
	}
}

// SpoolWriter writes one entry and hashes it on its way.
type SpoolWriter struct {
	spool *Spool
	name  string
	f     *os.File
	h     hash.Hash
	n     int64
	done  bool
}

// Write implements io.Writer.
func (w *SpoolWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.h.Write(p[:n])
	w.n += int64(n)
	return n, err
}

// Commit gives the entry its name and returns its descriptor.
func (w *SpoolWriter) Commit(mediaType string) (Descriptor, error) {
	if w.done {
		return Descriptor{}, errors.New("spool entry is already finished")
	}
	if err := w.f.Close(); err != nil {
		return Descriptor{}, fmt.Errorf("close spool entry: %w", err)
	}
	sum := hex.EncodeToString(w.h.Sum(nil))
	if err := w.spool.root.Rename(w.name, sum); err != nil {
		return Descriptor{}, fmt.Errorf("name spool entry: %w", err)
	}
	w.done = true
	return Descriptor{MediaType: mediaType, Digest: digest.NewDigestFromEncoded(digest.SHA256, sum), Size: w.n}, nil
}

// Abort removes an entry that was not committed; after Commit it does nothing.
func (w *SpoolWriter) Abort() {
	if w.done {
		return
	}
	w.done = true
	// The directory is ours and is removed whole after the bundle is written: a
	// leftover costs space, not correctness.
	_ = w.f.Close()
	_ = w.spool.root.Remove(w.name)
}

// EmptyConfig is the descriptor of the empty JSON object (image-spec 1.1,
// manifest.md "Guidance for an Empty Descriptor").
func EmptyConfig() Descriptor {
	d := ocispec.DescriptorEmptyJSON
	d.Data = nil
	return d
}

// PackArtifact stores an OCI artifact manifest (image-spec 1.1) over layers in
// the spool. A config without digest means the empty one. The manifest's bytes
// depend on nothing but the arguments.
func PackArtifact(s *Spool, artifactType string, config Descriptor, layers []Descriptor, annotations map[string]string) (Manifest, error) {
	if config.Digest == "" {
		config = EmptyConfig()
		if _, err := s.AddBytes(config.MediaType, ocispec.DescriptorEmptyJSON.Data); err != nil {
			return Manifest{}, err
		}
	}
	return PackManifest(s, ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: artifactType,
		Config:       config,
		Layers:       layers,
		Annotations:  annotations,
	})
}

// PackManifest stores an image manifest in the spool as a root.
func PackManifest(s *Spool, m ocispec.Manifest) (Manifest, error) {
	raw, err := json.Marshal(m)
	if err != nil {
		return Manifest{}, fmt.Errorf("encode manifest: %w", err)
	}
	desc, err := s.AddBytes(m.MediaType, raw)
	if err != nil {
		return Manifest{}, err
	}
	desc.ArtifactType = m.ArtifactType
	return Manifest{Descriptor: desc, Role: RoleRoot, Raw: raw}, nil
}
