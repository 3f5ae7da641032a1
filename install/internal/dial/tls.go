package dial

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/regular"
)

const (
	// maxCA bounds a file of authorities: those of a whole operating system have
	// some 250 KiB.
	maxCA = 4 << 20
	// maxChain bounds what is kept of a presented chain; real ones have two to
	// five certificates.
	maxChain = 32
	minRSA   = 2048
	minCurve = 256
)

// Pool reads a PEM file of authorities; "" is what this machine trusts.
func Pool(path string) (*x509.CertPool, error) {
	if path == "" {
		return x509.SystemCertPool()
	}
	list, err := Certificates(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range list {
		pool.AddCert(c)
	}
	return pool, nil
}

// Certificates reads the certificates of a PEM file, of which there is at least
// one.
func Certificates(path string) ([]*x509.Certificate, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxCA+1))
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	if len(raw) > maxCA {
		return nil, fmt.Errorf("read certificates: %s is larger than %d bytes", path, maxCA)
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read certificates: %s, certificate %d: %w", path, len(out)+1, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read certificates: %s holds no PEM certificate", path)
	}
	return out, nil
}

// Presented is what a server shows in a handshake.
type Presented struct {
	Version uint16
	Chain   []*x509.Certificate // leaf first
	Asked   bool                // the server asks for the client's certificate
}

// Handshake starts TLS on conn with name as server name and records what is
// presented, trusted or not: what to make of it is the caller's decision, so
// nothing secret may be sent. versions are the lowest and highest; 0 is any. The
// connection returned is nil if the handshake does not end.
func Handshake(ctx context.Context, conn net.Conn, name string, lowest, highest uint16) (*tls.Conn, Presented, error) {
	var p Presented
	if lowest == 0 {
		lowest = tls.VersionTLS10
	}
	c := tls.Client(conn, &tls.Config{
		ServerName: name, MinVersion: lowest, MaxVersion: highest,
		InsecureSkipVerify: true, // what is presented is reported, then judged
		CipherSuites:       everySuite(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			p.Asked = true
			return &tls.Certificate{}, nil
		},
	})
	err := c.HandshakeContext(ctx)
	st := c.ConnectionState()
	p.Version, p.Chain = st.Version, st.PeerCertificates[:min(len(st.PeerCertificates), maxChain)]
	if err != nil {
		return nil, p, err
	}
	return c, p, nil
}

// everySuite lets a handshake with an old server end, so that it can be reported
// as what it is.
func everySuite() []uint16 {
	var out []uint16
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		out = append(out, s.ID)
	}
	return out
}

// NotTLS says what answers where a handshake did not end.
func NotTLS(err error) string {
	switch {
	case TimedOut(err):
		return "the handshake gets no answer"
	case errors.Is(err, io.EOF):
		return "the connection is closed during the handshake"
	}
	if rec, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		if bytes.HasPrefix(rec.RecordHeader[:], []byte("HTTP")) {
			return "it speaks plain HTTP"
		}
		return "what answers does not speak TLS"
	}
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "remote error: "), "tls: ")
}

// What a Fault is about.
const (
	FaultName    = "name"
	FaultTrust   = "trust"
	FaultExpires = "expires"
	FaultWeak    = "weak"
)

// Fault is a reason why clients refuse, or soon will refuse, a certificate.
type Fault struct {
	What    string
	Warn    bool // it works today
	Subject string
	Issuer  string // of the last certificate presented
	Names   string // of the leaf
	Date    string
	Reason  string
}

// Wish is what clients want of a chain.
type Wish struct {
	Name     string // "" is not checked
	Roots    *x509.CertPool
	WarnDays int
	Now      time.Time
}

// Judge returns every fault of a chain. A chain of none is a fault of trust.
func Judge(chain []*x509.Certificate, w Wish) []Fault {
	if len(chain) == 0 {
		return []Fault{{What: FaultTrust, Reason: "no certificate is presented"}}
	}
	var out []Fault
	leaf := chain[0]
	base := Fault{Subject: leaf.Subject.String(), Issuer: chain[len(chain)-1].Issuer.String(), Names: names(leaf)}
	add := func(what, subject, reason, date string, warn bool) {
		f := base
		f.What, f.Subject, f.Reason, f.Date, f.Warn = what, subject, reason, date, warn
		out = append(out, f)
	}
	if w.Name != "" && leaf.VerifyHostname(w.Name) != nil {
		add(FaultName, base.Subject, fmt.Sprintf("it lacks the name %s", w.Name), "", false)
	}
	if err := trusted(chain, w); err != nil {
		add(FaultTrust, base.Subject, strings.TrimPrefix(err.Error(), "x509: "), "", false)
	}
	for _, c := range chain {
		if reason, date, warn := dates(c, w); reason != "" {
			add(FaultExpires, c.Subject.String(), reason, date, warn)
		}
		if reason := weakness(c); reason != "" {
			add(FaultWeak, c.Subject.String(), reason, "", false)
		}
	}
	return out
}

func names(c *x509.Certificate) string {
	list := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		list = append(list, ip.String())
	}
	return strings.Join(list, ", ")
}

// trusted builds the chain at a moment when all of it is valid: expiry is a
// fault of its own.
func trusted(chain []*x509.Certificate, w Wish) error {
	between, at := x509.NewCertPool(), w.Now
	for _, c := range chain {
		if at.After(c.NotAfter) {
			at = c.NotAfter
		}
		if at.Before(c.NotBefore) {
			at = c.NotBefore
		}
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: w.Roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

func dates(c *x509.Certificate, w Wish) (reason, date string, warn bool) {
	left := c.NotAfter.Sub(w.Now)
	at := c.NotAfter
	switch {
	case w.Now.Before(c.NotBefore):
		reason, at = "is not valid yet", c.NotBefore
	case left <= 0:
		reason = "has expired"
	case left < time.Duration(w.WarnDays)*24*time.Hour:
		reason, warn = fmt.Sprintf("expires in %d days", int(left.Hours()/24)), true
	default:
		return "", "", false
	}
	return reason, at.UTC().Format(time.DateOnly), warn
}

func weakness(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return fmt.Sprintf("RSA key of %d bits; at least %d are needed", k.N.BitLen(), minRSA)
		}
	case *ecdsa.PublicKey:
		if k.Params().BitSize < minCurve {
			return fmt.Sprintf("elliptic curve of %d bits; at least %d are needed", k.Params().BitSize, minCurve)
		}
	}
	weak := []x509.SignatureAlgorithm{x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1}
	if slices.Contains(weak, c.SignatureAlgorithm) && !bytes.Equal(c.RawIssuer, c.RawSubject) { // nobody checks a root's own signature
		return fmt.Sprintf("signature algorithm %s", c.SignatureAlgorithm)
	}
	return ""
}

// PEM encodes a chain, for evidence.
func PEM(chain []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range chain {
		fmt.Fprintf(&b, "# subject %s\n# issuer  %s\n# names   %s\n# until   %s\n", c.Subject, c.Issuer, names(c), c.NotAfter.UTC().Format(time.RFC3339))
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}
