package mirror

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
)

// lock asks for a login before a registry: basic, or tokens that a service on
// another port of the same address issues, as GitLab and Harbor do.
type lock struct {
	kind  string
	reg   *registry
	realm string

	mu      sync.Mutex
	look    func(*http.Request)
	issued  int
	oldest  int // tokens before it are refused
	asleep  bool
	revoked bool
}

const (
	lockUser   = "robot"
	lockSecret = "secret"
)

// protect puts a lock before a registry. Its faults are replaced.
func protect(t testing.TB, reg *registry, kind string) *lock {
	t.Helper()
	l := &lock{kind: kind, reg: reg}
	if kind == "token" {
		ts := httptest.NewUnstartedServer(http.HandlerFunc(l.issue))
		t.Cleanup(ts.Close)
		if reg.caFile == "" {
			ts.Start()
		} else {
			ts.StartTLS() // httptest's certificate is the same everywhere
		}
		l.realm = ts.URL + "/token"
	}
	reg.setFault(l.refuse)
	return l
}

// before has f look at every request, which may take the login away from it.
func (l *lock) before(f func(*http.Request)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look = f
}

// expire makes what was issued so far worthless. Basic credentials are refused
// once, as by a registry whose session ended.
func (l *lock) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.oldest, l.asleep = l.issued+1, l.kind == "basic"
}

// revoke refuses the login from now on.
func (l *lock) revoke() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revoked, l.oldest = true, l.issued+1
}

func (l *lock) refuse(w http.ResponseWriter, r *http.Request) bool {
	l.mu.Lock()
	look := l.look
	l.mu.Unlock()
	if look != nil {
		look(r)
	}
	if l.allowed(r) {
		return false
	}
	challenge := `Basic realm="test"`
	if l.kind == "token" {
		challenge = fmt.Sprintf(`Bearer realm=%q,service="test",scope=%q`, l.realm, scope(r))
	}
	w.Header().Set("Www-Authenticate", challenge)
	writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return true
}

// scope is what a request needs, as distribution asks for it.
func scope(r *http.Request) string {
	name := strings.TrimPrefix(r.URL.Path, "/v2/")
	for _, cut := range []string{"/blobs/", "/manifests/", "/referrers/"} {
		name, _, _ = strings.Cut(name, cut)
	}
	return "repository:" + name + ":pull,push"
}

func (l *lock) allowed(r *http.Request) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kind == "basic" {
		user, secret, ok := r.BasicAuth()
		if ok && l.asleep {
			l.asleep = false
			return false
		}
		return ok && user == lockUser && secret == lockSecret && !l.revoked
	}
	var n int
	var granted string
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if _, err := fmt.Sscanf(token, "%d %s", &n, &granted); err != nil || n < max(1, l.oldest) || n > l.issued {
		return false
	}
	return strings.Contains(granted, strings.TrimSuffix(scope(r), ":pull,push")+":")
}

// issue answers a request for a token that names what it is good for.
func (l *lock) issue(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if user, secret, ok := r.BasicAuth(); !ok || user != lockUser || secret != lockSecret || l.revoked {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	l.issued++
	token := fmt.Sprintf("%d %s", l.issued, strings.Join(r.URL.Query()["scope"], ","))
	w.Header().Set("Content-Type", "application/json")
	// A client that left is no concern of ours.
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
}

// hosts are clients with the login, for the registry and others in plain HTTP.
func (l *lock) hosts(t testing.TB, others ...string) *remote.Hosts {
	t.Helper()
	o := remote.Options{
		Attempts:    1,
		Credentials: map[string]remote.Credential{l.reg.host: {Username: lockUser, Password: lockSecret}},
	}
	if l.reg.caFile != "" {
		o.CAFiles = []string{l.reg.caFile}
	} else {
		o.PlainHTTP = append([]string{l.reg.host}, others...)
		if realm, ok := strings.CutPrefix(l.realm, "http://"); ok {
			o.PlainHTTP = append(o.PlainHTTP, strings.TrimSuffix(realm, "/token"))
		}
	}
	h, err := remote.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
