// Package provider runs an OpenID provider in process, for tests: a discovery
// document and a key set over HTTPS.
package provider

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// Provider is a provider; what is set before it starts changes it.
type Provider struct {
	URL string // of the running provider
	CA  string // PEM file of its authority

	Issuer   string                   // "" is its URL
	Document func(base string) string // "" in place of the document; ISSUER in it is the URL
	Keys     string                   // in place of the key set
	Redirect string                   // where the document is said to be
	Before   func(r *http.Request)    // each request
}

// Start serves until the test ends.
func Start(t testing.TB, change func(*Provider)) *Provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	p := &Provider{Keys: string(set)}
	if change != nil {
		change(p)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/jwks", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(p.Keys)) })
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		if p.Before != nil {
			p.Before(r)
		}
		if p.Redirect != "" {
			http.Redirect(w, r, p.Redirect, http.StatusFound)
			return
		}
		_, _ = w.Write([]byte(p.document()))
	})
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that do not trust it are wanted
	srv.StartTLS()
	t.Cleanup(srv.Close)
	p.URL, p.CA = srv.URL, filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(p.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *Provider) document() string {
	issuer := p.URL
	if p.Issuer != "" {
		issuer = p.Issuer
	}
	if p.Document != nil {
		return strings.ReplaceAll(p.Document(p.URL), "ISSUER", issuer)
	}
	doc, err := json.Marshal(map[string]any{"issuer": issuer, "jwks_uri": p.URL + "/.well-known/jwks", "scopes_supported": []string{"openid", "email"}})
	if err != nil {
		return err.Error()
	}
	return string(doc)
}
