package vendorarchive

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Limits on what comes beside an archive, in bytes. They are read whole.
const (
	MaxSums      = 1 << 20  // about 10,000 lines
	MaxSignature = 64 << 10 // an RSA-4096 signature has 600 bytes
	MaxKey       = 1 << 20  // a key with many user IDs and certifications
)

// maxSignatures bounds the packets tried: each may cost a public-key operation.
const maxSignatures = 16

// NormalFingerprint returns a full OpenPGP fingerprint (40 hex digits of version
// 4, 64 of version 6; spaces allowed) in upper case. Key IDs are refused: they
// can be forged.
func NormalFingerprint(s string) (string, error) {
	f := strings.ToUpper(strings.ReplaceAll(s, " ", ""))
	if _, err := hex.DecodeString(f); err != nil || len(f) != 40 && len(f) != 64 {
		return "", fmt.Errorf("%q is no full fingerprint: give all 40 (or 64) hex digits", s)
	}
	return f, nil
}

// CheckSignature checks that sig is a detached OpenPGP signature (RFC 9580,
// binary or armored) of exactly signed, made by the key whose primary
// fingerprint is given or by one of its signing subkeys; key holds it, binary or
// armored, maybe among others. The key must have been valid and not weak when
// it signed, and a message digest of SHA-1 or less is refused. Where now is not
// zero, key and signature must also be unexpired, and not revoked, now.
//
// Errors: *SignerError if another key signed, *SignatureError if the signature
// of the right key does not hold, *KeyError if key does not hold a usable key.
func CheckSignature(signed, sig, key []byte, fingerprint string, now time.Time) (err error) {
	// go-crypto 1.4.1 indexes some signature subpackets without looking at their
	// length, which the fuzz corpus of this package shows. Such a panic is about
	// the bytes given, and those are refused.
	defer func() {
		if r := recover(); r != nil {
			err = &SignatureError{Fingerprint: fingerprint, Err: fmt.Errorf("malformed OpenPGP packet: %v", r)}
		}
	}()
	want, err := NormalFingerprint(fingerprint)
	if err != nil {
		return err
	}
	if len(signed) > MaxSums || len(sig) > MaxSignature || len(key) > MaxKey {
		return errors.New("checksums, signature or key are too large")
	}
	signer, err := findKey(key, want)
	if err != nil {
		return err
	}
	packets, err := readSignatures(sig)
	if err != nil {
		return &SignatureError{Fingerprint: want, Err: err}
	}
	var mine []*packet.Signature
	for _, p := range packets {
		if p.IssuerKeyId != nil && len((openpgp.EntityList{signer}).EntitiesById(*p.IssuerKeyId)) > 0 {
			mine = append(mine, p)
		}
	}
	if len(mine) == 0 {
		return &SignerError{Want: want, Got: issuer(packets[0])}
	}
	// One good signature by the expected key is enough; the error of the last
	// one is as good as another.
	for _, p := range mine {
		if err = verifyOne(signed, p, signer, now); err == nil {
			return nil
		}
	}
	return &SignatureError{Fingerprint: want, Err: err}
}

func verifyOne(signed []byte, p *packet.Signature, signer *openpgp.Entity, now time.Time) error {
	if p.SigType != packet.SigTypeBinary {
		return errors.New("it is no signature of a binary document")
	}
	var raw bytes.Buffer
	if err := p.Serialize(&raw); err != nil {
		return err
	}
	// The zero time skips the check of the signature's own expiry, nothing else:
	// the key is judged at the time of the signature.
	config := &packet.Config{Time: func() time.Time { return now }}
	if _, _, err := openpgp.VerifyDetachedSignature(openpgp.EntityList{signer}, bytes.NewReader(signed), &raw, config); err != nil {
		return err
	}
	if now.IsZero() {
		return nil
	}
	if _, ok := signer.SigningKeyById(now, *p.IssuerKeyId, config); !ok {
		return fmt.Errorf("the key has expired or was revoked since it signed on %s: ask the vendor for its renewed key", p.CreationTime.UTC().Format(time.DateOnly))
	}
	return nil
}

// findKey returns the key of a key file that has the primary fingerprint want.
func findKey(key []byte, want string) (*openpgp.Entity, error) {
	body, err := dearmor(key, openpgp.PublicKeyType)
	if err != nil {
		return nil, &KeyError{Fingerprint: want, Reason: err.Error()}
	}
	list, err := openpgp.ReadKeyRing(bytes.NewReader(body))
	if err != nil {
		return nil, &KeyError{Fingerprint: want, Reason: fmt.Sprintf("read key file: %v", err)}
	}
	var have []string
	for _, e := range list {
		f := strings.ToUpper(hex.EncodeToString(e.PrimaryKey.Fingerprint))
		if f == want {
			return e, nil
		}
		if len(have) < 8 {
			have = append(have, f)
		}
	}
	return nil, &KeyError{Fingerprint: want, Reason: "the key file holds " + strings.Join(have, ", ") + " instead"}
}

// readSignatures returns the signature packets of a detached signature, at
// least one.
func readSignatures(sig []byte) ([]*packet.Signature, error) {
	body, err := dearmor(sig, openpgp.SignatureType)
	if err != nil {
		return nil, err
	}
	var out []*packet.Signature
	r := packet.NewReader(bytes.NewReader(body))
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read signature: %w", err)
		}
		s, ok := p.(*packet.Signature)
		if !ok {
			return nil, fmt.Errorf("read signature: unexpected packet %T", p)
		}
		if out = append(out, s); len(out) > maxSignatures {
			return nil, fmt.Errorf("read signature: more than %d signatures", maxSignatures)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("read signature: the file holds none")
	}
	return out, nil
}

// dearmor returns b without its ASCII armor, or b itself if it has none. The
// result is no larger than b.
func dearmor(b []byte, want string) ([]byte, error) {
	if !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("-----BEGIN PGP")) {
		return b, nil
	}
	block, err := armor.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("read armor: %w", err)
	}
	if block.Type != want {
		return nil, fmt.Errorf("armor holds a %q, want a %q", block.Type, want)
	}
	out, err := io.ReadAll(io.LimitReader(block.Body, int64(len(b))))
	if err != nil {
		return nil, fmt.Errorf("read armor: %w", err)
	}
	return out, nil
}

func issuer(p *packet.Signature) string {
	if len(p.IssuerFingerprint) > 0 {
		return strings.ToUpper(hex.EncodeToString(p.IssuerFingerprint))
	}
	if p.IssuerKeyId != nil {
		return fmt.Sprintf("key ID %016X", *p.IssuerKeyId)
	}
	return "an unnamed key"
}
