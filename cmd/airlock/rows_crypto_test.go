package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
)

// rowToken is a JWT in compact form with an end in so many days. Nothing inside
// the gap can verify its signature, so any will do.
func rowToken(alg string, days int) string {
	enc := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"exp":%d,"nbf":%d,"sub":"customer-4711"}`, time.Now().AddDate(0, 0, days).Unix(), time.Now().Unix()-60)
	return enc([]byte(`{"alg":"`+alg+`"}`)) + "." + enc([]byte(claims)) + "." + enc([]byte("signature"))
}

func TestRowLicense(t *testing.T) {
	good := rowToken("RS256", 300)
	for _, r := range []row{
		{name: "good", inputs: map[string]any{"license.type": "jwt", "license.token": good}, want: install.StateWaiting},
		{name: "type unset", inputs: map[string]any{"license.token": good}, want: install.StateFail, code: "LIC-04", says: []string{"AWS License Manager", "license.type to jwt"}},
		{name: "aws in isolation", inputs: map[string]any{"license.type": "aws"}, want: install.StateFail, code: "LIC-05", says: []string{"aws", "isolated", "license.token"}},
		{name: "aws in part", airgap: "partial", inputs: map[string]any{"license.type": "aws"}, want: install.StateWaiting},
		{name: "unknown type", inputs: map[string]any{"license.type": "JWT", "license.token": good}, want: install.StateFail, code: "LIC-06", says: []string{"JWT", "jwt"}},
		{name: "no token", inputs: map[string]any{"license.type": "jwt"}, want: install.StateFail, code: "LIC-01", says: []string{"license.token", "not given"}},
		{name: "cut", inputs: map[string]any{"license.type": "jwt", "license.token": good[:strings.LastIndex(good, ".")]}, want: install.StateFail, code: "LIC-01", says: []string{"2 parts", "whole token"}},
		{name: "expired", inputs: map[string]any{"license.type": "jwt", "license.token": rowToken("RS256", -3)}, want: install.StateFail, code: "LIC-02", says: []string{"expired", "renewed token", "create-kubernetes-secrets"}},
		{name: "unsigned", inputs: map[string]any{"license.type": "jwt", "license.token": rowToken("none", 300)}, want: install.StateFail, code: "LIC-07", says: []string{"none"}},
		{name: "soon", inputs: map[string]any{"license.type": "jwt", "license.token": rowToken("RS256", 10)}, want: install.StateWaiting, code: "LIC-08", says: []string{"renewed token now"}},
	} {
		r.item = "obtain-license-and-materials"
		t.Run(r.name, func(t *testing.T) {
			got := runRow(t, r)
			if r.want == install.StateWaiting && !strings.Contains(got.Reason, "operator has to state: I received the license token and the release archive of Spacelift v4.3.0") {
				t.Errorf("reason: %s", got.Reason)
			}
		})
	}
}

func TestRowLicenseExpiry(t *testing.T) {
	for _, r := range []row{
		{name: "long", inputs: map[string]any{"license.token": rowToken("RS256", 300)}, want: install.StatePass},
		{name: "soon", inputs: map[string]any{"license.token": rowToken("RS256", 45)}, want: install.StateWarn, code: "LIC-08", says: []string{"license.token", "renewed token now"}},
		{name: "over", inputs: map[string]any{"license.token": rowToken("RS256", -1)}, want: install.StateFail, code: "LIC-02", says: []string{"license.token expired", "create-kubernetes-secrets"}},
		{name: "cut", inputs: map[string]any{"license.token": "abcdef"}, want: install.StateFail, code: "LIC-01", says: []string{"1 parts", "whole token"}},
		{name: "none", want: install.StateSkipped},
	} {
		r.item = "license-expiry"
		t.Run(r.name, func(t *testing.T) { runRow(t, r) })
	}
}

// rowKey writes an RSA key of so many bits as PEM.
func rowKey(t *testing.T, bits int) string {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return rowFile(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func rowFile(t *testing.T, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "given")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRowEncryptionRSA(t *testing.T) {
	small := rowKey(t, 2048)
	pemText, err := os.ReadFile(small)
	if err != nil {
		t.Fatal(err)
	}
	wrapped := base64.StdEncoding.EncodeToString(pemText)
	wrapped = wrapped[:76] + "\n" + wrapped[76:]
	locked := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}})
	withKey, without := "stringData: {ENCRYPTION_RSA_PRIVATE_KEY: abc}", "stringData: {DATABASE_URL: abc}"
	for _, r := range []row{
		{name: "made", inputs: map[string]any{"encryption.type": "rsa"}, want: install.StatePass},
		{name: "unset", want: install.StateFail, code: "ENC-07", says: []string{"encryption.type", "kms", "rsa"}},
		{name: "unknown", inputs: map[string]any{"encryption.type": "aes"}, want: install.StateFail, code: "ENC-10", says: []string{"aes", "rsa or kms"}},
		{name: "wrapped", inputs: map[string]any{"encryption.type": "rsa", "encryption.rsa_key_file": rowFile(t, []byte(wrapped))}, want: install.StateFail, code: "ENC-01", says: []string{"line breaks", "base64 -w 0"}},
		{name: "passphrase", inputs: map[string]any{"encryption.type": "rsa", "encryption.rsa_key_file": rowFile(t, locked)}, want: install.StateFail, code: "ENC-02", says: []string{"passphrase", "-nocrypt"}},
		{name: "small", inputs: map[string]any{"encryption.type": "rsa", "encryption.rsa_key_file": small}, want: install.StateFail, code: "ENC-03", says: []string{small, "2048 bits", "4096"}},
		{name: "lost", inputs: map[string]any{"encryption.type": "rsa", "encryption.fingerprint": strings.Repeat("ab", 32)}, want: install.StateFail, code: "ENC-04", says: []string{strings.Repeat("ab", 32), "escrow"}},
		{name: "no key", inputs: map[string]any{"encryption.type": "rsa", "encryption.rsa_key_file": rowFile(t, []byte("aGVsbG8="))}, want: install.StateFail, code: "ENC-08", says: []string{"no PEM block", "PKCS#8"}},
		{name: "on ECS", platform: "ecs", inputs: map[string]any{"encryption.type": "rsa"}, want: install.StateWarn, code: "ENC-12", says: []string{"ecs", "task definition"}},
		{name: "module's secrets with it", platform: "eks", inputs: map[string]any{"encryption.type": "rsa", "infra.kubernetes_secrets": withKey}, want: install.StatePass},
		{name: "module's secrets without it", platform: "eks", inputs: map[string]any{"encryption.type": "rsa", "infra.kubernetes_secrets": without}, want: install.StateWarn, code: "ENC-06", says: []string{"ENCRYPTION_RSA_PRIVATE_KEY", "create-kubernetes-secrets", "spacelift-shared"}},
	} {
		r.item = "encryption"
		t.Run(r.name, func(t *testing.T) { runRow(t, r) })
	}
}

func TestRowEscrow(t *testing.T) {
	pemText, err := os.ReadFile(rowKey(t, 2048))
	if err != nil {
		t.Fatal(err)
	}
	file := rowFile(t, []byte(base64.StdEncoding.EncodeToString(pemText)))
	block, _ := pem.Decode(pemText)
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&k.(*rsa.PrivateKey).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprintf("%x", sha256.Sum256(spki))
	rsaType, other := map[string]any{"encryption.type": "rsa"}, strings.Repeat("cd", 32)
	for _, r := range []row{
		{name: "kept", inputs: rsaType, given: map[string]any{"encryption.key_file": file, "encryption.key_fingerprint": own}, want: install.StateWaiting},
		{name: "kms", inputs: map[string]any{"encryption.type": "kms"}, want: install.StateSkipped},
		{name: "another key", inputs: rsaType, given: map[string]any{"encryption.key_file": file, "encryption.key_fingerprint": other}, want: install.StateFail, code: "ENC-22", says: []string{file, other, "restore"}},
		{name: "gone", inputs: rsaType, given: map[string]any{"encryption.key_file": file + ".gone", "encryption.key_fingerprint": other}, want: install.StateFail, code: "ENC-21", says: []string{file + ".gone", "no such file", "restore"}},
	} {
		r.item = "escrow-encryption-key"
		t.Run(r.name, func(t *testing.T) { runRow(t, r) })
	}
}
