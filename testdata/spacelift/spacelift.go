// Package spacelift is a stand-in for a Spacelift Self-Hosted server, for tests:
// the parts of its HTTP and GraphQL surface that the checklist uses, with the
// names that public clients of the product use. The product itself is not
// public; what this shows is that Airlock speaks as those clients do, not that
// a server answers so.
package spacelift

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Options say how the server behaves. The zero value behaves well.
type Options struct {
	KeyID, KeySecret string        // of the one API key; defaults are set
	NoAdmin          bool          // the key is no admin's
	TokenLife        time.Duration // default an hour
	Version          string        // default 4.3.0
	Uploads          string        // origin in the page's Content-Security-Policy
	Issuer           string        // default the server's own URL
	Status           int           // of every answer, as a broken proxy gives it; 0: as it should be
	Away             string        // "/" redirects there
	AdminStatus      int           // of /admin-login; default 200

	// The API key that the worker controller registers pools with; "" is none.
	ControllerID, ControllerSecret string

	Workers    func(asked int) []Worker // of each pool, by how often it was asked; default one idle
	RefuseCSR  bool
	UnknownVCS bool     // the repository of a new stack is not found
	Script     []string // states of a run, one for each time it is asked; default a good run
	NoLogs     bool

	Metrics       int // status of the usage export; default 200
	BrokenMetrics bool
}

// Worker is one worker of a pool.
type Worker struct {
	ID            string
	Busy, Drained bool
}

// Good is what a run goes through. It stays UNCONFIRMED until somebody confirms.
func Good() []string {
	return []string{"QUEUED", "PREPARING", "INITIALIZING", "PLANNING", "UNCONFIRMED", "APPLYING", "FINISHED"}
}

// Server is a running stand-in.
type Server struct {
	URL    string
	CAFile string
	Host   string // host:port

	mu     sync.Mutex
	o      Options
	now    func() time.Time
	tokens map[string]time.Time
	pools  []*pool
	vcs    map[string][]map[string]any // by kind
	stacks []*stack
	runner string
	logins int
	calls  map[string]int
}

// Start starts a server that ends with the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.KeyID == "" {
		o.KeyID, o.KeySecret = "01KEYOFTHEADMIN", "3f1c9f0e-secret-of-the-admin-key"
	}
	if o.Version == "" {
		o.Version = "4.3.0"
	}
	if o.TokenLife == 0 {
		o.TokenLife = time.Hour
	}
	if o.Script == nil {
		o.Script = Good()
	}
	s := &Server{o: o, now: time.Now, tokens: map[string]time.Time{}, vcs: map[string][]map[string]any{}, calls: map[string]int{}}
	s.URL, s.CAFile, s.Host = TLS(t, s.routes())
	return s
}

// TLS serves h over TLS with a certificate of an authority of its own, whose
// file it returns too.
func TLS(t testing.TB, h http.Handler) (url, ca, host string) {
	t.Helper()
	authority, leaf := certificates(t)
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{leaf}}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that refuse the certificate are part of the tests
	srv.StartTLS()
	t.Cleanup(srv.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority}), 0o600); err != nil {
		t.Fatal(err)
	}
	return srv.URL, ca, srv.Listener.Addr().String()
}

func certificates(t testing.TB) (authority []byte, leaf tls.Certificate) {
	t.Helper()
	sign := func(tmpl, parent *x509.Certificate, key, by *ecdsa.PrivateKey) []byte {
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	caKey, key := newKey(), newKey()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Enclave Test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
	}
	der := sign(ca, ca, caKey, caKey)
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
	}
	return der, tls.Certificate{Certificate: [][]byte{sign(server, ca, key, caKey)}, PrivateKey: key}
}

// Calls returns how often a field of the API was asked for.
func (s *Server) Calls(field string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[field]
}

// Runner returns the account's default runner image, "" if none was set.
func (s *Server) Runner() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runner
}

// Tokens returns every token that was handed out: none may show anywhere.
func (s *Server) Tokens() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for token := range s.tokens {
		out = append(out, token)
	}
	return out
}

// Forget makes the server take no token that it gave so far.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token := range s.tokens {
		s.tokens[token] = time.Time{}
	}
}

// Change changes how the server behaves from now on.
func (s *Server) Change(f func(*Options)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.o)
}

func secret() string {
	var b [24]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
