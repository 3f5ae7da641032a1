package aws

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/airlock-project/airlock/install"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Codes of kms.key.
const (
	codeKeyState  = "KMS-01"
	codeKeyUse    = "KMS-02"
	codeKeyAbsent = "KMS-03"
	codeKeyRound  = "KMS-04"
)

// KMS is kms.key. Its zero value is ready and safe for concurrent use.
type KMS struct{}

// kmsArguments are the step's with.
type kmsArguments struct {
	common
	Key      string `json:"key"`      // id, ARN or alias
	Usage    string `json:"usage"`    // ENCRYPT_DECRYPT or SIGN_VERIFY
	Spec     string `json:"spec"`     // such as SYMMETRIC_DEFAULT or RSA_4096; "" is any
	Multi    *bool  `json:"multi"`    // whether it has to be a multi-region key; left out: either
	Describe bool   `json:"describe"` // only describe, do not use the key
}

// Codes implements install.Coder.
func (KMS) Codes() map[string][]string {
	return withCommon(map[string][]string{
		codeKeyState:  {"key", "state"},
		codeKeyUse:    {"key", "what", "have", "want"},
		codeKeyAbsent: {"key"},
		codeKeyRound:  {"key", "action", "reason"},
	})
}

// Run describes a key and uses it as the product will: an encryption key for
// Encrypt, Decrypt and GenerateDataKey, a signing key for Sign, Verify and
// GetPublicKey. What it encrypts and signs are random bytes; nothing lasts.
func (p KMS) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a kmsArguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if a.Usage != string(types.KeyUsageTypeEncryptDecrypt) && a.Usage != string(types.KeyUsageTypeSignVerify) {
		return install.Result{}, fmt.Errorf("usage %q is neither ENCRYPT_DECRYPT nor SIGN_VERIFY", a.Usage)
	}
	l, err := a.start(p.Codes())
	if err != nil {
		return install.Result{}, err
	}
	if a.Key == "" {
		l.fail(codeKeyAbsent, "no key is given", map[string]string{"key": ""})
		return l.result(nil), nil
	}
	cfg, err := load(ctx, a.Region)
	if err != nil {
		return l.end(nil, l.api(ctx, err, "kms:DescribeKey", a.Key))
	}
	k := &keyLook{look: l, api: kms.NewFromConfig(cfg), a: a}
	usable, err := k.describe(ctx)
	if err != nil || !usable || a.Describe {
		return l.result(nil), err
	}
	if a.Usage == string(types.KeyUsageTypeSignVerify) {
		return l.end(nil, k.sign(ctx))
	}
	return l.end(nil, k.encrypt(ctx))
}

// keyLook is a look at one key.
type keyLook struct {
	*look
	api *kms.Client
	a   kmsArguments
}

func (k *keyLook) bad(ctx context.Context, err error, action string) error {
	return k.look.api(ctx, err, action, k.a.Key)
}

// describe reports what of the key is not as wanted, and whether it can be tried.
func (k *keyLook) describe(ctx context.Context) (usable bool, err error) {
	out, err := k.api.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(k.a.Key)})
	if isOneOf(err, "NotFoundException") {
		k.fail(codeKeyAbsent, "there is no key "+k.a.Key, map[string]string{"key": k.a.Key})
		return false, nil
	}
	if err != nil {
		return false, k.bad(ctx, err, "kms:DescribeKey")
	}
	m := out.KeyMetadata
	if m == nil {
		return false, errors.New("describe key: the answer holds no key")
	}
	if m.KeyState != types.KeyStateEnabled {
		k.fail(codeKeyState, fmt.Sprintf("key %s is %s", k.a.Key, m.KeyState), map[string]string{"key": k.a.Key, "state": string(m.KeyState)})
	}
	multi := aws.ToBool(m.MultiRegion)
	for _, c := range []struct{ what, have, want string }{
		{"usage", string(m.KeyUsage), k.a.Usage}, {"spec", string(m.KeySpec), k.a.Spec}, {"multi-region", fmt.Sprint(multi), optional(k.a.Multi)},
	} {
		if c.want != "" && c.have != c.want {
			k.fail(codeKeyUse, fmt.Sprintf("key %s has %s %s, not %s", k.a.Key, c.what, c.have, c.want),
				map[string]string{"key": k.a.Key, "what": c.what, "have": c.have, "want": c.want})
		}
	}
	k.info("key %s: %s, %s, multi-region %t, which cannot be changed later", aws.ToString(m.Arn), m.KeyUsage, m.KeySpec, multi)
	return m.KeyState == types.KeyStateEnabled && string(m.KeyUsage) == k.a.Usage, nil
}

func optional(b *bool) string {
	if b == nil {
		return ""
	}
	return fmt.Sprint(*b)
}

func (k *keyLook) broken(action, reason string) {
	k.fail(codeKeyRound, fmt.Sprintf("%s %s: %s", action, k.a.Key, reason), map[string]string{"key": k.a.Key, "action": action, "reason": reason})
}

// encrypt tries a symmetric key out. Every action is tried, so that all missing
// permissions show at once.
func (k *keyLook) encrypt(ctx context.Context) error {
	plain := make([]byte, 32)
	if _, err := rand.Read(plain); err != nil {
		return fmt.Errorf("make random bytes: %w", err)
	}
	id, about := aws.String(k.a.Key), map[string]string{"airlock": "probe"}
	enc, err := k.api.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: plain, EncryptionContext: about})
	if err != nil {
		if err := k.bad(ctx, err, "kms:Encrypt"); err != nil {
			return err
		}
	} else if err := k.decrypt(ctx, enc.CiphertextBlob, plain, about); err != nil {
		return err
	}
	data, err := k.api.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: id, KeySpec: types.DataKeySpecAes256, EncryptionContext: about})
	if err != nil {
		return k.bad(ctx, err, "kms:GenerateDataKey")
	}
	if len(data.Plaintext) != 32 {
		k.broken("kms:GenerateDataKey", fmt.Sprintf("the data key has %d bytes, not 32", len(data.Plaintext)))
		return nil
	}
	return k.decrypt(ctx, data.CiphertextBlob, data.Plaintext, about)
}

func (k *keyLook) decrypt(ctx context.Context, blob, want []byte, about map[string]string) error {
	out, err := k.api.Decrypt(ctx, &kms.DecryptInput{KeyId: aws.String(k.a.Key), CiphertextBlob: blob, EncryptionContext: about})
	if err != nil {
		return k.bad(ctx, err, "kms:Decrypt")
	}
	if subtle.ConstantTimeCompare(out.Plaintext, want) != 1 {
		k.broken("kms:Decrypt", "what comes back is not what was encrypted")
	}
	return nil
}

// sign tries a signing key out, and verifies with the public key here too.
func (k *keyLook) sign(ctx context.Context) error {
	text := make([]byte, 32)
	if _, err := rand.Read(text); err != nil {
		return fmt.Errorf("make random bytes: %w", err)
	}
	digest := sha256.Sum256(text)
	id := aws.String(k.a.Key)
	const algorithm = types.SigningAlgorithmSpecRsassaPkcs1V15Sha256
	signed, err := k.api.Sign(ctx, &kms.SignInput{KeyId: id, Message: digest[:], MessageType: types.MessageTypeDigest, SigningAlgorithm: algorithm})
	if err != nil {
		if err := k.bad(ctx, err, "kms:Sign"); err != nil {
			return err
		}
	} else {
		out, err := k.api.Verify(ctx, &kms.VerifyInput{KeyId: id, Message: digest[:], MessageType: types.MessageTypeDigest, SigningAlgorithm: algorithm, Signature: signed.Signature})
		switch {
		case isOneOf(err, "KMSInvalidSignatureException") || err == nil && !out.SignatureValid:
			k.broken("kms:Verify", "the signature is not valid")
		case err != nil:
			if err := k.bad(ctx, err, "kms:Verify"); err != nil {
				return err
			}
		}
	}
	public, err := k.api.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: id})
	if err != nil {
		return k.bad(ctx, err, "kms:GetPublicKey")
	}
	if signed != nil {
		k.verify(public.PublicKey, digest[:], signed.Signature)
	}
	return nil
}

// verify holds the signature against the public key.
func (k *keyLook) verify(der, digest, sig []byte) {
	any, err := x509.ParsePKIXPublicKey(der)
	public, ok := any.(*rsa.PublicKey)
	if err != nil || !ok {
		k.broken("kms:GetPublicKey", "it is not an RSA public key")
		return
	}
	if rsa.VerifyPKCS1v15(public, crypto.SHA256, digest, sig) != nil {
		k.broken("kms:GetPublicKey", "the public key does not verify what the key signed")
	}
}
