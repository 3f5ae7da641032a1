package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/manifests"
	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

// Policy says whose signatures an enclave accepts. Its zero value accepts
// nobody's.
type Policy struct {
	name    string // for the decision
	doc     manifests.Policy
	signers []policySigner
}

type policySigner struct {
	Signer
	key crypto.PublicKey
}

// maxKeyFile bounds a public key file.
const maxKeyFile = 64 << 10

// LoadPolicy reads a policy document and the keys it names, relative to it.
func LoadPolicy(path string) (*Policy, error) {
	data, err := regular.Read(path, manifests.MaxDocument)
	if err != nil {
		return nil, err
	}
	doc, err := manifests.ParsePolicy(path, data)
	if err != nil {
		return nil, err
	}
	p := &Policy{name: digest.FromBytes(data).String(), doc: *doc}
	for _, s := range doc.Signers {
		if s.Keyless != nil {
			return nil, &UnsupportedError{What: fmt.Sprintf("policy %s: signer %s: keyless identities", path, s.Name)}
		}
		name, ok := strings.CutPrefix(s.Key, "file:")
		if !ok {
			return nil, &UnsupportedError{What: fmt.Sprintf("policy %s: signer %s: key %q, only file: keys", path, s.Name, s.Key)}
		}
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(path), name)
		}
		ps, err := loadSigner(name, s.Name, s.Role)
		if err != nil {
			return nil, err
		}
		p.signers = append(p.signers, ps)
	}
	if doc.Images != nil && doc.Images.Signatures == "required" {
		return nil, &UnsupportedError{What: fmt.Sprintf("policy %s: images.signatures: required", path)}
	}
	if doc.SBOM != "" && doc.SBOM != "optional" {
		return nil, &UnsupportedError{What: fmt.Sprintf("policy %s: sbom: %s", path, doc.SBOM)}
	}
	return p, nil
}

// KeyPolicy returns the policy that one signature by the public key in a PEM
// file is enough.
func KeyPolicy(path string) (*Policy, error) {
	s, err := loadSigner(path, "key", "signer")
	if err != nil {
		return nil, err
	}
	return onlySigner(s), nil
}

// PublicKeyPolicy is KeyPolicy for a key at hand.
func PublicKeyPolicy(key crypto.PublicKey) (*Policy, error) {
	if err := CheckKey(key); err != nil {
		return nil, &KeyError{Reason: err.Error()}
	}
	fp, err := Fingerprint(key)
	if err != nil {
		return nil, err
	}
	return onlySigner(policySigner{Signer: Signer{Name: "key", Role: "signer", Fingerprint: fp}, key: key}), nil
}

func onlySigner(s policySigner) *Policy {
	return &Policy{
		name:    "key:" + s.Fingerprint,
		doc:     manifests.Policy{Require: []manifests.Requirement{{Role: "signer", AtLeast: 1}}},
		signers: []policySigner{s},
	}
}

func loadSigner(path, name, role string) (policySigner, error) {
	data, err := regular.Read(path, maxKeyFile)
	if err != nil {
		return policySigner{}, fmt.Errorf("read public key: %w", err)
	}
	if strings.Contains(string(data), "PRIVATE KEY") {
		return policySigner{}, &KeyError{Path: path, Reason: "it is a private key, the public key belongs here"}
	}
	key, err := cryptoutils.UnmarshalPEMToPublicKey(data)
	if err != nil {
		return policySigner{}, &KeyError{Path: path, Reason: "it is not a PEM public key"}
	}
	if err := CheckKey(key); err != nil {
		return policySigner{}, &KeyError{Path: path, Reason: err.Error()}
	}
	fp, err := Fingerprint(key)
	if err != nil {
		return policySigner{}, err
	}
	return policySigner{Signer: Signer{Name: name, Role: role, Fingerprint: fp}, key: key}, nil
}

// CheckKey refuses public keys that Airlock neither makes nor accepts: anything
// but ECDSA on P-256 or P-384 and RSA of 3072 to 8192 bits.
func CheckKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return fmt.Errorf("its curve is %s, P-256 or P-384 are accepted", k.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 3072 || n > 8192 {
			return fmt.Errorf("it is RSA of %d bits, 3072 to 8192 are accepted", n)
		}
	default:
		return fmt.Errorf("its type is %T, ECDSA P-256, P-384 or RSA are accepted", key)
	}
	return nil
}

// Fingerprint is what two people read out to each other: SHA-256 of the key's
// SPKI (RFC 5280 section 4.1.2.7), "SHA256:" and lower-case hex.
func Fingerprint(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return "SHA256:" + hex.EncodeToString(sum[:]), nil
}

// FingerprintFile returns the fingerprint of the public key in a PEM file.
func FingerprintFile(path string) (string, error) {
	s, err := loadSigner(path, "", "")
	return s.Fingerprint, err
}

// Signers lists whom the policy names, in its order.
func (p *Policy) Signers() []Signer {
	var out []Signer
	for _, s := range p.signers {
		out = append(out, s.Signer)
	}
	return out
}
