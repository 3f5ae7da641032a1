package remote

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestTokenServiceWithoutToken: the error names the token service, and nothing
// is tried again.
func TestTokenServiceWithoutToken(t *testing.T) {
	var body atomic.Value
	var asked atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write([]byte(body.Load().(string))) // a client that left is no concern of ours
	}))
	defer service.Close()
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer good" {
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Content-Length", "2")
			w.Header().Set("Docker-Content-Digest", digest.FromString("{}").String())
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+service.URL+`/token",service="s"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer registry.Close()
	host, realm := strings.TrimPrefix(registry.URL, "http://"), strings.TrimPrefix(service.URL, "http://")
	for text, good := range map[string]bool{
		"": false, "{}": false, "<html>": false, strings.Repeat(" ", maxToken+1): false,
		`{"token":"good"}`: true, `{"access_token":"good"}`: true,
	} {
		h, err := New(Options{PlainHTTP: []string{host, realm}})
		if err != nil {
			t.Fatal(err)
		}
		body.Store(text)
		asked.Store(0)
		repo, err := h.Repository(host + "/a/b")
		if err != nil {
			t.Fatal(err)
		}
		_, err = repo.Resolve(t.Context(), "v1")
		err = Explain(err, host+"/a/b:v1")
		if good {
			if err != nil {
				t.Errorf("%.20q: %v", text, err)
			}
			continue
		}
		e, ok := errors.AsType[*TokenError](err)
		if !ok || e.Host != realm {
			t.Errorf("%.20q: got %v, want a *TokenError of %s", text, err, realm)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%.20q: asked %d times", text, n)
		}
	}
}
