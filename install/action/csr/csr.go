// Package csr is the action csr.make: a new RSA key and a certificate signing
// request for it (PKCS#10, RFC 2986). The key never leaves the directory of
// secrets, and one that is there is used, never replaced.
package csr

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/place"
)

// codeKey is for a key that is there and cannot be used.
const codeKey = "CSR-01"

const (
	defaultBits = 4096
	minBits     = 2048
	maxBits     = 8192
	maxFile     = 64 << 10
)

// Action is csr.make. Its zero value is ready and safe for concurrent use with
// different names.
type Action struct{}

// arguments are the step's with.
type arguments struct {
	Name    string `json:"name"`    // of the files: NAME.key and NAME.csr
	Subject string `json:"subject"` // common name
	Bits    int    `json:"bits"`
	Prefix  string `json:"prefix"` // of the outputs; default csr
}

// Codes implements install.Coder.
func (Action) Codes() map[string][]string { return map[string][]string{codeKey: {"file", "reason"}} }

// Plan says whether a key would be made.
func (Action) Plan(_ context.Context, in install.Input) (install.Change, error) {
	a, err := decode(in)
	if err != nil {
		return install.Change{}, err
	}
	key, _, err := a.key(in.Secrets)
	switch {
	case errors.Is(err, fs.ErrNotExist), in.Secrets == "":
		return install.Change{Summary: fmt.Sprintf("make an RSA key of %d bits and a signing request, %s.key and %s.csr", a.Bits, a.Name, a.Name)}, nil
	case err != nil:
		return install.Change{}, err
	}
	want, err := a.request(key)
	if err != nil {
		return install.Change{}, err
	}
	have, _, err := place.Read(in.Secrets, a.Name+".csr", maxFile)
	if err != nil || !bytes.Equal(have, want) {
		return install.Change{Summary: "make a signing request for the key " + a.Name + ".key"}, nil //nolint:nilerr // what cannot be read is made again
	}
	return install.Change{Summary: a.Name + ".key and its signing request are there", Nothing: true}, nil
}

// Apply makes what is missing. Its outputs are PREFIX.key_file, PREFIX.csr_file
// and PREFIX.csr, the request's PEM in base64 on one line.
func (Action) Apply(_ context.Context, in install.Input) (install.Result, error) {
	a, err := decode(in)
	if err != nil {
		return install.Result{}, err
	}
	key, path, err := a.key(in.Secrets)
	made := errors.Is(err, fs.ErrNotExist)
	if made {
		key, path, err = a.make(in.Secrets)
		if err != nil {
			return install.Result{}, err
		}
	}
	if err != nil {
		return install.Result{Findings: []install.Finding{{
			Code: codeKey, Detail: fmt.Sprintf("%s.key: %s", a.Name, err), Fields: map[string]string{"file": path, "reason": err.Error()},
		}}}, nil
	}
	text, err := a.request(key)
	if err != nil {
		return install.Result{}, err
	}
	have, file, err := place.Read(in.Secrets, a.Name+".csr", maxFile)
	changed := made || err != nil || !bytes.Equal(have, text)
	if changed {
		if file, err = place.Set(in.Secrets, a.Name+".csr", text, 0o600); err != nil {
			return install.Result{}, err
		}
	}
	return install.Result{Changed: changed, Outputs: map[string]any{
		a.Prefix + ".key_file": path, a.Prefix + ".csr_file": file, a.Prefix + ".csr": base64.StdEncoding.EncodeToString(text),
	}}, nil
}

func decode(in install.Input) (arguments, error) {
	a := arguments{Bits: defaultBits, Prefix: "csr"}
	if err := in.Decode(&a); err != nil {
		return a, err
	}
	if err := place.Path(a.Name); err != nil {
		return a, err
	}
	if a.Bits < minBits || a.Bits > maxBits {
		return a, fmt.Errorf("bits %d is not %d to %d", a.Bits, minBits, maxBits)
	}
	return a, nil
}

// key reads the key that is there. Errors say nothing of its content.
func (a arguments) key(dir string) (*rsa.PrivateKey, string, error) {
	if dir == "" {
		return nil, "", errors.New("no directory for secrets is given")
	}
	data, path, err := place.Read(dir, a.Name+".key", maxFile)
	if err != nil {
		return nil, path, err
	}
	block, rest := pem.Decode(data)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, path, errors.New("it is not one PEM block")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, path, errors.New("it is not an unencrypted PKCS#8 key")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok || key.N.BitLen() < a.Bits {
		return nil, path, fmt.Errorf("it is not an RSA key of %d bits", a.Bits)
	}
	return key, path, nil
}

func (a arguments) make(dir string) (*rsa.PrivateKey, string, error) {
	key, err := rsa.GenerateKey(rand.Reader, a.Bits)
	if err != nil {
		return nil, "", fmt.Errorf("make key %s: %w", a.Name, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, "", fmt.Errorf("make key %s: %w", a.Name, err)
	}
	path, err := place.New(dir, a.Name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	return key, path, err
}

// request is the same bytes each time: PKCS#1 v1.5 signatures hold no chance.
func (a arguments) request(key *rsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: a.Subject}, SignatureAlgorithm: x509.SHA256WithRSA,
	}, key)
	if err != nil {
		return nil, fmt.Errorf("make signing request %s: %w", a.Name, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}
