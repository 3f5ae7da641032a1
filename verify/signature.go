package verify

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/bundle/regular"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	sgverify "github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
)

// check verifies the signatures over the raw bytes of index.json against the
// policy, before anything in them is parsed. A signature that is malformed,
// wrong or unknown proves nothing and hinders nothing; it is reported.
func (p *Policy) check(index []byte, sigs []archive.Signature) ([]Signer, error) {
	if p == nil || len(p.doc.Require) == 0 || len(p.signers) == 0 {
		return nil, &NoPolicyError{}
	}
	if len(sigs) == 0 {
		return nil, &UnsignedError{}
	}
	good := map[string]bool{} // by fingerprint: distinct keys
	var reasons []string
	for _, s := range sigs {
		who, err := p.identify(index, s.Data)
		if err != nil {
			reasons = append(reasons, fmt.Sprintf("signature %q: %v", s.Name, err))
			continue
		}
		good[who.Fingerprint] = true
		reasons = append(reasons, fmt.Sprintf("signature %q: by %s (%s)", s.Name, who.Name, who.Role))
	}
	var signers []Signer
	for _, s := range p.signers {
		if good[s.Fingerprint] {
			signers = append(signers, s.Signer)
		}
	}
	return signers, p.meets(signers, reasons)
}

// meets counts distinct signers with distinct keys for every requirement.
func (p *Policy) meets(signers []Signer, reasons []string) error {
	for _, r := range p.doc.Require {
		var names, keys []string
		for _, s := range signers {
			if s.Role == r.Role && !slices.Contains(names, s.Name) && !slices.Contains(keys, s.Fingerprint) {
				names, keys = append(names, s.Name), append(keys, s.Fingerprint)
			}
		}
		if r.AtLeast < 1 || len(names) < r.AtLeast {
			return &UntrustedError{Role: r.Role, Need: r.AtLeast, Have: names, Reasons: reasons}
		}
	}
	return nil
}

// identify returns the policy signer whose key made a signature over index.
func (p *Policy) identify(index, sig []byte) (Signer, error) {
	if len(sig) == 0 {
		return Signer{}, fmt.Errorf("it cannot be read, is empty or larger than %d bytes", archive.MaxSignature)
	}
	var b sgbundle.Bundle
	if err := b.UnmarshalJSON(sig); err != nil {
		return Signer{}, fmt.Errorf("not a Sigstore bundle: %w", err)
	}
	ms := b.GetMessageSignature()
	if ms == nil {
		return Signer{}, fmt.Errorf("it signs a statement, not the index itself")
	}
	if alg := ms.GetMessageDigest().GetAlgorithm(); alg != protocommon.HashAlgorithm_SHA2_256 {
		return Signer{}, fmt.Errorf("its digest is %s, only SHA2_256 counts", alg)
	}
	if b.GetVerificationMaterial().GetPublicKey() == nil {
		return Signer{}, fmt.Errorf("it was made with a certificate, which this version does not check")
	}
	for _, s := range p.signers {
		if verifyWith(s.key, &b, index) == nil {
			return s.Signer, nil
		}
	}
	return Signer{}, fmt.Errorf("no key of the policy made it over this index")
}

func verifyWith(key crypto.PublicKey, b *sgbundle.Bundle, index []byte) error {
	v, err := signature.LoadVerifier(key, crypto.SHA256)
	if err != nil {
		return err
	}
	material := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(v, time.Time{}, time.Time{}), nil
	})
	verifier, err := sgverify.NewVerifier(material, sgverify.WithNoObserverTimestamps())
	if err != nil {
		return err
	}
	_, err = verifier.Verify(b, sgverify.NewPolicy(sgverify.WithArtifact(bytes.NewReader(index)), sgverify.WithKey()))
	return err
}

// Beside returns what the paths of signatures beside a bundle begin with: its
// own path, made absolute where it does not say the bundle's name. Without
// that, signatures of the directory "." would lie inside it.
func Beside(path string) (string, error) {
	path = filepath.Clean(path)
	if base := filepath.Base(path); base == "." || base == ".." {
		return filepath.Abs(path)
	}
	return path, nil
}

// sidecars reads the signatures that lie beside a bundle as
// <file>.<anything>.sigstore.json. Their names mean nothing. A file that cannot
// be a signature, because of its size or kind, hinders nothing either: it is
// reported like any other that proves nothing.
func sidecars(path string) ([]archive.Signature, error) {
	path, err := Beside(path)
	if err != nil {
		return nil, err
	}
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []archive.Signature
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), base+".") || !strings.HasSuffix(e.Name(), ".sigstore.json") {
			continue
		}
		if len(out) == archive.MaxSignatures {
			return nil, &archive.FormatError{Offset: -1, Entry: e.Name(), Err: archive.ErrLimit, Detail: fmt.Sprintf("more than %d signatures beside %s", archive.MaxSignatures, path)}
		}
		out = append(out, archive.Signature{Name: e.Name(), Data: sidecar(filepath.Join(dir, e.Name()))})
	}
	return out, nil
}

// sidecar reads one signature file; nil is what cannot be one.
func sidecar(path string) []byte {
	fi, err := os.Stat(path)
	if err != nil || !fi.Mode().IsRegular() { // a named pipe would block
		return nil
	}
	data, err := regular.Read(path, archive.MaxSignature)
	if err != nil {
		return nil
	}
	return data
}

// Claims says, for people, what each signature claims of its key. Nothing is
// checked: it is for showing a bundle before trust.
func Claims(sigs []archive.Signature) []string {
	var out []string
	for _, s := range sigs {
		var b sgbundle.Bundle
		if err := b.UnmarshalJSON(s.Data); err != nil {
			out = append(out, fmt.Sprintf("%q is not a Sigstore bundle", s.Name))
			continue
		}
		who := "with a certificate"
		if key := b.GetVerificationMaterial().GetPublicKey(); key != nil {
			who = "hint " + key.GetHint()
			if id, err := base64.StdEncoding.DecodeString(key.GetHint()); err == nil && len(id) == 32 {
				who = "SHA256:" + hex.EncodeToString(id)
			}
		}
		out = append(out, fmt.Sprintf("%q claims %s", s.Name, who))
	}
	return out
}

// CheckBlob checks a Sigstore bundle over data against the keys of a policy,
// and that the policy's requirements are met by it alone.
func (p *Policy) CheckBlob(data, sig []byte) error {
	_, err := p.check(data, []archive.Signature{{Name: "signature", Data: sig}})
	return err
}
