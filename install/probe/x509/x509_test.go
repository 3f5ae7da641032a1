package x509

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/google/go-cmp/cmp"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// authority issues certificates for the tests.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func issue(t *testing.T, by *authority, name string, key crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: start, NotAfter: start.AddDate(1, 0, 0),
		BasicConstraintsValid: true,
	}
	change(c)
	if by == nil {
		by = &authority{c, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func newAuthority(t *testing.T, by *authority, name string) *authority {
	key := newKey(t)
	return &authority{issue(t, by, name, key, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
	}), key}
}

func leafOf(c *x509.Certificate) {
	c.DNSNames = []string{"spacelift.example.internal", "*.apps.example.internal"}
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
}

func pemOf(certs ...*x509.Certificate) string {
	var b strings.Builder
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.String()
}

func keyOf(t *testing.T, k crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestFiles(t *testing.T) {
	root := newAuthority(t, nil, "root")
	mid := newAuthority(t, root, "intermediate")
	other := newAuthority(t, nil, "stranger")
	key, stranger := newKey(t), newKey(t)
	weakKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	leaf := issue(t, mid, "leaf", key, leafOf)
	clientOnly := issue(t, mid, "leaf", key, func(c *x509.Certificate) {
		leafOf(c)
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	rsaLeaf := issue(t, mid, "leaf", weakKey, leafOf)
	good := pemOf(leaf, mid.cert)
	for name, c := range map[string]struct {
		cert, key, ca string
		hosts         []any
		now           time.Time
		want          []string
	}{
		"good":              {good, keyOf(t, key), pemOf(root.cert), []any{"spacelift.example.internal", "x.apps.example.internal"}, start.AddDate(0, 1, 0), nil},
		"root included":     {pemOf(leaf, mid.cert, root.cert), keyOf(t, key), pemOf(root.cert), nil, start.AddDate(0, 1, 0), nil},
		"RSA":               {pemOf(rsaLeaf, mid.cert), keyOf(t, weakKey), pemOf(root.cert), nil, start.AddDate(0, 1, 0), nil},
		"wrong key":         {good, keyOf(t, stranger), pemOf(root.cert), nil, start.AddDate(0, 1, 0), []string{"TLS-01"}},
		"missing name":      {good, keyOf(t, key), pemOf(root.cert), []any{"other.example.internal", "a.b.apps.example.internal"}, start.AddDate(0, 1, 0), []string{"TLS-02", "TLS-02"}},
		"no intermediate":   {pemOf(leaf), keyOf(t, key), pemOf(root.cert), nil, start.AddDate(0, 1, 0), []string{"TLS-03"}},
		"other authority":   {good, keyOf(t, key), pemOf(other.cert), nil, start.AddDate(0, 1, 0), []string{"TLS-03"}},
		"not for servers":   {pemOf(clientOnly, mid.cert), keyOf(t, key), pemOf(root.cert), nil, start.AddDate(0, 1, 0), []string{"TLS-03"}},
		"expired":           {good, keyOf(t, key), pemOf(root.cert), nil, start.AddDate(2, 0, 0), []string{"TLS-04", "TLS-04"}},
		"expires soon":      {good, keyOf(t, key), pemOf(root.cert), nil, start.AddDate(1, 0, -10), []string{"TLS-04", "TLS-04"}},
		"not yet valid":     {good, keyOf(t, key), pemOf(root.cert), nil, start.AddDate(0, 0, -1), []string{"TLS-04", "TLS-04"}},
		"out of order":      {pemOf(mid.cert, leaf), keyOf(t, key), pemOf(root.cert), nil, start.AddDate(0, 1, 0), []string{"TLS-01", "TLS-06"}},
		"foreign in chain":  {pemOf(leaf, other.cert, mid.cert), keyOf(t, key), pemOf(root.cert), nil, start.AddDate(0, 1, 0), []string{"TLS-06"}},
		"leaf as authority": {good, keyOf(t, key), pemOf(leaf), nil, start.AddDate(0, 1, 0), []string{"TLS-08"}},
		"no certificate":    {"hello", keyOf(t, key), pemOf(root.cert), nil, start.AddDate(0, 1, 0), []string{"TLS-08"}},
		"encrypted key":     {good, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", pemOf(root.cert), nil, start.AddDate(0, 1, 0), []string{"TLS-08"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := func(name, text string) string {
				p := filepath.Join(dir, name)
				if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return p
			}
			p := Probe{Now: func() time.Time { return c.now }}
			with := map[string]any{"cert": path("crt", c.cert), "key": path("key", c.key), "ca": path("ca", c.ca), "hosts": c.hosts}
			res, err := p.Run(t.Context(), install.Input{With: with})
			if err != nil {
				t.Fatal(err)
			}
			got := codes(t, res.Findings)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("%s\n%+v", d, res.Findings)
			}
		})
	}
}

func codes(t *testing.T, findings []install.Finding) []string {
	t.Helper()
	var out []string
	known := Probe{}.Codes()
	for _, f := range findings {
		out = append(out, f.Code)
		for field := range f.Fields {
			if !slices.Contains(known[f.Code], field) {
				t.Errorf("field %s is not listed with %s", field, f.Code)
			}
		}
	}
	return out
}

func TestSeverityOfExpiry(t *testing.T) {
	root := newAuthority(t, nil, "root")
	c := &check{arguments: arguments{WarnDays: 30}}
	for days, want := range map[int]install.Severity{100: "", 10: install.SeverityWarn, -1: install.SeverityFail} {
		c.now, c.found = root.cert.NotAfter.AddDate(0, 0, -days), nil
		c.dates(root.cert)
		got := install.Severity("")
		if len(c.found) > 0 {
			got = c.found[0].Severity
		}
		if got != want {
			t.Errorf("%d days before: %q, want %q", days, got, want)
		}
	}
}

func TestWeakKey(t *testing.T) {
	c := &check{}
	c.strength(&x509.Certificate{PublicKey: &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}, SignatureAlgorithm: x509.SHA256WithRSA})
	c.strength(&x509.Certificate{PublicKey: newKey(t).Public(), SignatureAlgorithm: x509.SHA1WithRSA})
	if got := codes(t, c.found); !slices.Equal(got, []string{"TLS-07", "TLS-07"}) {
		t.Errorf("%v", got)
	}
}

func TestArguments(t *testing.T) {
	for _, with := range []map[string]any{{}, {"cert": "x"}, {"key": "x"}, {"cert": "a", "key": "b", "host": "c"}} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
}
