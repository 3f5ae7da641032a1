// Package acrtest is a stand-in for Azure Container Registry and what issues its
// tokens.
package acrtest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airlock-project/airlock/mirror/target/targettest"
)

// StandIn is a stand-in for Entra ID, a managed identity service and the token
// and metadata services of Azure Container Registry, for the real SDK and our
// own code to talk to under the services' own host names.
//
// Behaviour and where it is from:
//   - /oauth2/exchange and /oauth2/token: Azure/acr, docs/AAD-OAuth.md.
//   - Entra ID's openid-configuration, token endpoint and error body
//     (error, error_codes): Microsoft identity platform documentation.
//   - App Service identity, IDENTITY_ENDPOINT with X-IDENTITY-HEADER and
//     expires_on as a string: observed with the SDK.
//   - DENIED of the firewall: aka.ms/acr/firewall.
//   - 405 REGISTRY_DISALLOWED_OPERATION for what is locked: azure-sdk-for-net#22827.
//
// Not confirmed against the real service: that /oauth2/token answers 401 for a
// scope that may not be read (rather than a token without it), and the bodies
// of /acr/v1 beyond changeableAttributes.
type StandIn struct {
	*targettest.Server
	Registry targettest.Registry // behind the registry's own host

	Mu       sync.Mutex // guards what follows
	Now      time.Time
	Secret   string // of the service principal
	Access   string // token of Entra ID
	Refresh  string // token of the registry
	Life     time.Duration
	Entra    map[string]any // an error of Entra ID
	Fault    func(w http.ResponseWriter, r *http.Request) bool
	Metadata map[string]string // bodies by path
	Hidden   bool
	Seen     []string // "METHOD host/path"
	Leaks    []string // requests on other hosts that hold a secret
	Forms    []map[string][]string
}

// The Tenant, and the application that stands for a service principal or a
// managed identity.
const (
	Tenant = "11111111-2222-3333-4444-555555555555"
	AppID  = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"

	// noUser goes with a refresh token (Azure/acr, docs/AAD-OAuth.md).
	noUser = "00000000-0000-0000-0000-000000000000"
)

// Token makes a token that ends so long after now.
func Token(now time.Time, life time.Duration, mark string) string {
	payload, _ := json.Marshal(map[string]any{"exp": now.Add(life).Unix(), "appid": AppID, "mark": mark})
	return "e30." + base64.RawURLEncoding.EncodeToString(payload) + ".c2ln"
}

// New starts a stand-in for the registry contoso in three clouds.
func New(t testing.TB) *StandIn {
	t.Helper()
	s := &StandIn{Now: time.Now().Round(time.Second), Secret: "secret-of-the-principal", Life: 3 * time.Hour, Metadata: map[string]string{}}
	s.Access, s.Refresh = Token(s.Now, time.Hour, "access"), Token(s.Now, s.Life, "refresh")
	s.Server = targettest.Serve(t, s,
		"contoso.azurecr.io", "contoso.azurecr.us", "contoso.azurecr.cn", "contoso.eastus.geo.azurecr.io", "registry.contoso.example", "evil.example",
		"login.microsoftonline.com", "login.microsoftonline.us", "login.chinacloudapi.cn", "login.stack.example")
	return s
}

// ManagedIdentity starts an App Service identity endpoint and returns the
// environment that names it (observed with the SDK: expires_on is a string).
func (s *StandIn) ManagedIdentity(t testing.TB) map[string]string {
	t.Helper()
	const header = "secret-identity-header"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Identity-Header") != header || r.FormValue("resource") != "https://containerregistry.azure.net" {
			Reply(w, 400, map[string]any{"statusCode": 400, "message": "unexpected request"})
			return
		}
		s.Mu.Lock()
		defer s.Mu.Unlock()
		Reply(w, 200, map[string]any{
			"access_token": s.Access, "expires_on": fmt.Sprint(time.Now().Add(time.Hour).Unix()),
			"resource": "https://containerregistry.azure.net", "token_type": "Bearer", "client_id": AppID,
		})
	}))
	t.Cleanup(srv.Close)
	return map[string]string{"IDENTITY_ENDPOINT": srv.URL + "/msi/token", "IDENTITY_HEADER": header}
}

// Count says how often a request, "METHOD host/path", came.
func (s *StandIn) Count(request string) int {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	n := 0
	for _, r := range s.Seen {
		if r == request {
			n++
		}
	}
	return n
}

// ServeHTTP answers for Entra ID and the registry, by host.
func (s *StandIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v2/") && strings.HasPrefix(r.Host, "contoso.") {
		s.serveContent(w, r)
		return
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	raw, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(strings.NewReader(string(raw)))
	s.Seen = append(s.Seen, r.Method+" "+r.Host+r.URL.Path)
	login := strings.HasPrefix(r.Host, "login.")
	registry := strings.Contains(r.Host, ".azurecr.") || r.Host == "registry.contoso.example"
	if strings.Contains(string(raw), s.Secret) && !login || strings.Contains(string(raw), s.Access) && !registry || r.Header.Get("Authorization") != "" && !registry {
		s.Leaks = append(s.Leaks, r.Host)
	}
	if s.Fault != nil && s.Fault(w, r) {
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

// Reply writes an answer in JSON.
func Reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that went away is the test's business
}

// Refuse writes an error as registries do.
func Refuse(w http.ResponseWriter, status int, code, message string) {
	Reply(w, status, map[string]any{"errors": []any{map[string]any{"code": code, "message": message, "detail": nil}}})
}

func (s *StandIn) serveEntra(w http.ResponseWriter, r *http.Request) {
	base := "https://" + r.Host + "/" + Tenant
	switch r.URL.Path {
	case "/" + Tenant + "/v2.0/.well-known/openid-configuration":
		Reply(w, 200, map[string]any{"issuer": base + "/v2.0", "authorization_endpoint": base + "/oauth2/v2.0/authorize", "token_endpoint": base + "/oauth2/v2.0/token"})
	case "/" + Tenant + "/oauth2/v2.0/token":
		if s.Entra != nil {
			Reply(w, 401, s.Entra)
			return
		}
		known := r.FormValue("client_secret") == s.Secret || r.FormValue("client_assertion") == "federated-token" ||
			strings.HasPrefix(r.FormValue("client_assertion"), "eyJ") // a JWT, whose signature is not checked here
		if !known || r.FormValue("scope") == "" || !strings.Contains(r.FormValue("scope"), "https://containerregistry.azure.net/.default") {
			Reply(w, 401, map[string]any{"error": "invalid_client", "error_description": "AADSTS7000215: got " + r.FormValue("client_secret"), "error_codes": []int{7000215}})
			return
		}
		Reply(w, 200, map[string]any{"token_type": "Bearer", "expires_in": 3600, "ext_expires_in": 3600, "access_token": s.Access})
	default:
		http.NotFound(w, r)
	}
}

func (s *StandIn) serveRegistry(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/oauth2/exchange":
		_ = r.ParseForm() // an empty form is refused below
		s.Forms = append(s.Forms, r.PostForm)
		if r.ContentLength <= 0 || r.PostFormValue("grant_type") != "access_token" || r.PostFormValue("service") != r.Host || r.PostFormValue("access_token") != s.Access {
			Refuse(w, 401, "UNAUTHORIZED", "authentication required")
			return
		}
		Reply(w, 200, map[string]any{"refresh_token": s.Refresh})
	case r.Method == http.MethodGet && r.URL.Path == "/oauth2/token":
		user, password, _ := r.BasicAuth()
		good := user == noUser && password == s.Refresh || user == "admin" && password == "secret-of-admin"
		if !good || s.Hidden || r.FormValue("service") != r.Host {
			Refuse(w, 401, "UNAUTHORIZED", "authentication required, visit https://aka.ms/acr/authorization for more information.")
			return
		}
		Reply(w, 200, map[string]any{"access_token": "for " + strings.Join(r.Form["scope"], " ")})
	case strings.HasPrefix(r.URL.Path, "/acr/v1/"):
		name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/acr/v1/"), "/_tags/")
		if r.Header.Get("Authorization") != "Bearer for repository:"+name+":metadata_read" {
			Refuse(w, 401, "UNAUTHORIZED", "authentication required")
			return
		}
		path := strings.TrimPrefix(r.URL.Path, "/acr/v1/")
		body, ok := s.Metadata[path]
		if _, tag, _ := strings.Cut(path, "/_tags/"); !ok {
			_, there := s.Registry.Has(name, tag)
			ok, body = there || tag == "" && s.Registry.Exists(name), `{"changeableAttributes":{"writeEnabled":true},"tag":{"changeableAttributes":{"writeEnabled":true}}}`
		}
		if !ok {
			Refuse(w, 404, "NAME_UNKNOWN", fmt.Sprintf("repository %q is not found", name))
			return
		}
		_, _ = io.WriteString(w, body)
	default:
		Refuse(w, 404, "NOT_FOUND", "page not found")
	}
}

// serveContent answers what the distribution-spec describes.
func (s *StandIn) serveContent(w http.ResponseWriter, r *http.Request) {
	s.Mu.Lock()
	s.Seen = append(s.Seen, r.Method+" "+r.Host+r.URL.Path)
	done := s.Fault != nil && s.Fault(w, r)
	refusal := targettest.Refusal{}
	if !done {
		refusal = s.letIn(w, r)
	}
	s.Mu.Unlock()
	switch {
	case done:
	case refusal.Status != 0:
		refusal.Write(w)
	default:
		s.Registry.ServeHTTP(w, r)
	}
}

func (s *StandIn) letIn(w http.ResponseWriter, r *http.Request) targettest.Refusal {
	name := targettest.Repository(r.URL.Path)
	if a := r.Header.Get("Authorization"); !strings.HasPrefix(a, "Bearer for ") || name != "" && !strings.Contains(a, "repository:"+name+":") {
		scope := ""
		if name != "" {
			scope = `,scope="repository:` + name + `:pull,push"`
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+r.Host+`/oauth2/token",service="`+r.Host+`"`+scope)
		return targettest.Refusal{Status: 401, Code: "UNAUTHORIZED", Message: "authentication required, visit https://aka.ms/acr/authorization for more information."}
	}
	for path, body := range s.Metadata {
		locked, tag, _ := strings.Cut(path, "/_tags/")
		if strings.Contains(body, `"writeEnabled":false`) && locked == name && r.Method == http.MethodPut && (tag == "" || tag == targettest.Tag(r)) {
			return targettest.Refusal{Status: 405, Code: "REGISTRY_DISALLOWED_OPERATION", Message: "The operation is disallowed on this registry, repository or image. View troubleshooting steps at https://aka.ms/acr/faq/#why-does-my-pull-or-push-request-fail-with-disallowed-operation"}
		}
	}
	return targettest.Refusal{}
}
