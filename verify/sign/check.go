package sign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
)

// CheckDigest reports whether sig is a raw signature, as [Key.Digest] makes it,
// of the SHA-256 digest sum by this key.
func (k *Key) CheckDigest(sum, sig []byte) bool {
	switch pub := k.public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(pub, sum, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum, sig) == nil
	}
	return false
}
