package gar

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/mirror/target/gar/gartest"
)

func wif(t *testing.T, subject string, impersonate bool) map[string]any {
	t.Helper()
	file := filepath.Join(t.TempDir(), "subject")
	if err := os.WriteFile(file, []byte(subject), 0o600); err != nil {
		t.Fatal(err)
	}
	m := map[string]any{
		"type":               "external_account",
		"audience":           "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
		"subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
		"token_url":          "https://sts.googleapis.com/v1/token",
		"credential_source":  map[string]any{"file": file},
	}
	if impersonate {
		m["service_account_impersonation_url"] = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/m@acme.iam.gserviceaccount.com:generateAccessToken"
	}
	return m
}

func TestCredentialSources(t *testing.T) {
	s := newStandIn(t)
	metadata := metadataStandIn(t, "googleapis.com")
	gcloud := filepath.Join(t.TempDir(), "home")
	user := []byte(`{"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"1//refresh"}`)
	if err := os.MkdirAll(filepath.Join(gcloud, ".config", "gcloud"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(gcloud, ".config", "gcloud", adcFile), user, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		env    map[string]string
		source string
		token  string
	}{
		{"service account key", s.keyEnv(), "service account key mirror@acme.iam.gserviceaccount.com (GOOGLE_APPLICATION_CREDENTIALS)", "ya29."},
		{"workload identity federation", s.fileEnv(wif(t, "oidc-subject", true)), "workload identity federation (GOOGLE_APPLICATION_CREDENTIALS)", "ya29."},
		{"federation without impersonation", s.fileEnv(wif(t, "oidc-subject", false)), "workload identity federation (GOOGLE_APPLICATION_CREDENTIALS)", "federated"},
		{"gcloud login", map[string]string{"HOME": gcloud, "GCE_METADATA_HOST": metadata}, "user credentials (gcloud application_default_credentials.json)", "ya29."},
		{"metadata server", map[string]string{"GCE_METADATA_HOST": metadata}, "metadata server", "ya29.metadata"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := s.target(tt.env).Credential(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.Username != "oauth2accesstoken" || got.Source != tt.source || !strings.HasPrefix(got.Password, tt.token) {
				t.Errorf("user %q, source %q, password begins with %q: %t", got.Username, got.Source, tt.token, strings.HasPrefix(got.Password, tt.token))
			}
			if d := time.Until(got.Expires); d < 50*time.Minute || d > 61*time.Minute {
				t.Errorf("expires in %s", d)
			}
		})
	}
}

// metadataStandIn is GCE's metadata server as compute/docs/metadata describes it.
func metadataStandIn(t *testing.T, universe string) string {
	t.Helper()
	tries := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata-Flavor") != "Google" || r.Header.Get("X-Forwarded-For") != "" {
			gartest.Reply(w, 403, "Missing Metadata-Flavor:Google header.")
			return
		}
		w.Header().Set("Metadata-Flavor", "Google")
		switch r.URL.Path {
		case "/computeMetadata/v1/instance/service-accounts/default/token":
			if tries++; tries == 1 {
				gartest.Reply(w, 503, "not ready")
				return
			}
			gartest.Reply(w, 200, `{"access_token":"ya29.metadata","expires_in":3599,"token_type":"Bearer"}`)
		case "/computeMetadata/v1/universe/universe-domain":
			gartest.Reply(w, 200, universe+"\n")
		default:
			gartest.Reply(w, 404, "")
		}
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func TestCredentialRefused(t *testing.T) {
	captive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		gartest.Reply(w, 200, `{"access_token":"x","expires_in":3599}`)
	}))
	defer captive.Close()
	s3ns := metadataStandIn(t, "s3nsapis.fr")
	tests := []struct {
		name  string
		setup func(*standIn) map[string]string
		code  target.Code
		words string // of the remedy
	}{
		{"clock behind", func(s *standIn) map[string]string { s.Skew = 2 * time.Hour; return s.keyEnv() }, target.ClockSkew, "behind oauth2.googleapis.com"},
		{"clock ahead", func(s *standIn) map[string]string { s.Skew = -time.Hour; return s.keyEnv() }, target.ClockSkew, "ahead of oauth2.googleapis.com"},
		{"deleted key", func(s *standIn) map[string]string { s.Deleted = true; return s.keyEnv() }, target.LoginRefused, "make a new key"},
		{"endpoint down", func(s *standIn) map[string]string {
			s.Answers["POST /token"] = answer{Status: 503, Body: "<html>"}
			return s.keyEnv()
		}, target.ServerFault, "run again later"},
		{"throttled", func(s *standIn) map[string]string {
			s.Answers["POST /token"] = answer{Status: 429, Body: `{"error":"rate_limit_exceeded"}`}
			return s.keyEnv()
		}, target.Throttled, "run again later"},
		{"revoked user", func(s *standIn) map[string]string {
			return s.fileEnv(map[string]any{"type": "authorized_user", "client_id": "c", "client_secret": "topsecret", "refresh_token": "1//old"})
		}, target.LoginRefused, "gcloud auth application-default login"},
		{"subject refused", func(s *standIn) map[string]string { return s.fileEnv(wif(s.t, "other", true)) }, target.LoginRefused, "attribute condition"},
		{"no impersonation", func(s *standIn) map[string]string {
			s.Answers["POST /v1/projects/-/serviceAccounts/m@acme.iam.gserviceaccount.com:generateAccessToken"] = answer{Status: 403, Body: `{"error":{"code":403,"message":"Permission 'iam.serviceAccounts.getAccessToken' denied","status":"PERMISSION_DENIED"}}`}
			return s.fileEnv(wif(s.t, "oidc-subject", true))
		}, target.Denied, "roles/iam.workloadIdentityUser"},
		{"subject file missing", func(s *standIn) map[string]string {
			m := wif(s.t, "x", false)
			m["credential_source"] = map[string]any{"file": filepath.Join(s.t.TempDir(), "absent")}
			return s.fileEnv(m)
		}, target.NoCredentials, "token files"},
		{"no file", func(*standIn) map[string]string {
			return map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": "absent.json"}
		}, target.NoCredentials, "readable credentials file"},
		{"not JSON", func(s *standIn) map[string]string { return s.fileEnv("topsecret") }, target.NoCredentials, "JSON file"},
		{"other type", func(s *standIn) map[string]string {
			return s.fileEnv(map[string]any{"type": "gdch_service_account"})
		}, target.NoCredentials, "service account key"},
		{"broken key", func(s *standIn) map[string]string {
			return s.fileEnv(map[string]any{"type": "service_account", "private_key": "topsecret", "client_email": "a@b.c", "token_uri": "https://oauth2.googleapis.com/token"})
		}, target.NoCredentials, "keys"},
		{"other cloud", func(s *standIn) map[string]string {
			return s.fileEnv(map[string]any{"type": "service_account", "universe_domain": "s3nsapis.fr"})
		}, target.NoCredentials, "cloud googleapis.com"},
		{"machine of another cloud", func(*standIn) map[string]string { return map[string]string{"GCE_METADATA_HOST": s3ns} }, target.NoCredentials, "cloud googleapis.com"},
		{"none", func(*standIn) map[string]string { return map[string]string{"NO_GCE_CHECK": "true"} }, target.NoCredentials, "GOOGLE_APPLICATION_CREDENTIALS"},
		{"captive portal", func(*standIn) map[string]string {
			return map[string]string{"GCE_METADATA_HOST": strings.TrimPrefix(captive.URL, "http://")}
		}, target.NoCredentials, "GOOGLE_APPLICATION_CREDENTIALS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStandIn(t)
			got, err := s.target(tt.setup(s)).Credential(t.Context())
			p, ok := errors.AsType[*target.Problem](err)
			if !ok || p.Code != tt.code {
				t.Fatalf("error = %v, want code %q", err, tt.code)
			}
			if !strings.Contains(p.Remedy, tt.words) {
				t.Errorf("remedy %q lacks %q", p.Remedy, tt.words)
			}
			if got != (target.Credential{}) {
				t.Error("a credential beside the error")
			}
			if text := err.Error() + p.Remedy; strings.Contains(text, "topsecret") || strings.Contains(text, "\n") {
				t.Errorf("the error shows a secret or spans lines: %q", text)
			}
		})
	}
}

func TestCredentialUnreachable(t *testing.T) {
	s := newStandIn(t)
	env := s.keyEnv()
	tg := s.target(env)
	s.Server.Close()
	_, err := tg.Credential(t.Context())
	if e, ok := errors.AsType[*remote.UnreachableError](err); !ok || e.Host != "oauth2.googleapis.com" {
		t.Errorf("error = %v, want one that says which host cannot be reached", err)
	}
	hosts, err := remote.New(remote.Options{Resolve: map[string]string{"oauth2.googleapis.com": newStandIn(t).Addr()}, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	tg = s.target(env, func(o *Options) { o.HTTPClient = hosts.HTTPClient() })
	_, err = tg.Credential(t.Context())
	if _, ok := errors.AsType[*remote.TLSError](err); !ok {
		t.Errorf("error = %v, want one about the certificate", err)
	}
}

func TestCredentialRefresh(t *testing.T) {
	s := newStandIn(t)
	now := time.Now()
	tg := s.target(s.keyEnv(), func(o *Options) { o.Now = func() time.Time { return now } })
	step := func(after time.Duration, issued int) {
		t.Helper()
		now = time.Now().Add(after)
		if _, err := tg.Credential(t.Context()); err != nil {
			t.Fatalf("after %s: %v", after, err)
		}
		if s.Issued != issued {
			t.Errorf("after %s: %d tokens issued, want %d", after, s.Issued, issued)
		}
	}
	step(0, 1)
	step(45*time.Minute, 1)
	s.Answers["POST /token"] = answer{Status: 503, Body: ""}
	step(55*time.Minute, 1) // the endpoint is down, the token still good
	now = time.Now().Add(2 * time.Hour)
	if _, err := tg.Credential(t.Context()); err == nil {
		t.Error("an expired token was handed out")
	}
	delete(s.Answers, "POST /token")
	step(55*time.Minute, 2)
}
