// Package sign makes signatures that stock cosign and package verify accept: a
// Sigstore bundle (protobuf JSON v0.3) with a message signature over the raw
// bytes signed, the digest always SHA-256.
package sign

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/verify"
	"github.com/sigstore/cosign/v2/pkg/cosign"
	cosignbundle "github.com/sigstore/cosign/v2/pkg/cosign/bundle"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"google.golang.org/protobuf/encoding/protojson"
)

// Key is a private key that can sign. It is safe for concurrent use.
type Key struct {
	path        string
	signer      crypto.Signer
	public      crypto.PublicKey
	fingerprint string
}

// PasswordError says that a key file did not open with the password given.
type PasswordError struct{ Path string }

func (e *PasswordError) Error() string { return fmt.Sprintf("open key %s: wrong password", e.Path) }

// KeyError says that a key cannot be used.
type KeyError struct {
	Path   string
	Reason string
}

func (e *KeyError) Error() string { return fmt.Sprintf("key %s: %s", e.Path, e.Reason) }

// maxKeyFile bounds a private key file.
const maxKeyFile = 64 << 10

// LoadKey reads a cosign private key file ("ENCRYPTED SIGSTORE PRIVATE KEY",
// also the older COSIGN form). password is asked once. The key type is checked
// and the password proven before it returns.
func LoadKey(path string, password func() ([]byte, error)) (*Key, error) {
	pem, err := regular.Read(path, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if !strings.Contains(string(pem), "PRIVATE KEY-----") {
		return nil, &KeyError{Path: path, Reason: "it is not a private key"}
	}
	if !strings.Contains(string(pem), "BEGIN ENCRYPTED SIGSTORE PRIVATE KEY") && !strings.Contains(string(pem), "BEGIN ENCRYPTED COSIGN PRIVATE KEY") {
		return nil, &KeyError{Path: path, Reason: "it is not a cosign key file; import it with cosign import-key-pair"}
	}
	pass, err := password()
	if err != nil {
		return nil, err
	}
	sv, err := cosign.LoadPrivateKey(pem, pass, nil)
	if err != nil {
		if strings.HasPrefix(err.Error(), "decrypt:") {
			return nil, &PasswordError{Path: path}
		}
		return nil, &KeyError{Path: path, Reason: err.Error()}
	}
	pub, err := sv.PublicKey()
	if err != nil {
		return nil, &KeyError{Path: path, Reason: err.Error()}
	}
	if err := verify.CheckKey(pub); err != nil {
		return nil, &KeyError{Path: path, Reason: err.Error()}
	}
	signer, ok := sv.(crypto.Signer)
	if !ok {
		return nil, &KeyError{Path: path, Reason: "it cannot sign a digest"}
	}
	fp, err := verify.Fingerprint(pub)
	if err != nil {
		return nil, err
	}
	return &Key{path: path, signer: signer, public: pub, fingerprint: fp}, nil
}

// Fingerprint returns the fingerprint of the public key.
func (k *Key) Fingerprint() string { return k.fingerprint }

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.public }

// PublicPEM is the public half as a PEM file, as GenerateKey makes it.
func (k *Key) PublicPEM() ([]byte, error) {
	raw, err := cryptoutils.MarshalPublicKeyToPEM(k.public)
	if err != nil {
		return nil, fmt.Errorf("public key of %s: %w", k.path, err)
	}
	return raw, nil
}

// Path returns the file that the key was read from.
func (k *Key) Path() string { return k.path }

// Blob signs data and returns a Sigstore bundle over it.
func (k *Key) Blob(data []byte) ([]byte, error) {
	return k.Reader(bytes.NewReader(data))
}

// Reader signs everything r yields and returns a Sigstore bundle over it.
func (k *Key) Reader(r io.Reader) ([]byte, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return nil, err
	}
	sum := h.Sum(nil)
	sig, err := k.Digest(sum)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(k.public)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(der)
	b, err := cosignbundle.MakeProtobufBundle(base64.StdEncoding.EncodeToString(id[:]), nil, nil, nil)
	if err != nil {
		return nil, err
	}
	b.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
		MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: sum},
		Signature:     sig,
	}}
	return protojson.Marshal(b)
}

// Digest signs a SHA-256 digest and returns the raw signature: ASN.1 for ECDSA,
// PKCS #1 v1.5 for RSA; "openssl dgst -sha256 -verify" accepts both. The hash is
// named explicitly: cosign would take SHA-384 for a P-384 key, which its own
// verify-blob then refuses.
func (k *Key) Digest(sum []byte) ([]byte, error) {
	return k.signer.Sign(rand.Reader, sum, crypto.SHA256)
}

// GenerateKey makes an ECDSA P-256 key and returns it as cosign key files: the
// private key encrypted with password, the public key as PEM.
func GenerateKey(password []byte) (private, public []byte, err error) {
	kb, err := cosign.GenerateKeyPair(func(bool) ([]byte, error) { return password, nil })
	if err != nil {
		return nil, nil, fmt.Errorf("generate key: %w", err)
	}
	return kb.PrivateBytes, kb.PublicBytes, nil
}
