package remote

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// hermetic hides the machine's own logins and proxies.
func hermetic(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for _, v := range []string{"HOME", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
		t.Setenv(v, dir)
	}
	for _, v := range []string{"REGISTRY_AUTH_FILE", envUsername, envPassword} {
		t.Setenv(v, "")
	}
}

func newHosts(t *testing.T, o Options) *Hosts {
	t.Helper()
	if o.Attempts == 0 {
		o.Attempts = 1
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func hostname(s *httptest.Server) string { return s.Listener.Addr().String() }

func writeCA(t *testing.T, s *httptest.Server) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func get(t *testing.T, h *Hosts, url string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Basic secret")
	resp, err := h.HTTPClient().Do(req)
	if err != nil {
		return "", Explain(err, url)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func TestNewRefuses(t *testing.T) {
	hermetic(t)
	dir := t.TempDir()
	file := func(name, content string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	secret := base64.StdEncoding.EncodeToString([]byte("hunter2 without a colon"))
	for name, tc := range map[string]struct {
		o    Options
		want string
	}{
		"plain host with path":  {Options{PlainHTTP: []string{"a/b"}}, `plain HTTP host "a/b"`},
		"CA missing":            {Options{CAFiles: []string{dir + "/none.pem"}}, "none.pem\": no such file"},
		"CA without PEM":        {Options{CAFiles: []string{file("x.pem", "hello")}}, "no PEM certificate in it"},
		"CA with bad PEM":       {Options{CAFiles: []string{file("y.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}}, "certificate 1"},
		"resolve to a name":     {Options{Resolve: map[string]string{"a.b": "c.d"}}, `"c.d" is neither ip nor ip:port`},
		"auth file missing":     {Options{AuthFile: dir + "/none.json"}, "no such file"},
		"auth file not JSON":    {Options{AuthFile: file("a.json", "hunter2")}, "not a JSON document"},
		"auth not base64":       {Options{AuthFile: file("b.json", `{"auths":{"a.b":{"auth":"hunter2"}}}`)}, "not base64 of user:password"},
		"auth without colon":    {Options{AuthFile: file("c.json", `{"auths":{"a.b":{"auth":"`+secret+`"}}}`)}, "not base64 of user:password"},
		"helper is a path":      {Options{AuthFile: file("d.json", `{"credHelpers":{"a.b":"../evil"}}`)}, "not the name of a helper"},
		"credentials for a URL": {Options{Credentials: map[string]Credential{"https://a.b": {Password: "hunter2"}}}, "credentials for host"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(tc.o)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error holds the secret: %v", err)
			}
		})
	}
}

func TestPlainHTTPOnlyWhereListed(t *testing.T) {
	hermetic(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "http://localhost:1/", http.StatusFound)
			return
		}
		fmt.Fprint(w, "hello")
	}))
	defer s.Close()
	host := hostname(s)

	_, err := get(t, newHosts(t, Options{}), s.URL)
	if e, ok := errors.AsType[*PlainHTTPError](err); !ok || !e.Asked || e.Host != host {
		t.Errorf("unlisted loopback: got %v, want *PlainHTTPError", err)
	}
	for _, listed := range []string{host, "127.0.0.1"} {
		if b, err := get(t, newHosts(t, Options{PlainHTTP: []string{listed}}), s.URL); err != nil || b != "hello" {
			t.Errorf("listed as %q: got %q, %v", listed, b, err)
		}
	}
	_, err = get(t, newHosts(t, Options{PlainHTTP: []string{host}}), s.URL+"/away")
	if e, ok := errors.AsType[*PlainHTTPError](err); !ok || e.Host != "localhost:1" {
		t.Errorf("redirect to an unlisted host: got %v, want *PlainHTTPError", err)
	}
	_, err = get(t, newHosts(t, Options{}), "https://"+host)
	if e, ok := errors.AsType[*PlainHTTPError](err); !ok || e.Asked {
		t.Errorf("HTTPS to a plain server: got %v, want *PlainHTTPError", err)
	}
	h := newHosts(t, Options{PlainHTTP: []string{"a.b:80"}})
	for host, want := range map[string]string{"a.b:80": "http", "A.B:80": "http", "a.b": "https", "a.b:81": "https", "localhost": "https"} {
		if got := h.Scheme(host); got != want {
			t.Errorf("Scheme(%q) = %q, want %q", host, got, want)
		}
	}
}

func TestTLSAndResolve(t *testing.T) {
	hermetic(t)
	var proto string
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto = r.Proto
		fmt.Fprint(w, r.Host)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	ca := writeCA(t, s)

	_, err := get(t, newHosts(t, Options{}), s.URL)
	if e, ok := errors.AsType[*TLSError](err); !ok || e.Host != hostname(s) {
		t.Errorf("unknown CA: got %v, want *TLSError", err)
	}
	if _, err := get(t, newHosts(t, Options{CAFiles: []string{ca}}), s.URL); err != nil || proto != "HTTP/1.1" {
		t.Errorf("known CA: %v over %s, want HTTP/1.1", err, proto)
	}
	// httptest's certificate is for example.com.
	for key, to := range map[string]string{"example.com": hostname(s), "example.com:443": hostname(s)} {
		b, err := get(t, newHosts(t, Options{CAFiles: []string{ca}, Resolve: map[string]string{key: to}}), "https://example.com/")
		if err != nil || b != "example.com" {
			t.Errorf("resolve %s: got %q, %v", key, b, err)
		}
	}
	_, err = get(t, newHosts(t, Options{CAFiles: []string{ca}, Resolve: map[string]string{"other.test": hostname(s)}}), "https://other.test/")
	if _, ok := errors.AsType[*TLSError](err); !ok {
		t.Errorf("certificate for another name: got %v, want *TLSError", err)
	}
	_, err = get(t, newHosts(t, Options{Resolve: map[string]string{"example.com": "127.0.0.1"}}), "https://example.com:1/?signature=s3cr3t")
	if _, ok := errors.AsType[*UnreachableError](err); !ok || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("nobody listens: got %v, want *UnreachableError without the query", err)
	}
}

func TestClientCertificateAlert(t *testing.T) {
	hermetic(t)
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}
	s.StartTLS()
	defer s.Close()
	_, err := get(t, newHosts(t, Options{CAFiles: []string{writeCA(t, s)}}), s.URL)
	if _, ok := errors.AsType[*TLSError](err); !ok {
		t.Errorf("got %v, want *TLSError", err)
	}
}

func TestRedirectsKeepSecrets(t *testing.T) {
	hermetic(t)
	var mu sync.Mutex
	var seen []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Header.Get("Authorization")+r.Header.Get("Referer"))
		if r.URL.Path == "/500" {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer other.Close()
	to := other.URL + "/blob?sig=s3cr3t"
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, to, http.StatusTemporaryRedirect)
	}))
	defer s.Close()
	h := newHosts(t, Options{CAFiles: []string{writeCA(t, s)}, PlainHTTP: []string{hostname(other)}})
	if _, err := get(t, h, s.URL); err == nil || !strings.Contains(err.Error(), "leaves HTTPS") || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("https to http: got %v", err)
	}
	if len(seen) != 0 {
		t.Error("a request left HTTPS")
	}
	first := httptest.NewServer(http.RedirectHandler(to, http.StatusTemporaryRedirect))
	defer first.Close()
	h = newHosts(t, Options{PlainHTTP: []string{"127.0.0.1"}})
	if _, err := get(t, h, first.URL); err != nil || len(seen) != 1 || seen[0] != "" {
		t.Errorf("another port of the same address: %v, it saw %q", err, seen)
	}
}

func TestNothingBackIsUnreachable(t *testing.T) {
	hermetic(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	_, err = get(t, newHosts(t, Options{PlainHTTP: []string{"127.0.0.1"}}), "http://"+l.Addr().String())
	if _, ok := errors.AsType[*UnreachableError](err); !ok {
		t.Errorf("got %v, want *UnreachableError", err)
	}
}

func login(user, password string) string {
	return fmt.Sprintf(`{"auth":%q}`, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

func TestCredentialOrder(t *testing.T) {
	hermetic(t)
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	bin := t.TempDir()
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	write := func(name, content string, mode os.FileMode) string {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return name
	}
	write(filepath.Join(bin, "docker-credential-known"), "#!/bin/sh\nread host\necho '{\"Username\":\"helper\",\"Secret\":\"'$host'\"}'\n", 0o755)
	write(filepath.Join(bin, "docker-credential-unknown"), "#!/bin/sh\necho 'credentials not found in native keychain'\nexit 1\n", 0o755)
	write(filepath.Join(dir, "config.json"), `{"credHelpers":{"helped.test":"known","index.docker.io":"known","fallback.test":"unknown"},"auths":{
		"helped.test":`+login("static", "p")+`,
		"fallback.test":`+login("fallback", "p")+`,
		"https://old.test/v1/":`+login("old", "p:with:colons")+`,
		"asked.test":`+login("docker", "p")+`,
		"token.test":{"identitytoken":"refresh"}}}`, 0o600)
	write(filepath.Join(dir, "containers", "auth.json"), `{"auths":{
		"old.test":`+login("podman", "p")+`,
		"paths.test":`+login("whole", "p")+`,
		"paths.test/team":`+login("team", "p")+`,
		"paths.test/team/app":`+login("app", "p")+`}}`, 0o600)
	asked := write(filepath.Join(dir, "asked.json"), `{"auths":{"asked.test":`+login("asked", "p")+`,"given.test":`+login("asked", "p")+`}}`, 0o600)
	h := newHosts(t, Options{AuthFile: asked, Credentials: map[string]Credential{"given.test": {Username: "given", Password: "p"}}})

	for _, tc := range []struct {
		ref, host, user, where string
	}{
		{"given.test/a", "given.test", "given", "given for this run"},
		{"asked.test/a", "asked.test", "asked", "asked.json"},
		{"helped.test/a", "helped.test", "helper", `helper "known"`},
		{"docker.io/org/a", "registry-1.docker.io", "helper", `helper "known"`},
		{"fallback.test/a", "fallback.test", "fallback", "login for fallback.test"},
		{"old.test/a", "old.test", "old", "config.json"},
		{"paths.test/other", "paths.test", "whole", "auth.json"},
		{"paths.test/teams/x", "paths.test", "whole", ""},
		{"paths.test/team/x", "paths.test", "team", ""},
		{"paths.test/team/app", "paths.test", "app", ""},
		{"paths.test/team/app/deep", "paths.test", "app", ""},
		{"nobody.test/a", "nobody.test", "", "none (anonymous)"},
	} {
		ref, err := ParseReference(tc.ref)
		if err != nil {
			t.Fatal(err)
		}
		c, err := h.AuthFor(ref).Credential(t.Context(), tc.host)
		if err != nil || c.Username != tc.user {
			t.Errorf("%s: got user %q, %v; want %q", tc.ref, c.Username, err, tc.user)
		}
		if got := h.CredentialSource(tc.host); !strings.Contains(got, tc.where) {
			t.Errorf("CredentialSource(%q) = %q, want %q in it", tc.host, got, tc.where)
		}
	}
	if c, err := h.Auth().Credential(t.Context(), "token.test"); err != nil || c != (auth.Credential{RefreshToken: "refresh"}) {
		t.Errorf("identity token: got %+v, %v", c, err)
	}
	if c, err := h.Auth().Credential(t.Context(), "registry-1.docker.io"); err != nil || c.Password != "https://index.docker.io/v1/" {
		t.Errorf("the helper was asked for %q, %v", c.Password, err)
	}
	t.Setenv("REGISTRY_AUTH_FILE", asked)
	if c, err := newHosts(t, Options{}).Auth().Credential(t.Context(), "asked.test"); err != nil || c.Username != "asked" {
		t.Errorf("REGISTRY_AUTH_FILE: got user %q, %v", c.Username, err)
	}
}

func FuzzAuthFile(f *testing.F) {
	f.Add([]byte(`{"auths":{"https://a.b/v1/":{"auth":"dTpw"},"a.b/c":{}},"credHelpers":{"x":"y"},"credsStore":"z"}`))
	f.Add([]byte(`{"auths":{"a":null,"/":{"auth":"Og=="}}}`))
	f.Add([]byte(`{`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(dir, "auth.json")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := readAuthFile(name)
		if err != nil {
			return
		}
		k := &keyring{asked: []*authFile{a}}
		for key := range a.auths {
			host, path, _ := strings.Cut(key, "/")
			if got := k.path(host, path); got != "" && got != key {
				t.Errorf("login for %q found under %q", key, got)
			}
		}
	})
}
