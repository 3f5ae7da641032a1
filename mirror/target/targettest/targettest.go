// Package targettest is what the stand-ins for registry products share: a TLS
// server under the products' real host names, and the registry behind it. Only
// tests import it and the stand-ins, which lie beside the adapters as ecrtest,
// gartest, acrtest and harbortest. Stand-ins share no constant with the code
// under test: where both say the same, both have it from the same document.
package targettest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server speaks TLS with a certificate of a test CA.
type Server struct {
	*httptest.Server
	CA     string       // file with the CA's certificate, as --ca-file takes it
	Client *http.Client // trusts the CA and connects to the server whatever the name

	mu     sync.Mutex
	dialed map[string]bool
}

// Serve starts a server for the names. It is closed with the test.
func Serve(t testing.TB, h http.Handler, names ...string) *Server {
	t.Helper()
	s := &Server{dialed: map[string]bool{}}
	cert, leaf := s.certificate(t, names)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	s.Server = httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug) // refused handshakes are part of tests
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	s.Client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			s.mu.Lock()
			s.dialed[addr] = true
			s.mu.Unlock()
			return new(net.Dialer).DialContext(ctx, network, s.Addr())
		},
	}}
	return s
}

// Addr is the address to connect to.
func (s *Server) Addr() string { return s.Listener.Addr().String() }

// Dialed lists the host:port that Client connected to.
func (s *Server) Dialed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.dialed))
}

// certificate makes a certificate for the names that is its own CA, and writes it down.
func (s *Server) certificate(t testing.TB, names []string) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test CA"}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(60 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s.CA = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(s.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, leaf
}

// Refusal is an answer instead of the registry's. The zero value lets a request
// through.
type Refusal struct {
	Status        int
	Code, Message string
}

// Write answers with the error body of the distribution-spec.
func (f Refusal) Write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(f.Status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]any{"code": f.Code, "message": f.Message}}}) // a client that left is the test's to notice
}

// Registry is the registry behind a stand-in: any that keeps to the
// distribution-spec, with what the product refuses beyond it.
type Registry struct {
	Behind http.Handler // nil: the stand-in is asked for its API alone

	mu     sync.Mutex
	refuse func(r *http.Request, repository string) Refusal
	writes []string
}

// Refuse sets what is refused from now on; nil is nothing.
func (g *Registry) Refuse(f func(r *http.Request, repository string) Refusal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse = f
}

// Writes returns the requests that change a registry, "METHOD path", since the
// last call.
func (g *Registry) Writes() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := g.writes
	g.writes = nil
	return list
}

// ServeHTTP answers a request that was let in.
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	refuse := g.refuse
	if !slices.Contains([]string{http.MethodGet, http.MethodHead}, r.Method) {
		g.writes = append(g.writes, r.Method+" "+r.URL.Path)
	}
	g.mu.Unlock()
	if refuse != nil {
		if f := refuse(r, Repository(r.URL.Path)); f.Status != 0 {
			f.Write(w)
			return
		}
	}
	if g.Behind == nil {
		Refusal{http.StatusNotFound, "NOT_FOUND", "page not found"}.Write(w)
		return
	}
	g.Behind.ServeHTTP(w, r)
}

// Has asks the registry behind whether a repository has a tag or digest.
func (g *Registry) Has(repository, reference string) (digest string, ok bool) {
	if g.Behind == nil {
		return "", false
	}
	req := httptest.NewRequest(http.MethodHead, "/v2/"+repository+"/manifests/"+reference, nil)
	req.Header.Set("Accept", "*/*")
	rec := httptest.NewRecorder()
	g.Behind.ServeHTTP(rec, req)
	return rec.Header().Get("Docker-Content-Digest"), rec.Code == http.StatusOK
}

// Exists reports whether a repository has a tag.
func (g *Registry) Exists(repository string) bool {
	if g.Behind == nil {
		return false
	}
	rec := httptest.NewRecorder()
	g.Behind.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/v2/"+repository+"/tags/list", nil))
	var list struct{ Tags []string }
	return json.Unmarshal(rec.Body.Bytes(), &list) == nil && len(list.Tags) > 0
}

// Repository returns the repository that a path below /v2/ is about, or "".
func Repository(path string) string {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return ""
	}
	for _, part := range []string{"/blobs/", "/manifests/", "/tags/", "/referrers/"} {
		if name, _, ok := strings.Cut(rest, part); ok {
			return name
		}
	}
	return ""
}

// Tag returns the tag that a request writes, or "".
func Tag(r *http.Request) string {
	_, ref, ok := strings.Cut(r.URL.Path, "/manifests/")
	if !ok || r.Method != http.MethodPut || strings.Contains(ref, ":") {
		return ""
	}
	return ref
}
