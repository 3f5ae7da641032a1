package acr

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/mirror/target/acr/acrtest"
	"github.com/google/go-cmp/cmp"
)

func TestMatch(t *testing.T) {
	for _, host := range []string{
		"contoso.azurecr.io", "Contoso.AzureCR.io:443", "contoso.azurecr.us", "contoso.azurecr.cn", "contoso.azurecr.de",
		"contoso-ab12cd34.azurecr.io", "contoso.eastus.geo.azurecr.io", "contoso123.usgovvirginia.geo.azurecr.us",
	} {
		if !Match(host) {
			t.Errorf("Match(%q) is false", host)
		}
		if _, err := New(Options{Host: host, HTTPClient: http.DefaultClient}); err != nil {
			t.Error(err)
		}
	}
	for _, host := range []string{
		"", "azurecr.io", ".azurecr.io", "contoso.azurecr.io.evil.example", "evil.example/contoso.azurecr.io", "a.contoso.azurecr.io",
		"contoso.azurecr.io:5000", "contoso.azurecr.io.", "contoso.azurecr.io\n", "contosoxazurecr.io", "contoso.azurecrxio", "con_toso.azurecr.io",
		"contoso.azurecr.com", "contoso.blob.core.windows.net", "contoso.eastus.geoxazurecr.io",
	} {
		if Match(host) {
			t.Errorf("Match(%q) is true", host)
		}
		if _, err := New(Options{Host: host, HTTPClient: http.DefaultClient}); err == nil {
			t.Errorf("New takes %q", host)
		}
	}
	_, err := New(Options{Host: "contoso.eastus.data.azurecr.io", HTTPClient: http.DefaultClient, Trusted: true})
	if !Match("contoso.eastus.data.azurecr.io") || err == nil || !strings.Contains(err.Error(), "push to contoso.azurecr.io") {
		t.Errorf("data endpoint: %v", err)
	}
	for _, host := range []string{"", "a/b", "u@h", "h?x", "h#x", "h:x", "-h", "h\n"} {
		if _, err := New(Options{Host: host, HTTPClient: http.DefaultClient, Trusted: true}); err == nil {
			t.Errorf("New trusts %q", host)
		}
	}
}

// FuzzMatch holds that a token goes nowhere but to Azure's own domains.
func FuzzMatch(f *testing.F) {
	for _, s := range []string{"contoso.azurecr.io", "contoso.azurecr.io.evil.example", "contoso.eastus.geo.azurecr.us:443", "contoso.eastus.data.azurecr.io"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if !Match(host) {
			return
		}
		for _, end := range []string{".azurecr.io", ".azurecr.us", ".azurecr.cn", ".azurecr.de"} {
			if strings.HasSuffix(bareHost(host), end) && !strings.ContainsAny(host, "/@?#\\ \n") {
				return
			}
		}
		t.Errorf("Match(%q) is true", host)
	})
}

func TestServicePrincipal(t *testing.T) {
	for _, tt := range []struct {
		host, authority, login string
		trusted                bool
	}{
		{"contoso.azurecr.io", "", "login.microsoftonline.com", false},
		{"contoso.eastus.geo.azurecr.io", "", "login.microsoftonline.com", false},
		{"contoso.azurecr.us", "", "login.microsoftonline.us", false},
		{"contoso.azurecr.cn", "", "login.chinacloudapi.cn", false},
		{"registry.contoso.example", "https://login.stack.example/", "login.stack.example", true},
	} {
		t.Run(tt.host, func(t *testing.T) {
			s := newStandIn(t)
			tg := s.target(t, func(o *Options) {
				o.Host, o.Trusted = tt.host, tt.trusted
				o.LookupEnv = env("AZURE_TENANT_ID", tenant, "AZURE_CLIENT_ID", appID, "AZURE_CLIENT_SECRET", s.Secret, "AZURE_AUTHORITY_HOST", tt.authority)
			})
			got, err := tg.Credential(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := target.Credential{
				Username: refreshUser, Password: s.Refresh, Expires: s.Now.Add(s.Life),
				Source: "Entra ID, service principal " + appID + " (environment AZURE_CLIENT_SECRET)",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			wantSeen := []string{
				"GET " + tt.login + "/" + tenant + "/v2.0/.well-known/openid-configuration",
				"POST " + tt.login + "/" + tenant + "/oauth2/v2.0/token",
				"POST " + tt.host + "/oauth2/exchange",
			}
			if diff := cmp.Diff(wantSeen, s.Seen); diff != "" {
				t.Error(diff)
			}
			if s.Forms[0]["tenant"][0] != tenant || len(s.Leaks) > 0 {
				t.Errorf("form %v, leaks %v", s.Forms[0]["tenant"], s.Leaks)
			}
		})
	}
}

func TestCredentialRenews(t *testing.T) {
	s := newStandIn(t)
	tg := s.target(t)
	for _, step := range []struct {
		after time.Duration
		calls int
	}{{0, 1}, {2 * time.Hour, 1}, {49 * time.Minute, 1}, {2 * time.Minute, 2}, {time.Hour, 2}} {
		s.Mu.Lock()
		s.Now = s.Now.Add(step.after)
		s.Refresh = acrtest.Token(s.Now, s.Life, "refresh")
		s.Mu.Unlock()
		if _, err := tg.Credential(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := s.Count("POST contoso.azurecr.us/oauth2/exchange"); n != step.calls {
			t.Errorf("after %v: %d exchanges, want %d", step.after, n, step.calls)
		}
	}
}

func TestWorkloadIdentity(t *testing.T) {
	s := newStandIn(t)
	file := filepath.Join(t.TempDir(), "token")
	tg := s.target(t, func(o *Options) {
		o.LookupEnv = env("AZURE_TENANT_ID", tenant, "AZURE_CLIENT_ID", appID, "AZURE_FEDERATED_TOKEN_FILE", file)
	})
	if _, err := tg.Credential(t.Context()); err == nil {
		t.Error("a token without the token file")
	}
	if err := os.WriteFile(file, []byte("federated-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := tg.Credential(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.Password != s.Refresh || !strings.Contains(c.Source, "workload identity") {
		t.Errorf("source %q", c.Source)
	}
}

// A certificate signs the assertion that Entra ID takes in place of a secret.
func TestCertificate(t *testing.T) {
	s := newStandIn(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "sp.pem")
	raw := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	tg := s.target(t, func(o *Options) {
		o.LookupEnv = env("AZURE_TENANT_ID", tenant, "AZURE_CLIENT_ID", appID, "AZURE_CLIENT_CERTIFICATE_PATH", file)
	})
	c, err := tg.Credential(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.Password != s.Refresh || !strings.Contains(c.Source, "AZURE_CLIENT_CERTIFICATE_PATH") {
		t.Errorf("source %q", c.Source)
	}
}

// App Service: plain HTTP on a local address, beside the product's client.
func TestManagedIdentity(t *testing.T) {
	s := newStandIn(t)
	var asked []string
	meta := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.FormValue("resource")+" "+r.FormValue("client_id"))
		if r.Header.Get("X-IDENTITY-HEADER") != "h" || r.FormValue("api-version") != "2019-08-01" {
			http.Error(w, "{}", http.StatusBadRequest)
			return
		}
		acrtest.Reply(w, 200, map[string]any{
			"access_token": s.Access, "expires_on": fmt.Sprint(time.Now().Add(time.Hour).Unix()), "resource": "https://containerregistry.azure.net", "token_type": "Bearer", "client_id": appID,
		})
	}))
	t.Cleanup(meta.Close)
	tg := s.target(t, func(o *Options) { o.LookupEnv = env("AZURE_CLIENT_ID", appID) })
	t.Setenv("IDENTITY_ENDPOINT", meta.URL)
	t.Setenv("IDENTITY_HEADER", "h")
	c, err := tg.Credential(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.Password != s.Refresh || c.Source != "Entra ID, managed identity "+appID {
		t.Errorf("source %q", c.Source)
	}
	if diff := cmp.Diff([]string{"https://containerregistry.azure.net " + appID}, asked); diff != "" {
		t.Error(diff)
	}
	if _, ok := s.Forms[0]["tenant"]; ok {
		t.Error("a tenant that nobody named")
	}
}

func TestGivenLogin(t *testing.T) {
	s := newStandIn(t)
	login := target.Credential{Username: "admin", Password: "secret-of-admin", Source: "--username"}
	tg := s.target(t, func(o *Options) { o.Login = login })
	c, err := tg.Credential(t.Context())
	if err != nil || c != login || len(s.Seen) > 0 {
		t.Errorf("%v, %v, %v", c.Source, err, s.Seen)
	}
	s.Metadata["team/a"] = `{"changeableAttributes":{"writeEnabled":true}}`
	got, err := tg.Inspect(t.Context(), target.Request{Repositories: []target.Need{{Name: "team/a"}}})
	if err != nil || got.Repositories["team/a"] != target.Present {
		t.Errorf("%+v, %v", got, err)
	}
}

// A redirect would carry secret or token along, to wherever it points.
func TestRedirectIsNotFollowed(t *testing.T) {
	for _, path := range []string{"/oauth2/v2.0/token", "/oauth2/exchange", "/oauth2/token"} {
		s := newStandIn(t)
		s.Fault = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, path) {
				return false
			}
			http.Redirect(w, r, "https://evil.example/x", http.StatusTemporaryRedirect)
			return true
		}
		_, err := s.target(t).Inspect(t.Context(), target.Request{Repositories: []target.Need{{Name: "a"}}})
		if err == nil {
			t.Errorf("%s: no error", path)
		}
		for _, r := range s.Seen {
			if strings.Contains(r, "evil.example") {
				t.Errorf("%s: the redirect is followed", path)
			}
		}
	}
}

func TestExchangeRefusesAnswer(t *testing.T) {
	for name, body := range map[string]string{
		"no token": `{}`, "no JSON": `secret-x`, "huge": `{"refresh_token":"` + strings.Repeat("a", maxToken+1) + `"}`, "endless": strings.Repeat("secret-x", maxAnswer/8+1),
	} {
		s := newStandIn(t)
		s.Fault = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/oauth2/exchange" {
				return false
			}
			_, _ = w.Write([]byte(body))
			return true
		}
		c, err := s.target(t).Credential(t.Context())
		if err == nil || strings.Contains(err.Error(), "secret") || c != (target.Credential{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{Host: "contoso.azurecr.io"}); err == nil {
		t.Error("no client is taken")
	}
	for _, v := range []string{"http://login.microsoftonline.us/", "login.microsoftonline.us", "https://u:secret-p@h/", "https://h/?secret-q", "::"} {
		_, err := New(Options{Host: "contoso.azurecr.io", HTTPClient: http.DefaultClient, LookupEnv: env("AZURE_AUTHORITY_HOST", v)})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", v, err)
		}
	}
	tg := newStandIn(t).target(t)
	if l := tg.Limits(); tg.Kind() != "acr" || !l.Chunks || l.ChunkSize != 16<<20 || l.ManifestMax != 4<<20 || l.BlobMax != 200<<30 {
		t.Errorf("limits %+v", l)
	}
	if err := tg.Prepare(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := tg.Prepare(t.Context(), []target.Action{{Kind: "create-repository", Name: "a"}}); err == nil {
		t.Error("an action is taken")
	}
}

// FuzzClaims holds that no token breaks the reader, and that times and names
// are in bounds.
func FuzzClaims(f *testing.F) {
	f.Add(acrtest.Token(time.Unix(1, 0), time.Hour, "m"))
	f.Add("e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":1e400,"appid":"x"}`)) + ".")
	f.Add("e30.e30=.x")
	f.Add("..")
	f.Fuzz(func(t *testing.T, s string) {
		c := readClaims(s)
		if e := c.expires(); !e.IsZero() && (e.Year() < 1969 || e.Year() > 2100) {
			t.Errorf("expires %v", e)
		}
		if p := c.principal(); p != "" && len(p) != 36 {
			t.Errorf("principal %q", p)
		}
	})
}

func TestInspect(t *testing.T) {
	s := newStandIn(t)
	open := `{"changeableAttributes":{"writeEnabled":true}}`
	s.Metadata["open"] = open
	s.Metadata["open/tags"] = open
	s.Metadata["open/tags/_tags/v1"] = `{"tag":{"changeableAttributes":{"writeEnabled":false}}}`
	s.Metadata["open/tags/_tags/v2"] = `{"tag":{"changeableAttributes":{"writeEnabled":true}}}`
	s.Metadata["shut"] = `{"changeableAttributes":{"writeEnabled":false,"deleteEnabled":false}}`
	s.Metadata["silent"] = `{}`
	req := target.Request{}
	for _, n := range []string{"new", "open", "open/tags", "shut", "silent"} {
		req.Repositories = append(req.Repositories, target.Need{Name: n, Tags: []string{"v1", "v2", "v3"}})
	}
	tg := s.target(t)
	got, err := tg.Inspect(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]target.Presence{"new": target.OnPush, "open": target.Present, "open/tags": target.Present, "shut": target.Present, "silent": target.Present}
	if diff := cmp.Diff(want, got.Repositories); diff != "" {
		t.Error(diff)
	}
	if len(got.Notices) != 2 || got.Notices[0].Repository != "open/tags" || got.Notices[1].Repository != "shut" || got.CrossMount != target.MountTry || got.Actions != nil {
		t.Fatalf("state %+v", got)
	}
	for _, n := range got.Notices {
		if n.Code != target.Locked || n.Fatal || !strings.Contains(n.Remedy, "--name contoso") {
			t.Errorf("notice %+v", n)
		}
	}
	if !strings.Contains(got.Notices[0].Text, `: "v1"`) || strings.Contains(got.Notices[0].Text, "v2") {
		t.Errorf("notice %+v", got.Notices[0])
	}
	s.Hidden = true
	got, err = tg.Inspect(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Notices) != 1 || got.Notices[0].Code != target.StateUnread || !strings.Contains(got.Notices[0].Text, `"shut"`) && !strings.Contains(got.Notices[0].Text, "2 more") {
		t.Errorf("notices %+v", got.Notices)
	}
	for _, bad := range []target.Need{{Name: "../x"}, {Name: "a b"}, {Name: "a", Tags: []string{"../x"}}, {Name: strings.Repeat("a", 257)}} {
		if _, err := tg.Inspect(t.Context(), target.Request{Repositories: []target.Need{bad}}); err == nil {
			t.Errorf("%+v is asked for", bad)
		}
	}
	s.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/acr/") {
			return false
		}
		acrtest.Refuse(w, 429, "TOOMANYREQUESTS", "too many requests")
		return true
	}
	s.Hidden = false
	_, err = tg.Inspect(t.Context(), req)
	if p, ok := errors.AsType[*target.Problem](err); !ok || p.Code != target.Throttled {
		t.Errorf("error %v", err)
	}
	if b, err := json.Marshal(got); err != nil || strings.Contains(string(b), s.Refresh) {
		t.Errorf("secret in the state, or %v", err)
	}
}
