package acr

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/mirror/target/acr/acrtest"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

func check(t *testing.T, tg *Target, err error, code target.Code, remedy string, fatal bool) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	p, ok := errors.AsType[*target.Problem](err)
	if !ok {
		p = &target.Problem{}
	}
	if p.Code != code || !strings.Contains(p.Remedy, remedy) {
		t.Errorf("code %q, remedy %q; want %q and %q (%v)", p.Code, p.Remedy, code, remedy, err)
	}
	if _, ok := errors.AsType[*remote.AuthError](err); ok != fatal {
		t.Errorf("ends the run: %v, want %v", ok, fatal)
	}
	for _, secret := range []string{"secret-", "e30.", "federated-token"} {
		if strings.Contains(err.Error()+p.Remedy, secret) {
			t.Errorf("secret in %v", err)
		}
	}
	if again := tg.Explain(err); again != err { //nolint:errorlint // the very same error must come back
		t.Error("Explain wraps twice")
	}
}

// What Entra ID answers, through the SDK.
func TestExplainEntra(t *testing.T) {
	for _, tt := range []struct {
		name   string
		aadsts int
		behind time.Duration // this machine's clock
		code   target.Code
		remedy string
	}{
		{"wrong secret", 7000215, 0, target.LoginRefused, "a secret's value"},
		{"expired secret", 7000222, 0, target.LoginExpired, "new client secret"},
		{"unknown client", 700016, 0, target.LoginRefused, "login.microsoftonline.us"},
		{"unknown tenant", 90002, 0, target.LoginRefused, "AZURE_TENANT_ID"},
		{"skew", 700024, 9 * time.Minute, target.ClockSkew, "off by "},
		{"skew, ahead", 700027, -9 * time.Minute, target.ClockSkew, "off by "},
		{"assertion", 700024, 0, target.LoginRefused, "federated credential"},
		{"no such resource", 500011, 0, target.APIDisabled, "containerregistry.azure.net"},
		{"other", 53003, 0, target.LoginRefused, "service principal " + appID},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStandIn(t)
			s.Now = s.Now.Add(-tt.behind)
			s.Entra = map[string]any{"error": "invalid_client", "error_description": "echo of " + s.Secret, "error_codes": []int{tt.aadsts}}
			tg := s.target(t)
			_, err := tg.Credential(t.Context())
			check(t, tg, err, tt.code, tt.remedy, tt.code != target.APIDisabled)
			if !strings.Contains(err.Error(), fmt.Sprintf("AADSTS%d", tt.aadsts)) {
				t.Errorf("error %v does not say AADSTS%d", err, tt.aadsts)
			}
		})
	}
}

func TestExplainIdentity(t *testing.T) {
	unreachable := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}}}
	t.Run("Entra ID out of reach", func(t *testing.T) {
		tg := newStandIn(t).target(t, func(o *Options) { o.HTTPClient = unreachable })
		_, err := tg.Credential(t.Context())
		check(t, tg, err, target.Unreachable, "repository token", false)
	})
	t.Run("certificate not trusted", func(t *testing.T) {
		s := newStandIn(t)
		tg := s.target(t, func(o *Options) {
			o.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: s.Client.Transport.(*http.Transport).DialContext}}
		})
		_, err := tg.Credential(t.Context())
		if _, ok := errors.AsType[*remote.TLSError](err); !ok {
			t.Errorf("error %v is no TLSError", err)
		}
	})
	t.Run("half an identity", func(t *testing.T) {
		tg := newStandIn(t).target(t, func(o *Options) { o.LookupEnv = env("AZURE_CLIENT_ID", appID, "AZURE_CLIENT_SECRET", "secret-x") })
		_, err := tg.Credential(t.Context())
		check(t, tg, err, target.NoCredentials, "AZURE_TENANT_ID", true)
	})
	t.Run("no certificate in the file", func(t *testing.T) {
		tg := newStandIn(t).target(t, func(o *Options) {
			o.LookupEnv = env("AZURE_TENANT_ID", tenant, "AZURE_CLIENT_ID", appID, "AZURE_CLIENT_CERTIFICATE_PATH", "explain_test.go")
		})
		_, err := tg.Credential(t.Context())
		check(t, tg, err, target.NoCredentials, "AZURE_CLIENT_ID", true)
	})
	t.Run("no managed identity", func(t *testing.T) {
		tg := newStandIn(t).target(t, func(o *Options) { o.LookupEnv = env() })
		tg.metadata.Transport = unreachable.Transport
		_, err := tg.Credential(t.Context())
		check(t, tg, err, target.Unreachable, "--username", false)
	})
}

func TestExplainExchange(t *testing.T) {
	for _, tt := range []struct {
		name, code, message string
		status              int
		want                target.Code
		remedy              string
		fatal               bool
	}{
		{"no role", "UNAUTHORIZED", "authentication required", 401, target.Denied, "principal " + appID + " the role AcrPush on registry contoso", false},
		{"firewall", "DENIED", "client with IP '203.0.113.9' is not allowed access. Refer https://aka.ms/acr/firewall to grant access.", 403, target.Firewall, "203.0.113.9", true},
		{"throttled", "TOOMANYREQUESTS", "too many requests", 429, target.Throttled, "tier", false},
		{"fault", "UNKNOWN", "oops", 500, "", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStandIn(t)
			s.Fault = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/oauth2/exchange" {
					return false
				}
				acrtest.Refuse(w, tt.status, tt.code, tt.message+" "+r.FormValue("access_token"))
				return true
			}
			tg := s.target(t)
			_, err := tg.Credential(t.Context())
			check(t, tg, err, tt.want, tt.remedy, tt.fatal)
		})
	}
}

// What the registry answers to a push. Texts are from issues where
// registries.md 2.3 says so; others are examples.
func TestExplainRegistry(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		errs   []errcode.Error
		login  time.Duration // of our own login, from now; 0: none
		given  bool          // a login of the user's
		code   target.Code
		remedy string
		fatal  bool
	}{
		{"anonymous", 401, []errcode.Error{{Code: "UNAUTHORIZED", Message: "authentication required"}}, 0, false, target.NoCredentials, "anonymously", true},
		{"expired", 401, nil, -time.Minute, false, target.LoginExpired, "expired", true},
		{"no right", 401, nil, time.Hour, false, target.Denied, "Container Registry Repository Writer", false},
		{"given, refused", 401, nil, 0, true, target.LoginRefused, "admin user", true},
		{"denied", 403, []errcode.Error{{Code: "DENIED", Message: "requested access to the resource is denied"}}, time.Hour, false, target.Denied, "AcrPush", false},
		{"firewall", 403, []errcode.Error{{Code: "DENIED", Message: "client with IP '2001:db8::1' is not allowed access. Refer https://aka.ms/acr/firewall"}}, time.Hour, false, target.Firewall, "2001:db8::1", true},
		{"firewall, no address", 403, []errcode.Error{{Code: "DENIED", Message: "client with IP '999.1' is not allowed access"}}, time.Hour, false, target.Denied, "AcrPush", false},
		{"quota", 403, []errcode.Error{{Code: "DENIED", Message: "Storage Quota exceeded"}}, time.Hour, false, target.QuotaExceeded, "az acr show-usage --name contoso", false},
		{"locked", 405, []errcode.Error{{Code: "REGISTRY_DISALLOWED_OPERATION", Message: "The operation is disallowed on this registry, repository or image."}}, time.Hour, false, target.Locked, "--write-enabled", false},
		{"size", 413, nil, time.Hour, false, target.TooLarge, "200 GiB", false},
		{"length", 400, []errcode.Error{{Code: "CONTENT_LENGTH_INVALID"}}, time.Hour, false, target.TooLarge, "Content-Length", false},
		{"throttled", 429, []errcode.Error{{Code: "TOOMANYREQUESTS"}}, time.Hour, false, target.Throttled, "100 writes a minute", false},
		{"first push", 500, nil, time.Hour, false, "", "", false},
		{"not found", 404, []errcode.Error{{Code: "BLOB_UNKNOWN"}}, time.Hour, false, "", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tg := newStandIn(t).target(t, func(o *Options) {
				if tt.given {
					o.Login = target.Credential{Username: "u", Password: "secret-p"}
				}
			})
			if tt.login != 0 {
				tg.login = target.Credential{Password: "p", Expires: tg.opts.Now().Add(tt.login)}
			}
			err := fmt.Errorf("push: %w", &errcode.ErrorResponse{
				Method: http.MethodPost, URL: &url.URL{Scheme: "https", Host: tg.host.name, Path: "/v2/a/blobs/uploads/"}, StatusCode: tt.status, Errors: tt.errs,
			})
			got := tg.Explain(err)
			if !errors.Is(got, err) {
				t.Errorf("Explain lost the answer: %v", got)
			}
			check(t, tg, got, tt.code, tt.remedy, tt.fatal)
		})
	}
}

func TestExplainPrivateEndpoint(t *testing.T) {
	tg := newStandIn(t).target(t)
	err := &url.Error{Op: "Post", URL: "https://contoso.azurecr.us/v2/?x=secret-q", Err: &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "contoso.azurecr.us", IsNotFound: true}}}
	got := tg.Explain(err)
	check(t, tg, got, target.Unreachable, "privatelink.azurecr.us", false)
	if _, ok := errors.AsType[*remote.UnreachableError](got); !ok {
		t.Errorf("error %v is no UnreachableError", got)
	}
	for _, err := range []error{nil, errors.New("x"), context.Canceled} {
		if got := tg.Explain(err); got != err { //nolint:errorlint // the very same error must come back
			t.Errorf("Explain(%v) = %v", err, got)
		}
	}
}
