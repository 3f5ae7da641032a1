// Package pki makes certificate authorities and what they issue, for tests.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority issues certificates.
type Authority struct {
	Cert *x509.Certificate
	key  crypto.Signer
	by   *Authority
}

// New makes a root authority.
func New(t testing.TB, name string) *Authority { return (*Authority)(nil).Below(t, name) }

// Below makes an intermediate authority.
func (a *Authority) Below(t testing.TB, name string) *Authority {
	t.Helper()
	cert := a.issue(t, name, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
	})
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		t.Fatal("the key cannot sign")
	}
	return &Authority{Cert: cert.Leaf, key: key, by: a}
}

// Server issues a certificate for names and addresses; each change alters it
// first. Its chain holds every authority but the root.
func (a *Authority) Server(t testing.TB, names []string, change ...func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	out := a.issue(t, names[0], func(c *x509.Certificate) {
		for _, n := range names {
			if ip := net.ParseIP(n); ip != nil {
				c.IPAddresses = append(c.IPAddresses, ip)
				continue
			}
			c.DNSNames = append(c.DNSNames, n)
		}
		for _, ch := range change {
			ch(c)
		}
	})
	for at := a; at.by != nil; at = at.by {
		out.Certificate = append(out.Certificate, at.Cert.Raw)
	}
	return out
}

func (a *Authority) issue(t testing.TB, name string, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	change(c)
	parent, signer := c, crypto.Signer(key)
	if a != nil {
		parent, signer = a.Cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// File writes the authority's certificate and returns the path.
func (a *Authority) File(t testing.TB) string {
	t.Helper()
	return write(t, "ca.pem", block("CERTIFICATE", a.Cert.Raw))
}

// Files writes a chain and its key and returns the paths.
func Files(t testing.TB, c tls.Certificate) (chain, key string) {
	t.Helper()
	var list []byte
	for _, der := range c.Certificate {
		list = append(list, block("CERTIFICATE", der)...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "tls.crt", list), write(t, "tls.key", block("PRIVATE KEY", der))
}

func block(typ string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
}

func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil { // a server under another user reads it
		t.Fatal(err)
	}
	return path
}

// Listen serves TLS on a free port of 127.0.0.1 until the test ends; each
// connection goes to serve, which need not close it.
func Listen(t testing.TB, conf *tls.Config, serve func(net.Conn)) (address string) {
	t.Helper()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := plain
	if conf != nil {
		l = tls.NewListener(plain, conf)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if c, ok := conn.(*tls.Conn); ok && c.HandshakeContext(t.Context()) != nil {
					return
				}
				serve(conn)
			}()
		}
	}()
	return plain.Addr().String()
}
