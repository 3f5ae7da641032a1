package web

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestDo(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("1234")) })
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/down", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+"/ok", http.StatusFound)
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://elsewhere.invalid/", http.StatusFound)
	})
	srv := httptest.NewTLSServer(mux)
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	for path, want := range map[string]string{
		"/ok": "", "/here": "", "/loop": "redirected 10 times", "/down": "redirected to http", "/away": "another host",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		a, err := Do(Client(roots, 20*time.Second), req, 4)
		if want == "" && (err != nil || string(a.Body) != "1234") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %q, %v", path, a.Body, err)
		}
		if _, err = Do(Client(roots, 20*time.Second), req, 3); err == nil {
			t.Errorf("%s: four bytes are taken where three are allowed", path)
		}
		_, err = Do(Client(x509.NewCertPool(), 20*time.Second), req, 4)
		if _, ok := errors.AsType[*TrustError](err); !ok {
			t.Errorf("%s: an unknown authority: %v", path, err)
		}
	}
}

func TestURL(t *testing.T) {
	for _, s := range []string{"", "host", "host:443", "ftp://host", "https://", "https://u:hunter2@h\x7f/"} {
		if _, err := URL(s); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", s, err)
		}
	}
}
