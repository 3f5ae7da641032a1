// Package x509 is the probe x509.files: will clients trust the certificate
// files that are to be installed.
package x509

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/install"
)

// Codes.
const (
	codeKey     = "TLS-01"
	codeName    = "TLS-02"
	codeTrust   = "TLS-03"
	codeExpires = "TLS-04"
	codeOrder   = "TLS-06"
	codeWeak    = "TLS-07"
	codeFile    = "TLS-08"
)

const (
	// maxFile bounds one PEM file; a long chain has 20 KiB.
	maxFile = 1 << 20
	// maxChain bounds the certificates of one file: a CA bundle has some 150.
	maxChain = 1000
	minRSA   = 2048
	warnDays = 30
)

// Probe is x509.files. Now is the clock; nil means time.Now.
type Probe struct {
	Now func() time.Time
}

// arguments are the step's with.
type arguments struct {
	Cert     string   `json:"cert"` // leaf first, then intermediates
	Key      string   `json:"key"`
	CA       string   `json:"ca"`    // without it the system's authorities count
	Hosts    []string `json:"hosts"` // names clients use
	WarnDays int      `json:"warn_days"`
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{
		codeKey:     {"cert", "key", "reason"},
		codeName:    {"cert", "host", "names"},
		codeTrust:   {"cert", "issuer", "reason"},
		codeExpires: {"cert", "subject", "date", "reason"},
		codeOrder:   {"cert", "subject", "reason"},
		codeWeak:    {"cert", "subject", "reason"},
		codeFile:    {"cert", "file", "reason"},
	}
}

// check is one look at a set of files.
type check struct {
	arguments
	now   time.Time
	found []install.Finding
}

// Offline implements install.Offline.
func (Probe) Offline() {}

// Run reads the files and reports everything a client would refuse.
func (p Probe) Run(_ context.Context, in install.Input) (install.Result, error) {
	c := &check{arguments: arguments{WarnDays: warnDays}, now: time.Now()}
	if p.Now != nil {
		c.now = p.Now()
	}
	if err := in.Decode(&c.arguments); err != nil {
		return install.Result{}, err
	}
	if c.Cert == "" || c.Key == "" {
		return install.Result{}, errors.New("want cert and key")
	}
	chain, err := certificates(c.Cert)
	if err != nil {
		c.file(c.Cert, err)
		return install.Result{Findings: c.found}, nil
	}
	leaf := chain[0]
	c.key(leaf)
	c.order(chain)
	for _, cert := range chain {
		c.dates(cert)
		c.strength(cert)
	}
	c.names(leaf)
	c.trust(chain)
	return install.Result{Findings: c.found, Outputs: map[string]any{
		"tls.not_after": leaf.NotAfter.UTC().Format(time.RFC3339),
		"tls.names":     anyList(leaf.DNSNames),
	}}, nil
}

func anyList(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

func (c *check) add(code string, severity install.Severity, detail string, fields map[string]string) {
	fields["cert"] = c.Cert
	c.found = append(c.found, install.Finding{Code: code, Severity: severity, Detail: detail, Fields: fields})
}

func (c *check) file(name string, err error) {
	c.add(codeFile, install.SeverityFail, fmt.Sprintf("%s: %s", name, err), map[string]string{"file": name, "reason": err.Error()})
}

// key compares the key with the leaf. Nothing of the key is ever shown.
func (c *check) key(leaf *x509.Certificate) {
	certPEM, err := readFile(c.Cert)
	if err != nil {
		c.file(c.Cert, err)
		return
	}
	keyPEM, err := readFile(c.Key)
	if err != nil {
		c.file(c.Key, err)
		return
	}
	if reason := encrypted(keyPEM); reason != "" {
		c.file(c.Key, errors.New(reason))
		return
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err == nil {
		signer, ok := pair.PrivateKey.(crypto.Signer)
		if !ok || !samePublic(leaf.PublicKey, signer.Public()) {
			err = errors.New("private key does not match public key")
		}
	}
	if err != nil {
		reason := strings.TrimPrefix(err.Error(), "tls: ")
		c.add(codeKey, install.SeverityFail, fmt.Sprintf("%s and %s: %s", c.Cert, c.Key, reason), map[string]string{"key": c.Key, "reason": reason})
	}
}

func samePublic(a, b any) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// encrypted says why a key cannot be read without a password.
func encrypted(keyPEM []byte) string {
	for rest := keyPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return ""
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return "the key is protected by a password; servers need it in the clear"
		}
	}
}

// order checks that every certificate is issued by the next.
func (c *check) order(chain []*x509.Certificate) {
	if chain[0].IsCA && len(chain) > 1 {
		c.out(chain[0], "it is the first and an authority; the server's own certificate comes first")
		return
	}
	for i, cert := range chain[:len(chain)-1] {
		if err := cert.CheckSignatureFrom(chain[i+1]); err != nil {
			c.out(cert, fmt.Sprintf("it is not issued by the next one, %s", chain[i+1].Subject))
			return
		}
	}
}

func (c *check) out(cert *x509.Certificate, reason string) {
	subject := cert.Subject.String()
	c.add(codeOrder, install.SeverityFail, subject+": "+reason, map[string]string{"subject": subject, "reason": reason})
}

func (c *check) dates(cert *x509.Certificate) {
	severity, reason, date := install.SeverityFail, "", cert.NotAfter
	left := cert.NotAfter.Sub(c.now)
	switch {
	case c.now.Before(cert.NotBefore):
		reason, date = "is not valid yet", cert.NotBefore
	case left <= 0:
		reason = "has expired"
	case left < time.Duration(c.WarnDays)*24*time.Hour:
		severity, reason = install.SeverityWarn, fmt.Sprintf("expires in %d days", int(left.Hours()/24))
	default:
		return
	}
	subject, when := cert.Subject.String(), date.UTC().Format(time.DateOnly)
	c.add(codeExpires, severity, fmt.Sprintf("%s %s (%s)", subject, reason, when), map[string]string{"subject": subject, "date": when, "reason": reason})
}

// strength applies what browsers demand of keys and signatures.
func (c *check) strength(cert *x509.Certificate) {
	reason := ""
	switch k := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			reason = fmt.Sprintf("RSA key of %d bits; at least %d are needed", k.N.BitLen(), minRSA)
		}
	case *ecdsa.PublicKey:
		if k.Params().BitSize < 256 {
			reason = fmt.Sprintf("elliptic curve of %d bits; at least 256 are needed", k.Params().BitSize)
		}
	case ed25519.PublicKey:
		reason = "Ed25519 keys are not accepted by browsers"
	default:
		reason = fmt.Sprintf("key type %s", cert.PublicKeyAlgorithm)
	}
	weak := []x509.SignatureAlgorithm{x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1}
	selfSigned := cert.CheckSignatureFrom(cert) == nil // nobody checks a root's own signature
	if slices.Contains(weak, cert.SignatureAlgorithm) && !selfSigned {
		reason = fmt.Sprintf("signature algorithm %s", cert.SignatureAlgorithm)
	}
	if reason != "" {
		subject := cert.Subject.String()
		c.add(codeWeak, install.SeverityFail, subject+": "+reason, map[string]string{"subject": subject, "reason": reason})
	}
}

// names checks the subject alternative names; the common name counts nowhere.
func (c *check) names(leaf *x509.Certificate) {
	have := strings.Join(leaf.DNSNames, ", ")
	for _, host := range c.Hosts {
		if err := leaf.VerifyHostname(host); err != nil {
			c.add(codeName, install.SeverityFail, fmt.Sprintf("%s lacks the name %s, it has [%s]", c.Cert, host, have), map[string]string{"host": host, "names": have})
		}
	}
}

// trust builds the chain as a client would that has only the authorities given.
func (c *check) trust(chain []*x509.Certificate) {
	roots, err := c.roots()
	if err != nil {
		c.file(c.CA, err)
		return
	}
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	// Expiry has its own code; at a moment when all are valid only trust is left.
	at := c.now
	for _, cert := range chain {
		if at.After(cert.NotAfter) {
			at = cert.NotAfter
		}
		if at.Before(cert.NotBefore) {
			at = cert.NotBefore
		}
	}
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		reason, issuer := strings.TrimPrefix(err.Error(), "x509: "), chain[len(chain)-1].Issuer.String()
		c.add(codeTrust, install.SeverityFail, fmt.Sprintf("%s: %s", c.Cert, reason), map[string]string{"issuer": issuer, "reason": reason})
	}
}

func (c *check) roots() (*x509.CertPool, error) {
	if c.CA == "" {
		return x509.SystemCertPool()
	}
	list, err := certificates(c.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, cert := range list {
		if !cert.IsCA || cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
			return nil, fmt.Errorf("%s is not an authority (CA:TRUE with certificate signing)", cert.Subject)
		}
		pool.AddCert(cert)
	}
	return pool, nil
}

func certificates(name string) ([]*x509.Certificate, error) {
	raw, err := readFile(name)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for len(out) < maxChain {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(out)+1, err)
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, errors.New("it holds no PEM certificate")
	}
	return out, nil
}

func readFile(name string) ([]byte, error) {
	f, err := regular.Open(name)
	if err != nil {
		if pe, ok := errors.AsType[*os.PathError](err); ok {
			err = pe.Err // the name is a field of its own
		}
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	return raw, nil
}
