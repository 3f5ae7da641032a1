package ecr

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/google/go-cmp/cmp"
)

func TestCredential(t *testing.T) {
	s := newStandIn(t)
	tg := s.target(t)
	got, err := tg.Credential(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := target.Credential{
		Username: "AWS", Password: s.Password, Expires: s.Expires,
		Source: "Amazon ECR token, by environment AWS_ACCESS_KEY_ID",
	}
	if !got.Expires.Equal(want.Expires) {
		t.Errorf("expires %v, want %v", got.Expires, want.Expires)
	}
	got.Expires = want.Expires
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(got.Source, s.Password) {
		t.Error("the source holds the password")
	}
}

func TestCredentialRenews(t *testing.T) {
	s := newStandIn(t)
	tg := s.target(t)
	for _, step := range []struct {
		after time.Duration
		calls int
	}{
		{0, 1},
		{11 * time.Hour, 1},
		{29*time.Minute + 59*time.Second, 1},
		{2 * time.Second, 2},
		{time.Hour, 2},
	} {
		s.Mu.Lock()
		s.Now = s.Now.Add(step.after)
		if s.Now.After(s.Expires.Add(-renewBefore)) {
			s.Expires, s.Password = s.Now.Add(12*time.Hour), "secret-second-login"
		}
		want := s.Password
		s.Mu.Unlock()
		c, err := tg.Credential(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if c.Password != want {
			t.Errorf("after %v: an old login", step.after)
		}
		if n := s.Count("GetAuthorizationToken"); n != step.calls {
			t.Errorf("after %v: %d calls, want %d", step.after, n, step.calls)
		}
	}
}

// The API that is asked follows from the host, whatever the environment says.
func TestEndpoint(t *testing.T) {
	const vpce = "vpce-0a1b-c2d3.api.ecr.us-gov-west-1.vpce.amazonaws.com"
	for _, tt := range []struct {
		name, host, region, env, want string
	}{
		{"govcloud", account + ".dkr.ecr.us-gov-west-1.amazonaws.com", "us-gov-west-1", "", "api.ecr.us-gov-west-1.amazonaws.com:443"},
		{"china", account + ".dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1", "", "api.ecr.cn-north-1.amazonaws.com.cn:443"},
		{"iso", account + ".dkr.ecr.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", "", "api.ecr.us-iso-east-1.c2s.ic.gov:443"},
		{"fips", account + ".dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", "", "api.ecr-fips.us-gov-west-1.amazonaws.com:443"},
		{"dual stack", account + ".dkr-ecr.us-east-1.on.aws", "us-east-1", "", "ecr.us-east-1.api.aws:443"},
		{"named", account + ".dkr.ecr.us-gov-west-1.amazonaws.com", "us-gov-west-1", "https://" + vpce, vpce + ":443"},
		{"named beside fips", account + ".dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", "https://" + vpce, vpce + ":443"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStandIn(t)
			s.Region = tt.region
			tg := s.target(t, func(o *Options) {
				o.Host = tt.host
				o.LookupEnv = env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY", "k", "AWS_ENDPOINT_URL_ECR", tt.env, "AWS_REGION", "eu-central-1")
			})
			t.Setenv("AWS_REGION", "eu-central-1")
			if _, err := tg.Credential(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{tt.want}, s.Dialed()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEndpointRefused(t *testing.T) {
	for _, v := range []string{"http://api.ecr.us-east-1.amazonaws.com", "api.ecr", "https://u:secret-pw@h", "https://h?x=secret-pw", "ftp://h", "http://localhost.evil.example", "::"} {
		_, err := endpoint(env("AWS_ENDPOINT_URL_ECR", v))
		if err == nil {
			t.Errorf("%q is taken", v)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("secret in %v", err)
		}
	}
	for _, v := range []string{"https://h:8443/x", "http://127.0.0.1:4566", "http://localhost:4566", ""} {
		if got, err := endpoint(env("AWS_ENDPOINT_URL_ECR", v)); err != nil || got != v {
			t.Errorf("%q: %q, %v", v, got, err)
		}
	}
	if got, _ := endpoint(env("AWS_ENDPOINT_URL_ECR", "https://h", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")); got != "" {
		t.Errorf("ignored endpoint %q is used", got)
	}
}

// An answer that is no login is refused, and nothing of it is quoted.
func TestCredentialRefusesAnswer(t *testing.T) {
	for name, answer := range map[string]map[string]any{
		"none":       {"authorizationData": []any{}},
		"not base64": {"authorizationData": []any{map[string]any{"authorizationToken": "secret!!"}}},
		"other user": {"authorizationData": []any{map[string]any{"authorizationToken": "cm9vdDpzZWNyZXQ="}}},
		"no colon":   {"authorizationData": []any{map[string]any{"authorizationToken": "c2VjcmV0"}}},
		"huge":       {"authorizationData": []any{map[string]any{"authorizationToken": "QVdTOg" + strings.Repeat("A", maxToken)}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStandIn(t)
			s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Write(w, 200, answer) })
			c, err := s.target(t).Credential(t.Context())
			if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "c2Vj") {
				t.Errorf("error %v", err)
			}
			if c != (target.Credential{}) {
				t.Error("a credential beside the error")
			}
		})
	}
}

func TestNoCredentials(t *testing.T) {
	s := newStandIn(t)
	tg := s.target(t, func(o *Options) { o.LookupEnv = env() })
	_, err := tg.Credential(t.Context())
	p, ok := errors.AsType[*target.Problem](err)
	if !ok || p.Code != target.NoCredentials || !strings.Contains(p.Remedy, "aws-us-gov") {
		t.Fatalf("error %v", err)
	}
	if _, ok := errors.AsType[*remote.AuthError](err); !ok {
		t.Error("the run would go on")
	}
}

// The output of a credential process may hold a secret.
func TestCredentialProcessIsNotQuoted(t *testing.T) {
	s := newStandIn(t)
	tg := s.target(t, func(o *Options) { o.LookupEnv = env("AWS_PROFILE", "p", "AWS_CONFIG_FILE", "testdata/process.ini") })
	_, err := tg.Credential(t.Context())
	p, ok := errors.AsType[*target.Problem](err)
	if !ok || p.Code != target.NoCredentials {
		t.Fatalf("error %v", err)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("secret in %v", err)
	}
}

func TestCABundleIsRefused(t *testing.T) {
	s := newStandIn(t)
	tg := s.target(t, func(o *Options) { o.LookupEnv = env("AWS_CA_BUNDLE", "/etc/ca.pem") })
	if _, err := tg.Credential(t.Context()); err == nil || !strings.Contains(err.Error(), "--ca-file") {
		t.Errorf("error %v", err)
	}
}

// Instance roles: the metadata service is asked over plain HTTP at its own
// address, beside the product's client, which refuses plain HTTP. A stand-in
// for IMDSv2.
func TestInstanceRole(t *testing.T) {
	s := newStandIn(t)
	tg := s.target(t, func(o *Options) { o.LookupEnv = env() })
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	const role = "/latest/meta-data/iam/security-credentials/"
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-aws-ec2-metadata-token-ttl-seconds", "21600")
		_, _ = w.Write([]byte("t"))
	})
	mux.HandleFunc("GET "+role+"{$}", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("mirror")) })
	mux.HandleFunc("GET "+role+"mirror", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "k", "Token": "t",
			"Expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		})
	})
	meta := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "169.254.169.254" {
			t.Errorf("metadata asked at %q", r.Host)
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(meta.Close)
	tg.metadata.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", meta.Listener.Addr().String())
	}}
	c, err := tg.Credential(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.Password != s.Password || !strings.Contains(c.Source, "EC2") {
		t.Errorf("source %q", c.Source)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	s := newStandIn(t)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://evil.example/", http.StatusFound)
	})
	if _, err := s.target(t).Credential(t.Context()); err == nil {
		t.Error("no error")
	}
	if slices.Contains(s.Dialed(), "evil.example:443") {
		t.Error("the redirect is followed")
	}
}
