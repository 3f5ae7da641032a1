package acr

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// standIn is a stand-in for Entra ID, a managed identity service and the token
// and metadata services of Azure Container Registry, for the real SDK and our
// own code to talk to under the services' own host names.
//
// Behaviour and where it is from:
//   - /oauth2/exchange and /oauth2/token: Azure/acr, docs/AAD-OAuth.md.
//   - Entra ID's openid-configuration, token endpoint and error body
//     (error, error_codes): Microsoft identity platform documentation.
//   - App Service identity, IDENTITY_ENDPOINT with X-IDENTITY-HEADER and
//     expires_on as a string: observed with the SDK, registries.md 4.2.
//   - DENIED of the firewall: texts in registries.md 2.3.
//
// Not confirmed against the real service: that /oauth2/token answers 401 for a
// scope that may not be read (rather than a token without it), and the bodies
// of /acr/v1 beyond changeableAttributes.
type standIn struct {
	*httptest.Server
	client *http.Client

	mu       sync.Mutex
	now      time.Time
	secret   string // of the service principal
	access   string // token of Entra ID
	refresh  string // token of the registry
	life     time.Duration
	entra    map[string]any // an error of Entra ID
	fault    func(w http.ResponseWriter, r *http.Request) bool
	metadata map[string]string // bodies by path
	hidden   bool
	seen     []string // "METHOD host/path"
	leaks    []string // requests on other hosts that hold a secret
	forms    []map[string][]string
}

const (
	tenant = "11111111-2222-3333-4444-555555555555"
	appID  = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
)

func token(now time.Time, life time.Duration, mark string) string {
	payload, _ := json.Marshal(map[string]any{"exp": now.Add(life).Unix(), "appid": appID, "mark": mark})
	return "e30." + base64.RawURLEncoding.EncodeToString(payload) + ".c2ln"
}

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	s := &standIn{now: time.Now().Round(time.Second), secret: "secret-of-the-principal", life: 3 * time.Hour, metadata: map[string]string{}}
	s.access, s.refresh = token(s.now, time.Hour, "access"), token(s.now, s.life, "refresh")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{
			"contoso.azurecr.io", "contoso.azurecr.us", "contoso.azurecr.cn", "contoso.eastus.geo.azurecr.io", "registry.contoso.example", "evil.example",
			"login.microsoftonline.com", "login.microsoftonline.us", "login.chinacloudapi.cn", "login.stack.example",
		},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are part of tests
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	s.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
		},
	}}
	return s
}

// target returns a target with a service principal, without identities of the
// machine that the test runs on.
func (s *standIn) target(t *testing.T, change ...func(*Options)) *Target {
	t.Helper()
	for _, name := range []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET", "IDENTITY_SERVER_THUMBPRINT", "AZURE_REGIONAL_AUTHORITY_NAME", "AZURE_AUTHORITY_HOST"} {
		t.Setenv(name, "")
	}
	o := Options{
		Host: "contoso.azurecr.us", HTTPClient: s.client,
		Now:       func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now },
		LookupEnv: env("AZURE_TENANT_ID", tenant, "AZURE_CLIENT_ID", appID, "AZURE_CLIENT_SECRET", s.secret),
	}
	for _, f := range change {
		f(&o)
	}
	tg, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func (s *standIn) count(request string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.seen {
		if r == request {
			n++
		}
	}
	return n
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(strings.NewReader(string(raw)))
	s.seen = append(s.seen, r.Method+" "+r.Host+r.URL.Path)
	login := strings.HasPrefix(r.Host, "login.")
	registry := strings.Contains(r.Host, ".azurecr.") || r.Host == "registry.contoso.example"
	if strings.Contains(string(raw), s.secret) && !login || strings.Contains(string(raw), s.access) && !registry || r.Header.Get("Authorization") != "" && !registry {
		s.leaks = append(s.leaks, r.Host)
	}
	if s.fault != nil && s.fault(w, r) {
		return
	}
	switch {
	case login:
		s.serveEntra(w, r)
	case registry:
		s.serveRegistry(w, r)
	default:
		http.NotFound(w, r)
	}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that went away is the test's business
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	reply(w, status, map[string]any{"errors": []any{map[string]any{"code": code, "message": message, "detail": nil}}})
}

func (s *standIn) serveEntra(w http.ResponseWriter, r *http.Request) {
	base := "https://" + r.Host + "/" + tenant
	switch r.URL.Path {
	case "/" + tenant + "/v2.0/.well-known/openid-configuration":
		reply(w, 200, map[string]any{"issuer": base + "/v2.0", "authorization_endpoint": base + "/oauth2/v2.0/authorize", "token_endpoint": base + "/oauth2/v2.0/token"})
	case "/" + tenant + "/oauth2/v2.0/token":
		if s.entra != nil {
			reply(w, 401, s.entra)
			return
		}
		known := r.FormValue("client_secret") == s.secret || r.FormValue("client_assertion") == "federated-token" ||
			strings.HasPrefix(r.FormValue("client_assertion"), "eyJ") // a JWT, whose signature is not checked here
		if !known || r.FormValue("scope") == "" || !strings.Contains(r.FormValue("scope"), "https://containerregistry.azure.net/.default") {
			reply(w, 401, map[string]any{"error": "invalid_client", "error_description": "AADSTS7000215: got " + r.FormValue("client_secret"), "error_codes": []int{7000215}})
			return
		}
		reply(w, 200, map[string]any{"token_type": "Bearer", "expires_in": 3600, "ext_expires_in": 3600, "access_token": s.access})
	default:
		http.NotFound(w, r)
	}
}

func (s *standIn) serveRegistry(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/oauth2/exchange":
		_ = r.ParseForm() // an empty form is refused below
		s.forms = append(s.forms, r.PostForm)
		if r.ContentLength <= 0 || r.PostFormValue("grant_type") != "access_token" || r.PostFormValue("service") != r.Host || r.PostFormValue("access_token") != s.access {
			refuse(w, 401, "UNAUTHORIZED", "authentication required")
			return
		}
		reply(w, 200, map[string]any{"refresh_token": s.refresh})
	case r.Method == http.MethodGet && r.URL.Path == "/oauth2/token":
		user, password, _ := r.BasicAuth()
		good := user == refreshUser && password == s.refresh || user == "admin" && password == "secret-of-admin"
		if !good || s.hidden || r.FormValue("service") != r.Host {
			refuse(w, 401, "UNAUTHORIZED", "authentication required, visit https://aka.ms/acr/authorization for more information.")
			return
		}
		reply(w, 200, map[string]any{"access_token": "for " + r.FormValue("scope")})
	case strings.HasPrefix(r.URL.Path, "/acr/v1/"):
		name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/acr/v1/"), "/_tags/")
		if r.Header.Get("Authorization") != "Bearer for repository:"+name+":metadata_read" {
			refuse(w, 401, "UNAUTHORIZED", "authentication required")
			return
		}
		body, ok := s.metadata[strings.TrimPrefix(r.URL.Path, "/acr/v1/")]
		if !ok {
			refuse(w, 404, "NAME_UNKNOWN", fmt.Sprintf("repository %q is not found", name))
			return
		}
		_, _ = io.WriteString(w, body)
	default:
		refuse(w, 404, "NOT_FOUND", "page not found")
	}
}
