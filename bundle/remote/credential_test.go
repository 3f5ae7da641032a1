package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// providerHost is a host that stands for one of a cloud provider's.
const providerHost = "registry.provider.test"

// chain is a provider's chain that answers with numbered passwords.
type chain struct {
	mu      sync.Mutex
	calls   int
	expires time.Duration // 0: unknown
	err     error
	same    bool // the same password every time
	now     func() time.Time
}

func (c *chain) native(host string) Native {
	if host != providerHost {
		return nil
	}
	return func(context.Context) (Credential, string, time.Time, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.calls++
		if c.err != nil {
			return Credential{}, "", time.Time{}, c.err
		}
		n := c.calls
		if c.same {
			n = 1
		}
		var expires time.Time
		if c.expires != 0 {
			expires = c.now().Add(c.expires)
		}
		return Credential{Username: "cloud", Password: fmt.Sprint("native-", n)}, "instance role", expires, nil
	}
}

// authServer is a host that wants Basic authorization and remembers what it saw.
type authServer struct {
	*httptest.Server
	mu     sync.Mutex
	accept map[string]bool // passwords
	deny   int             // the status of a refusal, 401 if 0
	seen   []string
}

func newAuthServer(t *testing.T, accept ...string) *authServer {
	t.Helper()
	s := &authServer{}
	s.allow(accept...)
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, password, ok := r.BasicAuth()
		s.seen = append(s.seen, password)
		switch {
		case ok && s.accept[password]:
		case ok && s.deny != 0:
			w.WriteHeader(s.deny)
		default:
			w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *authServer) allow(passwords ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accept = map[string]bool{}
	for _, p := range passwords {
		s.accept[p] = true
	}
}

// passwords returns what was shown since the last call.
func (s *authServer) passwords() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

func (s *authServer) hosts(t *testing.T, o Options) *Hosts {
	t.Helper()
	o.CAFiles = []string{writeCA(t, s.Server)}
	// httptest's certificate is for example.com; the tests speak to the address
	// under the provider's name by a host rule of their own.
	o.Resolve = map[string]string{providerHost: s.Listener.Addr().String(), "example.com": s.Listener.Addr().String()}
	h := newHosts(t, o)
	base, ok := h.http.Transport.(*ruleTransport).base.(*renewTransport).base.(*retryTransport).base.(*stallTransport).base.(*http.Transport)
	if !ok {
		t.Fatal("the stack of transports changed")
	}
	base.TLSClientConfig.ServerName = "example.com"
	return h
}

func status(t *testing.T, h *Hosts, host string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.Auth().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestCredentialSteps takes away the first place of the order again and again.
func TestCredentialSteps(t *testing.T) {
	hermetic(t)
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	bin := t.TempDir()
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	write := func(name, content string, mode os.FileMode) string {
		t.Helper()
		if err := os.WriteFile(name, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, helper := range []string{"own", "all"} {
		write(filepath.Join(bin, "docker-credential-"+helper), "#!/bin/sh\necho '{\"Username\":\""+helper+"\",\"Secret\":\"p\"}'\n", 0o755)
	}
	asked := write(filepath.Join(dir, "asked.json"), `{"auths":{"registry.provider.test":`+login("asked", "p")+`}}`, 0o600)
	env := write(filepath.Join(dir, "env.json"), `{"auths":{"registry.provider.test":`+login("envfile", "p")+`}}`, 0o600)
	config := filepath.Join(dir, "config.json")
	static := `"auths":{"registry.provider.test":` + login("static", "p") + `}`

	t.Setenv(envUsername, "environment")
	t.Setenv(envPassword, "p")
	t.Setenv("REGISTRY_AUTH_FILE", env)
	write(config, `{"credHelpers":{"registry.provider.test":"own"},"credsStore":"all",`+static+`}`, 0o600)
	o := Options{
		Credentials: map[string]Credential{providerHost: {Username: "given", Password: "p"}},
		Target:      providerHost, AuthFile: asked, Native: (&chain{}).native,
	}
	for _, step := range []struct {
		user, source string
		then         func()
	}{
		{"given", "given for this run", func() { o.Credentials = nil }},
		{"environment", "environment AIRLOCK_REGISTRY_USERNAME", func() { o.Target = "other.test" }},
		{"asked", "asked.json", func() { o.AuthFile = "" }},
		{"envfile", "env.json", func() { t.Setenv("REGISTRY_AUTH_FILE", "") }},
		{"own", `credential helper "own"`, func() { write(config, `{"credsStore":"all",`+static+`}`, 0o600) }},
		{"cloud", "instance role", func() { o.Native = nil }},
		{"all", `credential store "all"`, func() { write(config, `{`+static+`}`, 0o600) }},
		{"static", "login for registry.provider.test", func() { write(config, `{}`, 0o600) }},
		{"", "none (anonymous)", func() {}},
	} {
		h := newHosts(t, o)
		c, err := h.Auth().Credential(t.Context(), providerHost)
		if err != nil || c.Username != step.user {
			t.Errorf("got user %q, %v; want %q", c.Username, err, step.user)
		}
		if got := h.CredentialSource(providerHost); !strings.Contains(got, step.source) {
			t.Errorf("source %q, want %q in it", got, step.source)
		}
		if c, err := h.Auth().Credential(t.Context(), "other.example"); err != nil || (c != Credential{} && c.Username != "all") {
			t.Errorf("%s: another host is shown user %q, %v", step.user, c.Username, err)
		}
		step.then()
	}
}

func TestAnonymous(t *testing.T) {
	hermetic(t)
	failing := &chain{err: errors.New("no role is attached")}
	_, err := newHosts(t, Options{Native: failing.native}).Auth().Credential(t.Context(), providerHost)
	if e, ok := errors.AsType[*AuthError](err); !ok || !strings.Contains(e.Error(), "no role is attached") {
		t.Errorf("a provider without credentials: got %v, want *AuthError with the chain's reason", err)
	}
	h := newHosts(t, Options{Native: failing.native, Anonymous: []string{providerHost}})
	if c, err := h.Auth().Credential(t.Context(), providerHost); err != nil || c != (Credential{}) || failing.calls != 1 {
		t.Errorf("anonymous: got %q, %v after %d calls", c.Username, err, failing.calls)
	}
	if _, err := New(Options{Anonymous: []string{"a.b"}, Credentials: map[string]Credential{"a.b": {Username: "u"}}}); err == nil {
		t.Error("anonymous and credentials for one host were accepted")
	}
	t.Setenv(envUsername, "u")
	if _, err := New(Options{Target: "a.b"}); err == nil {
		t.Error("a user name without a password was accepted")
	}
	if _, err := New(Options{}); err != nil {
		t.Errorf("half a login that nobody is shown: %v", err)
	}
}

func TestStoredLoginFallsBackToProvider(t *testing.T) {
	hermetic(t)
	file := filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(file, []byte(`{"auths":{"registry.provider.test":`+login("u", "stale")+`}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, deny := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		c := &chain{}
		s := newAuthServer(t, "native-1")
		s.deny = deny
		h := s.hosts(t, Options{AuthFile: file, Native: c.native})
		if got := status(t, h, providerHost); got != http.StatusOK {
			t.Fatalf("after %d: status %d", deny, got)
		}
		if got := status(t, h, providerHost); got != http.StatusOK || c.calls != 1 {
			t.Errorf("again: status %d, the chain was asked %d times", got, c.calls)
		}
		if diff := cmp.Diff([]string{"", "stale", "native-1", "native-1"}, s.passwords()); diff != "" {
			t.Errorf("shown (-want +got):\n%s", diff)
		}
		l := h.Login(providerHost)
		if l.Source != "instance role" || len(l.Refused) != 1 || l.Refused[0].Status != deny || !strings.Contains(l.Refused[0].Source, "auth.json") {
			t.Errorf("login = %+v", l)
		}
	}
	s := newAuthServer(t)
	h := s.hosts(t, Options{AuthFile: file, Native: (&chain{}).native})
	if got := status(t, h, providerHost); got != http.StatusUnauthorized {
		t.Errorf("both refused: status %d", got)
	}
	if l := h.Login(providerHost); len(l.Refused) != 2 || l.Refused[1].Source != "instance role" {
		t.Errorf("both refused: login = %+v", l)
	}
	given := s.hosts(t, Options{Credentials: map[string]Credential{providerHost: {Username: "u", Password: "typed"}}, Native: (&chain{}).native})
	if got := status(t, given, providerHost); got != http.StatusUnauthorized || strings.Contains(strings.Join(s.passwords()[3:], " "), "native") {
		t.Errorf("what a person gave was replaced: status %d", got)
	}
}

func TestProviderRenewal(t *testing.T) {
	hermetic(t)
	now := time.Now()
	clock := func() time.Time { return now }
	c := &chain{expires: time.Hour, now: clock}
	s := newAuthServer(t, "native-1")
	h := s.hosts(t, Options{Native: c.native})
	h.keyring.now = clock
	want := func(what string, code int, shown ...string) {
		t.Helper()
		if got := status(t, h, providerHost); got != code {
			t.Errorf("%s: status %d, want %d", what, got, code)
		}
		if diff := cmp.Diff(shown, s.passwords()); diff != "" {
			t.Errorf("%s: shown (-want +got):\n%s", what, diff)
		}
	}
	want("first", 200, "", "native-1")
	want("kept", 200, "native-1")
	now = now.Add(56 * time.Minute)
	s.allow("native-2")
	want("before its end", 200, "native-2")
	if got, end := h.Login(providerHost), now.Add(time.Hour); !got.Expires.Equal(end) {
		t.Errorf("expires %v, want %v", got.Expires, end)
	}
	now = now.Add(10 * time.Minute)
	s.allow("native-3")
	want("revoked", 200, "native-2", "native-3")
	s.allow()
	want("a fresh one is refused", 401, "native-3", "native-3")
	if c.calls != 3 {
		t.Errorf("the chain was asked %d times, want 3", c.calls)
	}
	now = now.Add(58 * time.Minute)
	c.err = errors.New("metadata server is away")
	s.allow("native-3")
	want("cannot be renewed", 200, "native-3")
	want("and is not asked again at once", 200, "native-3")
	if c.calls != 4 {
		t.Errorf("the chain was asked %d times, want 4", c.calls)
	}
}

func TestRenewalIsShared(t *testing.T) {
	hermetic(t)
	now := time.Now()
	c := &chain{}
	s := newAuthServer(t, "native-1")
	h := s.hosts(t, Options{Native: c.native})
	h.keyring.now = func() time.Time { return now }
	if got := status(t, h, providerHost); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	now = now.Add(2 * time.Minute)
	s.allow("native-2")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := status(t, h, providerHost); got != http.StatusOK {
				t.Errorf("status %d", got)
			}
		})
	}
	wg.Wait()
	if c.calls != 2 {
		t.Errorf("the chain was asked %d times, want 2", c.calls)
	}
}

// TestProviderCredentialsStayHome names a token service on a host that is not
// the provider's.
func TestProviderCredentialsStayHome(t *testing.T) {
	hermetic(t)
	var leaked []string
	s := &authServer{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if auth := r.Header.Get("Authorization"); auth != "" {
			leaked = append(leaked, auth)
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://example.com/token",service="s"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(s.Close)
	h := s.hosts(t, Options{Native: (&chain{}).native})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+providerHost+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.Auth().Do(req)
	if err == nil {
		resp.Body.Close()
	}
	err = Explain(err, providerHost)
	if e, ok := errors.AsType[*AuthError](err); !ok || e.Host != providerHost || strings.Contains(err.Error(), "native-1") {
		t.Errorf("got %v, want *AuthError of %s", err, providerHost)
	}
	if len(leaked) != 0 {
		t.Error("the provider's credentials went to another host")
	}
}
