package awsstandin

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"sync"
)

// Key is a key of KMS.
type Key struct {
	State, Usage, Spec string
	Multi              bool
	Corrupt            bool // what it gives back is not what it got

	secret []byte
}

// signingKey is one key for all signing keys: 2048 bits are enough to try the
// protocol, whatever the spec says.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

type kmsRequest struct {
	KeyID             string `json:"KeyId"`
	Plaintext         []byte
	CiphertextBlob    []byte
	EncryptionContext map[string]string
	Message           []byte
	Signature         []byte
}

func (s *Server) kms(action string, body []byte) (any, *failure) {
	var in kmsRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, &failure{"SerializationException", err.Error()}
	}
	k := s.Keys[in.KeyID]
	if k == nil {
		return nil, &failure{"NotFoundException", "Key '" + in.KeyID + "' does not exist"}
	}
	arn := "arn:aws:kms:" + Region + ":" + Account + ":key/" + in.KeyID
	if action == "DescribeKey" {
		return map[string]any{"KeyMetadata": map[string]any{
			"AWSAccountId": Account, "KeyId": in.KeyID, "Arn": arn, "Enabled": k.State == "Enabled", "KeyState": k.State, "KeyUsage": k.Usage,
			"KeySpec": k.Spec, "CustomerMasterKeySpec": k.Spec, "MultiRegion": k.Multi, "KeyManager": "CUSTOMER", "Origin": "AWS_KMS",
		}}, nil
	}
	if k.State != "Enabled" {
		return nil, &failure{"KMSInvalidStateException", arn + " is pending deletion."}
	}
	switch action {
	case "Encrypt":
		return map[string]any{"KeyId": arn, "CiphertextBlob": k.seal(in.Plaintext, in.EncryptionContext), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}, nil
	case "Decrypt":
		plain, ok := k.open(in.CiphertextBlob, in.EncryptionContext)
		if !ok {
			return nil, &failure{"InvalidCiphertextException", ""}
		}
		return map[string]any{"KeyId": arn, "Plaintext": plain, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}, nil
	case "GenerateDataKey":
		plain := random(32)
		return map[string]any{"KeyId": arn, "Plaintext": plain, "CiphertextBlob": k.seal(plain, in.EncryptionContext)}, nil
	case "Sign":
		sig, err := rsa.SignPKCS1v15(rand.Reader, signingKey(), crypto.SHA256, in.Message)
		if err != nil {
			return nil, &failure{"ValidationException", err.Error()}
		}
		return map[string]any{"KeyId": arn, "Signature": sig, "SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256"}, nil
	case "Verify":
		if k.Corrupt || rsa.VerifyPKCS1v15(&signingKey().PublicKey, crypto.SHA256, in.Message, in.Signature) != nil {
			return nil, &failure{"KMSInvalidSignatureException", ""}
		}
		return map[string]any{"KeyId": arn, "SignatureValid": true}, nil
	case "GetPublicKey":
		der, err := x509.MarshalPKIXPublicKey(&signingKey().PublicKey)
		if err != nil {
			return nil, &failure{"KMSInternalException", err.Error()}
		}
		return map[string]any{"KeyId": arn, "PublicKey": der, "KeySpec": k.Spec, "KeyUsage": k.Usage}, nil
	}
	return nil, unknown(action)
}

func random(n int) []byte {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		panic(err) // crypto/rand never fails
	}
	return b
}

func (k *Key) aead() cipher.AEAD {
	if k.secret == nil {
		k.secret = random(32)
	}
	block, err := aes.NewCipher(k.secret)
	if err != nil {
		panic(err) // the key has the right length
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func about(context map[string]string) []byte {
	raw, err := json.Marshal(context)
	if err != nil {
		panic(err) // a map of texts
	}
	return raw
}

func (k *Key) seal(plain []byte, context map[string]string) []byte {
	return k.aead().Seal(nil, nil, plain, about(context))
}

func (k *Key) open(blob []byte, context map[string]string) ([]byte, bool) {
	plain, err := k.aead().Open(nil, nil, blob, about(context))
	if k.Corrupt {
		plain = bytes.Repeat([]byte{7}, len(plain))
	}
	return plain, err == nil
}
