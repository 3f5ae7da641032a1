package remote

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// seen notes which requests of a plain server carried Basic authorization.
type seen struct {
	*httptest.Server
	mu   sync.Mutex
	list []string
}

func newSeen(t *testing.T, answer http.HandlerFunc) *seen {
	t.Helper()
	s := &seen{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		s.mu.Lock()
		s.list = append(s.list, r.URL.Path+" "+password)
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *seen) host() string { return strings.TrimPrefix(s.URL, "http://") }

func (s *seen) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.list
	s.list = nil
	return list
}

func preemptGet(t *testing.T, h *Hosts, host, url string) (status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.AuthFor(Reference{Host: host, Repository: "a"}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// The login goes unasked to the registry's own host, port and paths, and
// neither to other hosts nor along redirects.
func TestPreemptiveBasic(t *testing.T) {
	hermetic(t)
	other := newSeen(t, func(http.ResponseWriter, *http.Request) {})
	var reg *seen
	reg = newSeen(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/away"):
			http.Redirect(w, r, other.URL+"/v2/blob", http.StatusTemporaryRedirect)
		case strings.HasSuffix(r.URL.Path, "/within"):
			http.Redirect(w, r, reg.URL+"/v2/blob", http.StatusTemporaryRedirect)
		}
	})
	h := newHosts(t, Options{
		PlainHTTP: []string{"127.0.0.1"}, PreemptiveBasic: []string{reg.host()},
		Credentials: map[string]Credential{reg.host(): {Username: "robot", Password: "secret"}, other.host(): {Username: "robot", Password: "other"}},
	})
	for _, url := range []string{reg.URL + "/v2/a/blob", reg.URL + "/token", reg.URL + "/v2/away", reg.URL + "/v2/within", other.URL + "/v2/upload"} {
		if status := preemptGet(t, h, reg.host(), url); status != http.StatusOK {
			t.Errorf("%s: status %d", url, status)
		}
	}
	want := []string{"/v2/a/blob secret", "/token ", "/v2/away secret", "/v2/within secret", "/v2/blob "}
	if diff := cmp.Diff(want, reg.take()); diff != "" {
		t.Errorf("the registry saw (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/v2/blob ", "/v2/upload "}, other.take()); diff != "" {
		t.Errorf("the other host saw (-want +got):\n%s", diff)
	}
	preemptGet(t, h, other.host(), other.URL+"/v2/a/blob")
	if diff := cmp.Diff([]string{"/v2/a/blob "}, other.take()); diff != "" {
		t.Errorf("a host that is not listed saw (-want +got):\n%s", diff)
	}
}

// A host that refuses is not shown the login again unasked; its challenge is
// answered.
func TestPreemptiveBasicRefused(t *testing.T) {
	hermetic(t)
	var reg *seen
	reg = newSeen(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			_, _ = io.WriteString(w, `{"token":"t"}`) // a client that left is no concern of ours
		case r.Header.Get("Authorization") != "Bearer t":
			w.Header().Set("Www-Authenticate", `Bearer realm="`+reg.URL+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	h := newHosts(t, Options{
		PlainHTTP: []string{"127.0.0.1"}, Credentials: map[string]Credential{reg.host(): {Username: "robot", Password: "secret"}},
	})
	if err := h.Preempt(reg.host()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if status := preemptGet(t, h, reg.host(), reg.URL+"/v2/a/blob"); status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	}
	want := []string{"/v2/a/blob secret", "/token secret", "/v2/a/blob ", "/v2/a/blob "}
	if diff := cmp.Diff(want, reg.take()); diff != "" {
		t.Errorf("the registry saw (-want +got):\n%s", diff)
	}
	if err := h.Preempt("https://x"); err == nil {
		t.Error("a URL is accepted for a host")
	}
}
