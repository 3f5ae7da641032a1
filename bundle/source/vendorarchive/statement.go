package vendorarchive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of the layers of a vendor artifact; the statement's is
// bundle.MediaTypeVendor.
const (
	MediaTypeSums      = "text/plain"
	MediaTypeSignature = "application/pgp-signature" // RFC 3156, binary or armored as the vendor wrote it
	MediaTypeKey       = "application/pgp-keys"
)

// MaxStatement bounds a statement, in bytes: a thousand images of a hundred
// layers.
const MaxStatement = 8 << 20

// Statement says what became of a vendor's archive: it maps the archive's
// digest, which the vendor signed, to the digests of what a bundle carries
// instead of the archive. The statement itself is Airlock's word and stands
// under the bundle's signature; the checksums and their signature are the
// vendor's word and stand under the vendor's key. Together they are the chain
// from the vendor to every image and file.
//
// It is encoded one way only, see [ParseStatement].
type Statement struct {
	Version   int     `json:"version"` // 1
	Archive   Archive `json:"archive"`
	Signer    string  `json:"signer"`    // OpenPGP fingerprint, upper case hex
	Sums      string  `json:"sums"`      // sha256 of the checksums file, hex
	Signature string  `json:"signature"` // sha256 of the signature file, hex
	Key       string  `json:"key"`       // sha256 of the key file, hex
	Images    []Image `json:"images"`
	Files     []File  `json:"files"`
}

// Archive is the vendor's archive.
type Archive struct {
	Name   string `json:"name"` // base name, as the checksums file lists it
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// Image is an image of the archive and what is carried of it.
type Image struct {
	Ref            string          `json:"ref"`                    // the reference it is carried as
	Path           string          `json:"path"`                   // in the archive, below its top directory
	RepoTags       []string        `json:"repoTags,omitempty"`     // the references the archive gives it
	ConfigDigest   digest.Digest   `json:"configDigest,omitempty"` // the image ID; empty for an index
	DiffIDs        []digest.Digest `json:"diffIDs,omitempty"`
	ManifestDigest digest.Digest   `json:"manifestDigest"`
	Platform       string          `json:"platform,omitempty"`
}

// File is a file of the archive and what is carried of it.
type File struct {
	Name           string        `json:"name"` // the name it is carried under
	Path           string        `json:"path"` // in the archive, below its top directory
	SHA256         string        `json:"sha256"`
	Size           int64         `json:"size"`
	Mode           string        `json:"mode"`                 // "0644" or "0755"
	ELFMachine     string        `json:"elfMachine,omitempty"` // "EM_X86_64" and the like
	ManifestDigest digest.Digest `json:"manifestDigest"`
}

// Encode returns the one encoding of s.
func (s *Statement) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode vendor statement: %w", err)
	}
	return append(b, '\n'), nil
}

var hexSum = regexp.MustCompile(`^[0-9a-f]{64}$`)

// ParseStatement reads a statement. It accepts only what Encode writes, byte
// for byte, so unknown, repeated or differently spelled keys and trailing data
// are refused.
func ParseStatement(b []byte) (*Statement, error) {
	if len(b) > MaxStatement {
		return nil, fmt.Errorf("read vendor statement: more than %d bytes", MaxStatement)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	s := new(Statement)
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("read vendor statement: %w", err)
	}
	if s.Version != 1 {
		return nil, fmt.Errorf("read vendor statement: version %d is not known, this Airlock knows 1", s.Version)
	}
	again, err := s.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(b, again) {
		return nil, errors.New("read vendor statement: it is not in its canonical form")
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("read vendor statement: %w", err)
	}
	return s, nil
}

func (s *Statement) check() error {
	if err := artifact.BaseName(s.Archive.Name); err != nil {
		return err
	}
	if f, err := NormalFingerprint(s.Signer); err != nil || f != s.Signer {
		return fmt.Errorf("signer %q is no fingerprint in upper case", s.Signer)
	}
	sums := []string{s.Archive.SHA256, s.Sums, s.Signature, s.Key}
	var digests []digest.Digest
	for _, f := range s.Files {
		sums, digests = append(sums, f.SHA256), append(digests, f.ManifestDigest)
	}
	for _, i := range s.Images {
		digests = append(append(digests, i.ManifestDigest), i.DiffIDs...)
		if i.ConfigDigest != "" {
			digests = append(digests, i.ConfigDigest)
		}
	}
	for _, sum := range sums {
		if !hexSum.MatchString(sum) {
			return fmt.Errorf("%q is no sha256", sum)
		}
	}
	for _, d := range digests {
		if d.Algorithm() != digest.SHA256 || !hexSum.MatchString(d.Encoded()) {
			return fmt.Errorf("%q is no sha256 digest", d)
		}
	}
	return nil
}

// CheckStatement re-checks the vendor's part of the chain from the four layers
// of a vendor artifact: the signature over the checksums by the key with that
// fingerprint (see [CheckSignature]; the key is judged at the time it signed,
// because the clock inside the gap may be wrong and the key cannot be renewed
// there), the archive's line in the checksums against the statement, and that
// the statement was made from these very files. It does no I/O and does not ask
// the clock.
//
// The caller has the statement from a verified bundle, whose signature vouches
// for it, and the fingerprint from its own configuration, not from the bundle.
func CheckStatement(sums, sig, key []byte, fingerprint string, statement []byte) (*Statement, error) {
	s, err := ParseStatement(statement)
	if err != nil {
		return nil, err
	}
	if err := CheckSignature(sums, sig, key, fingerprint, time.Time{}); err != nil {
		return nil, err
	}
	if want, err := NormalFingerprint(fingerprint); err != nil || s.Signer != want {
		return nil, &SignerError{Want: want, Got: s.Signer}
	}
	sum, err := FindSum(sums, s.Archive.Name)
	if err != nil {
		return nil, err
	}
	if sum != s.Archive.SHA256 {
		return nil, &ChecksumError{Name: s.Archive.Name, Want: sum, Got: s.Archive.SHA256}
	}
	for _, part := range []struct {
		object, want string
		data         []byte
	}{{"checksums file", s.Sums, sums}, {"signature file", s.Signature, sig}, {"key file", s.Key, key}} {
		if got := sha256Hex(part.data); got != part.want {
			return nil, &StatementError{Object: part.object, Want: part.want, Got: got}
		}
	}
	return s, nil
}

// Layers returns the descriptors of the four layers of a vendor artifact from
// its manifest.
func Layers(manifest []byte) (sums, sig, key, statement bundle.Descriptor, err error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return sums, sig, key, statement, fmt.Errorf("read vendor manifest: %w", err)
	}
	want := []string{MediaTypeSums, MediaTypeSignature, MediaTypeKey, bundle.MediaTypeVendor}
	if m.ArtifactType != bundle.MediaTypeVendor || len(m.Layers) != len(want) {
		return sums, sig, key, statement, fmt.Errorf("read vendor manifest: artifactType %q with %d layers is no vendor artifact", m.ArtifactType, len(m.Layers))
	}
	for i, l := range m.Layers {
		if l.MediaType != want[i] {
			return sums, sig, key, statement, fmt.Errorf("read vendor manifest: layer %d is %q, want %q", i, l.MediaType, want[i])
		}
	}
	return m.Layers[0], m.Layers[1], m.Layers[2], m.Layers[3], nil
}

// Check compares a carried image, by the verified bytes of its manifest and
// config, with what the statement says of it. For an index config is not used.
func (i Image) Check(manifest, config []byte) error {
	if got := digest.FromBytes(manifest); got != i.ManifestDigest {
		return &StatementError{Object: "manifest of " + i.Ref, Want: i.ManifestDigest.String(), Got: got.String()}
	}
	if i.ConfigDigest == "" {
		return nil
	}
	if got := digest.FromBytes(config); got != i.ConfigDigest {
		return &StatementError{Object: "config of " + i.Ref, Want: i.ConfigDigest.String(), Got: got.String()}
	}
	var img ocispec.Image
	if err := json.Unmarshal(config, &img); err != nil {
		return fmt.Errorf("read config of %s: %w", i.Ref, err)
	}
	if !slices.Equal(img.RootFS.DiffIDs, i.DiffIDs) {
		return &StatementError{Object: "diffIDs of " + i.Ref, Want: fmt.Sprint(i.DiffIDs), Got: fmt.Sprint(img.RootFS.DiffIDs)}
	}
	return nil
}

// Check compares a carried file, by the verified bytes of its manifest, with
// what the statement says of it.
func (f File) Check(manifest []byte) error {
	if got := digest.FromBytes(manifest); got != f.ManifestDigest {
		return &StatementError{Object: "manifest of " + f.Name, Want: f.ManifestDigest.String(), Got: got.String()}
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return fmt.Errorf("read manifest of %s: %w", f.Name, err)
	}
	if len(m.Layers) != 1 {
		return fmt.Errorf("read manifest of %s: %d layers, want 1", f.Name, len(m.Layers))
	}
	meta, err := artifact.ParseMeta(m.Layers[0].Annotations)
	if err != nil {
		return fmt.Errorf("read manifest of %s: %w", f.Name, err)
	}
	if meta.SHA256 != f.SHA256 || meta.Size != f.Size || modeString(meta.Mode) != f.Mode {
		return &StatementError{Object: f.Name, Want: fmt.Sprintf("sha256 %s, %d bytes", f.SHA256, f.Size), Got: fmt.Sprintf("sha256 %s, %d bytes", meta.SHA256, meta.Size)}
	}
	return nil
}

func modeString(m fs.FileMode) string { return fmt.Sprintf("%04o", m.Perm()) }

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
