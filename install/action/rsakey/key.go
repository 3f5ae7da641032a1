// Package rsakey is the action crypto.rsa and the probe rsa.key: an RSA key that
// a product encrypts its data with, as the base64 of its PEM on one line, which
// is how an environment variable carries it.
//
// Who loses such a key loses the data. So the action never writes over one, and
// remembers the key's fingerprint beside it: another key under the same name is
// refused, and so is a new one where the remembered one is gone.
package rsakey

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/install"
)

// Codes. The checklist may give each another one, with codes:.
const (
	codeWrapped   = "RSA-01"
	codePassword  = "RSA-02"
	codeSize      = "RSA-03"
	codeDiffers   = "RSA-04"
	codeUnusable  = "RSA-05"
	codePKCS1     = "RSA-06"
	codeReadable  = "RSA-07"
	defaultBits   = 4096
	minBits       = 2048
	maxBits       = 16384
	maxFile       = 64 << 10 // of one key; 16384 bits are 17 KiB of base64
	typePKCS8     = "PRIVATE KEY"
	typePKCS1     = "RSA PRIVATE KEY"
	typeEncrypted = "ENCRYPTED PRIVATE KEY"
)

// codes lists what both kinds report.
func codes() map[string][]string {
	return map[string][]string{
		codeWrapped:  {"file", "reason"},
		codePassword: {"file"},
		codeSize:     {"file", "bits", "want"},
		codeDiffers:  {"file", "want", "got"},
		codeUnusable: {"file", "reason"},
		codePKCS1:    {"file"},
		codeReadable: {"file", "mode"},
	}
}

// renamed are a checklist's own codes.
type renamed map[string]string

func (r renamed) check() error {
	for code := range r {
		if _, ok := codes()[code]; !ok {
			return fmt.Errorf("codes: this kind reports no %q", code)
		}
	}
	return nil
}

// finding makes a finding about a file, under the checklist's code.
func (r renamed) finding(code string, severity install.Severity, file, detail string, fields map[string]string) install.Finding {
	if own, ok := r[code]; ok {
		code = own
	}
	if fields == nil {
		fields = map[string]string{}
	}
	fields["file"] = file
	return install.Finding{Code: code, Severity: severity, Detail: file + ": " + detail, Fields: fields}
}

// problem is why a key cannot be used. Its text holds nothing of the key.
type problem struct {
	code   string
	reason string
}

func (p *problem) Error() string { return p.reason }

// material is a key that was read.
type material struct {
	key   *rsa.PrivateKey
	text  []byte // PEM
	pkcs1 bool
}

// fingerprint is the SHA-256 of the public key (SubjectPublicKeyInfo), in hex.
func (m *material) fingerprint() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(&m.key.PublicKey)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// encoded is the key as the product takes it: base64 of the PEM, one line.
func (m *material) encoded() []byte {
	return []byte(base64.StdEncoding.EncodeToString(m.text))
}

// decode reads a key. One line end after the base64 is forgiven, as every editor
// writes it; PEM as it is only where pemToo allows it.
func decode(raw []byte, pemToo bool) (*material, *problem) {
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("-----BEGIN")) {
		if !pemToo {
			return nil, &problem{codeWrapped, "it is PEM, not the base64 of PEM"}
		}
		return parse(raw)
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
	if strings.ContainsAny(line, "\r\n \t") {
		return nil, &problem{codeWrapped, "the base64 has line breaks or spaces"}
	}
	text, err := base64.StdEncoding.Strict().DecodeString(line)
	if err != nil || line == "" {
		return nil, &problem{codeWrapped, "it is not base64 with padding"}
	}
	return parse(text)
}

// parse reads exactly one PEM block.
func parse(text []byte) (*material, *problem) {
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, &problem{codeUnusable, "it holds no PEM block"}
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, &problem{codeUnusable, "it holds more than one PEM block"}
	case !bytes.HasPrefix(text, []byte("-----BEGIN")):
		return nil, &problem{codeUnusable, "something stands before the PEM block"}
	case block.Type == typeEncrypted || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
		return nil, &problem{codePassword, "the key is protected by a passphrase"}
	}
	m := &material{text: text}
	switch block.Type {
	case typePKCS8:
		k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, &problem{codeUnusable, "it is not a PKCS#8 key"}
		}
		var ok bool
		if m.key, ok = k.(*rsa.PrivateKey); !ok {
			return nil, &problem{codeUnusable, "it is not an RSA key"}
		}
	case typePKCS1:
		k, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, &problem{codeUnusable, "it is not a PKCS#1 key"}
		}
		m.key, m.pkcs1 = k, true
	default:
		return nil, &problem{codeUnusable, fmt.Sprintf("its PEM block is %q, not a private key", limit(block.Type))}
	}
	if err := prove(m.key); err != nil {
		return nil, &problem{codeUnusable, err.Error()}
	}
	return m, nil
}

func limit(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// prove checks that the key holds together: its numbers, and that its public
// half verifies what the private one signs.
func prove(k *rsa.PrivateKey) error {
	if n := k.N.BitLen(); n > maxBits {
		return fmt.Errorf("it has %d bits, more than %d", n, maxBits)
	}
	if err := k.Validate(); err != nil {
		return errors.New("its numbers do not belong together")
	}
	digest := sha256.Sum256([]byte("airlock self-test"))
	sig, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, digest[:])
	if err == nil {
		err = rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA256, digest[:], sig)
	}
	if err != nil {
		return errors.New("it does not verify what it signs")
	}
	return nil
}

// judge reports what of a key is not as wanted; bits 0 is any size.
func (m *material) judge(r renamed, file string, bits int) []install.Finding {
	var out []install.Finding
	if have := m.key.N.BitLen(); bits != 0 && have != bits {
		severity := install.SeverityWarn // stronger than wanted: nobody says that it does not work
		if have < bits {
			severity = install.SeverityFail
		}
		out = append(out, r.finding(codeSize, severity, file, fmt.Sprintf("the key has %d bits, %d are wanted", have, bits),
			map[string]string{"bits": strconv.Itoa(have), "want": strconv.Itoa(bits)}))
	}
	if m.pkcs1 {
		out = append(out, r.finding(codePKCS1, install.SeverityWarn, file, "the key is in the form PKCS#1", nil))
	}
	return out
}

// refused is the finding about a key that cannot be used.
func (r renamed) refused(file string, p *problem) install.Finding {
	return r.finding(p.code, install.SeverityFail, file, p.reason, map[string]string{"reason": p.reason})
}

// differs is the finding about a key that is not the one of before.
func (r renamed) differs(file, want, got string) install.Finding {
	return r.finding(codeDiffers, install.SeverityFail, file, fmt.Sprintf("the fingerprint is %s, the one recorded is %s", got, want),
		map[string]string{"want": want, "got": got})
}

// readAll reads a whole small file.
func readAll(f *os.File) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	return raw, nil
}

// bare takes the name out of a file error: the name is said by who calls.
func bare(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}

// checkBits bounds the size that a checklist asks for.
func checkBits(bits int) error {
	if bits < minBits || bits > maxBits {
		return fmt.Errorf("bits %d is not between %d and %d", bits, minBits, maxBits)
	}
	return nil
}

// checkFingerprint takes a fingerprint in hex, with or without colons.
func checkFingerprint(s string) (string, error) {
	s = strings.ToLower(strings.ReplaceAll(s, ":", ""))
	if raw, err := hex.DecodeString(s); err != nil || s != "" && len(raw) != sha256.Size {
		return "", errors.New("fingerprint is not a SHA-256 in hex")
	}
	return s, nil
}
