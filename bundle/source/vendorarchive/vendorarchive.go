// Package vendorarchive carries the content of a vendor's release archive: a
// .tar.gz with docker-save tars and files, listed in a SHA256SUMS file that has
// a detached OpenPGP signature.
//
// Nothing of the archive is used before the whole chain holds: signature over
// checksums by the expected key, checksum over the archive. The archive is read
// twice and never unpacked. The first pass hashes it; the second takes images
// and files out of the stream into the spool and hashes it again, and if the
// bytes changed in between nothing leaves the spool.
//
// Beside the images and files a third kind of item is made: the vendor artifact,
// which holds the vendor's checksums, signature and key as they are and a
// [Statement], so that the chain can be checked again inside the gap.
//
// The versions that the archive's name, its top directory, its file "version",
// its images' RepoTags and the definition's references speak of must agree;
// those that speak of none are not compared.
package vendorarchive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/airlock-project/airlock/bundle/source/dockerarchive"
	"github.com/airlock-project/airlock/bundle/source/file"
	"github.com/airlock-project/airlock/manifests"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Options say how an archive is packed.
type Options struct {
	file.Options
	// Now is the clock by which the vendor's key must not have expired; nil means
	// time.Now.
	Now func() time.Time
}

// Source carries a vendor archive. It implements bundle.Source.
type Source struct {
	spool *bundle.Spool
	entry manifests.Archive
	opts  Options
}

// New returns the source of an archives entry. Nothing is opened before Resolve.
func New(spool *bundle.Spool, entry manifests.Archive, opts Options) *Source {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Source{spool: spool, entry: entry, opts: opts}
}

// Origin implements bundle.Source.
func (s *Source) Origin() string {
	return fmt.Sprintf("archive %s from %s", s.entry.Name, s.entry.Path)
}

// Open implements bundle.Source.
func (s *Source) Open(_ context.Context, _ bundle.Pin, desc bundle.Descriptor) (io.ReadCloser, error) {
	return s.spool.Open(desc)
}

// Resolve checks the archive and returns the pin of each image, each file and,
// last, the vendor artifact.
//
// Errors that say what is wrong with the archive: *SignerError, *SignatureError,
// *KeyError, *ChecksumError, *MissingMemberError, *VersionError, and those of
// dockerarchive.Read.
func (s *Source) Resolve(ctx context.Context, _ []bundle.Pin) ([]bundle.Pin, error) {
	pins, err := s.resolve(ctx)
	if err != nil {
		return nil, fmt.Errorf("read archive %q: %w", s.entry.Name, err)
	}
	return pins, nil
}

func (s *Source) resolve(ctx context.Context) ([]bundle.Pin, error) {
	want, err := s.wanted()
	if err != nil {
		return nil, err
	}
	p, err := s.proof()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(s.opts.Path(s.entry.Path))
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a file", s.entry.Path)
	}
	s.opts.Listen.Send(bundle.Event{Op: "resolve", Object: s.Origin(), Total: 2 * fi.Size()})
	defer s.opts.Listen.Send(bundle.Event{Op: "resolve", Object: s.Origin(), Done: true})
	size, err := s.hash(ctx, f, p)
	if err != nil {
		return nil, err
	}
	if err := s.unpack(ctx, f, p, want); err != nil {
		return nil, err
	}
	return s.pins(p, want, size)
}

// proof is what stands beside an archive, checked.
type proof struct {
	sums, sig, key []byte
	fingerprint    string
	name           string // base name of the archive
	sum            string // its sha256 by the checksums, hex
}

// proof reads and checks the checksums, their signature and the key.
func (s *Source) proof() (*proof, error) {
	p := &proof{name: filepath.Base(s.entry.Path)}
	for _, part := range []struct {
		to   *[]byte
		what string
		path string
		max  int64
	}{
		{&p.sums, "sums", s.entry.Sums, MaxSums},
		{&p.sig, "signature", s.entry.Signature, MaxSignature},
		{&p.key, "signer.key", s.entry.Signer.Key, MaxKey},
	} {
		b, err := readSmall(s.opts.Path(part.path), part.max)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", part.what, err)
		}
		*part.to = b
	}
	var err error
	if p.fingerprint, err = NormalFingerprint(s.entry.Signer.Fingerprint); err != nil {
		return nil, fmt.Errorf("read signer.fingerprint: %w", err)
	}
	if err := CheckSignature(p.sums, p.sig, p.key, p.fingerprint, s.opts.Now()); err != nil {
		return nil, err
	}
	p.sum, err = FindSum(p.sums, p.name)
	return p, err
}

// readSmall reads a file whole, if it has at most max bytes.
func readSmall(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("%q has more than %d bytes", path, max)
	}
	return b, nil
}

// hash is the first pass: the archive's checksum.
func (s *Source) hash(ctx context.Context, f io.ReadSeeker, p *proof) (int64, error) {
	h := sha256.New()
	size, err := io.CopyBuffer(h, artifact.Watch(ctx, f, s.opts.Listen, s.Origin()), make([]byte, 1<<18))
	if err != nil {
		return 0, err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != p.sum {
		return 0, &ChecksumError{Name: p.name, Want: p.sum, Got: got}
	}
	_, err = f.Seek(0, io.SeekStart)
	return size, err
}

// wanted is what the definition asks for, by path below the top directory. The
// results are filled in by the second pass.
type wanted struct {
	images map[string]*imageResult
	files  map[string]*fileResult
}

type imageResult struct {
	as    string
	image *dockerarchive.Image
}

type fileResult struct {
	item   bundle.Item
	packed *artifact.Packed
}

// wanted checks the entry and indexes it by path.
func (s *Source) wanted() (*wanted, error) {
	if _, err := artifact.Ref("vendor", s.entry.Name, s.opts.Version); err != nil {
		return nil, err
	}
	if len(s.entry.Images)+len(s.entry.Files) == 0 {
		return nil, errors.New("the definition takes no images and no files from it")
	}
	w := &wanted{images: map[string]*imageResult{}, files: map[string]*fileResult{}}
	claim := func(path string) error {
		clean, err := artifact.MemberName(path)
		if err != nil {
			return err
		}
		if clean != path || clean == "." {
			return fmt.Errorf("path %q is not in its plain form, %q", path, clean)
		}
		if w.images[path] != nil || w.files[path] != nil {
			return fmt.Errorf("path %q is asked for twice", path)
		}
		return nil
	}
	for _, i := range s.entry.Images {
		if err := errors.Join(claim(i.Path), dockerarchive.CheckAs(i.As)); err != nil {
			return nil, err
		}
		w.images[i.Path] = &imageResult{as: i.As}
	}
	for _, f := range s.entry.Files {
		ref, err := artifact.Ref("files", f.Name, s.opts.Version)
		if err := errors.Join(claim(f.Path), err); err != nil {
			return nil, err
		}
		w.files[f.Path] = &fileResult{item: bundle.Item{Kind: bundle.KindFile, Name: f.Name, Ref: ref}}
	}
	return w, nil
}

// pins turns what the second pass found into pins and makes the vendor artifact.
func (s *Source) pins(p *proof, w *wanted, size int64) ([]bundle.Pin, error) {
	st := &Statement{
		Version:   1,
		Archive:   Archive{Name: p.name, SHA256: p.sum, Size: size},
		Signer:    p.fingerprint,
		Sums:      sha256Hex(p.sums),
		Signature: sha256Hex(p.sig),
		Key:       sha256Hex(p.key),
		Images:    []Image{},
		Files:     []File{},
	}
	var pins []bundle.Pin
	for _, i := range s.entry.Images {
		img := w.images[i.Path].image
		pins = append(pins, img.Pin(i.As, s.Origin()))
		st.Images = append(st.Images, imageRecord(i, img))
	}
	for _, f := range s.entry.Files {
		r := w.files[f.Path]
		pins = append(pins, r.packed.Pin(r.item, s.Origin()))
		st.Files = append(st.Files, fileRecord(f, r.packed))
	}
	vendor, err := s.vendorPin(p, st)
	if err != nil {
		return nil, err
	}
	return append(pins, vendor), nil
}

func imageRecord(i manifests.ArchiveImage, img *dockerarchive.Image) Image {
	r := Image{
		Ref: i.As, Path: i.Path, RepoTags: img.RepoTags, ConfigDigest: img.ConfigDigest, DiffIDs: img.DiffIDs,
		ManifestDigest: img.Manifests[0].Digest,
	}
	if p := img.Platform; p != nil {
		r.Platform = p.OS + "/" + p.Architecture
		if p.Variant != "" {
			r.Platform += "/" + p.Variant
		}
	}
	return r
}

func fileRecord(f manifests.ArchiveFile, p *artifact.Packed) File {
	return File{
		Name: f.Name, Path: f.Path, SHA256: p.Meta.SHA256, Size: p.Meta.Size, Mode: modeString(p.Meta.Mode),
		ELFMachine: p.Meta.ELFMachine, ManifestDigest: p.Manifest.Digest,
	}
}

// vendorPin makes the vendor artifact. The order of its layers is what [Layers]
// reads.
func (s *Source) vendorPin(p *proof, st *Statement) (bundle.Pin, error) {
	statement, err := st.Encode()
	if err != nil {
		return bundle.Pin{}, err
	}
	if _, err := ParseStatement(statement); err != nil { // what cannot be read inside must not leave
		return bundle.Pin{}, err
	}
	var layers []bundle.Descriptor
	for _, l := range []struct {
		mediaType, title string
		data             []byte
	}{
		{MediaTypeSums, filepath.Base(s.entry.Sums), p.sums},
		{MediaTypeSignature, filepath.Base(s.entry.Signature), p.sig},
		{MediaTypeKey, filepath.Base(s.entry.Signer.Key), p.key},
		{bundle.MediaTypeVendor, "statement.json", statement},
	} {
		d, err := s.spool.AddBytes(l.mediaType, l.data)
		if err != nil {
			return bundle.Pin{}, err
		}
		d.Annotations = map[string]string{ocispec.AnnotationTitle: l.title}
		layers = append(layers, d)
	}
	m, err := bundle.PackArtifact(s.spool, bundle.MediaTypeVendor, bundle.Descriptor{}, layers, nil)
	if err != nil {
		return bundle.Pin{}, err
	}
	ref, err := artifact.Ref("vendor", s.entry.Name, s.opts.Version)
	item := bundle.Item{Kind: bundle.KindVendor, Name: s.entry.Name, Ref: ref}
	return artifact.Pin(item, s.Origin(), m, layers...), err
}
