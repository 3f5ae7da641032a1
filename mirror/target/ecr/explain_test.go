package ecr

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
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// What the API answers, through the SDK.
func TestExplainAPI(t *testing.T) {
	vpce := "https://vpce-0a1b-c2d3.api.ecr.us-gov-west-1.vpce.amazonaws.com"
	for _, tt := range []struct {
		name   string
		fault  fault
		behind time.Duration // this machine's clock
		env    string
		code   target.Code
		remedy string
		fatal  bool
	}{
		{name: "denied", fault: fault{Code: "AccessDeniedException", Message: "no"}, code: target.Denied, remedy: "ecr:GetAuthorizationToken"},
		{name: "organization", fault: fault{Code: "BlockedByOrganizationPolicyException", Message: "no"}, code: target.Denied, remedy: "service control policy"},
		{name: "key", fault: fault{Code: "KmsException", Message: "no"}, code: target.Denied, remedy: "kms:CreateGrant"},
		{name: "expired", fault: fault{Code: "ExpiredTokenException", Message: "The security token included in the request is expired"}, code: target.LoginExpired, remedy: "renew", fatal: true},
		{name: "other partition", fault: fault{Code: "UnrecognizedClientException", Message: "The security token included in the request is invalid."}, code: target.LoginRefused, remedy: "partition aws-us-gov: those used (environment AWS_ACCESS_KEY_ID)", fatal: true},
		{name: "wrong secret", fault: fault{Code: "InvalidSignatureException", Message: "The request signature we calculated does not match"}, code: target.LoginRefused, remedy: "secret access key", fatal: true},
		{name: "other region", fault: fault{Code: "InvalidSignatureException", Message: "Credential should be scoped to a valid region"}, env: vpce, code: target.WrongLocation, remedy: "us-gov-west-1"},
		{name: "skew", fault: fault{Code: "RequestTimeTooSkewed", Message: "no"}, behind: 17 * time.Minute, code: target.ClockSkew, remedy: "17m0s behind", fatal: true},
		{name: "skew, ahead", fault: fault{Code: "RequestInTheFuture", Message: "no"}, behind: -2 * time.Hour, code: target.ClockSkew, remedy: "2h0m0s ahead", fatal: true},
		{name: "skew, as a signature", fault: fault{Code: "InvalidSignatureException", Message: "Signature expired"}, behind: 9 * time.Minute, code: target.ClockSkew, remedy: "9m0s behind", fatal: true},
		{name: "quota", fault: fault{Code: "LimitExceededException", Message: "The maximum number of repositories has been reached"}, code: target.QuotaExceeded, remedy: "Service Quotas"},
		{name: "throttled", fault: fault{Code: "ThrottlingException", Message: "Rate exceeded"}, code: target.Throttled, remedy: "again later"},
		{name: "missing", fault: fault{Code: "RepositoryNotFoundException", Message: "no"}, code: target.RepositoryMissing, remedy: "create"},
		{name: "unknown", fault: fault{Code: "ServerException", Message: "oops"}, code: ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStandIn(t)
			s.Faults["GetAuthorizationToken"] = tt.fault
			tg := s.target(t, func(o *Options) {
				o.Now = func() time.Time { return time.Now().Add(-tt.behind).Add(-500 * time.Millisecond).Round(time.Second) }
				o.LookupEnv = env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY", "secret-key-of-aws", "AWS_ENDPOINT_URL_ECR", tt.env)
			})
			_, err := tg.Credential(t.Context())
			check(t, tg, err, tt.code, tt.remedy, tt.fatal)
		})
	}
}

func check(t *testing.T, tg *Target, err error, code target.Code, remedy string, fatal bool) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	p, ok := errors.AsType[*target.Problem](err)
	if !ok {
		p = &target.Problem{}
	}
	// A second passes between the answer and its reading now and then.
	near := strings.ReplaceAll(strings.ReplaceAll(p.Remedy, "m1s", "m0s"), "m59s", "m60s")
	if p.Code != code || !strings.Contains(near, remedy) {
		t.Errorf("code %q, remedy %q; want %q and %q (%v)", p.Code, p.Remedy, code, remedy, err)
	}
	if _, ok := errors.AsType[*remote.AuthError](err); ok != fatal {
		t.Errorf("ends the run: %v, want %v", ok, fatal)
	}
	if strings.Contains(err.Error()+p.Remedy, "secret-") {
		t.Errorf("secret in %v", err)
	}
	if again := tg.Explain(err); again != err { //nolint:errorlint // the very same error must come back
		t.Error("Explain wraps twice")
	}
}

func TestExplainWrongRegion(t *testing.T) {
	s := newStandIn(t)
	tg := s.target(t, func(o *Options) { o.Host = account + ".dkr.ecr.us-east-1.amazonaws.com" })
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, _ := s.Answer("GetAuthorizationToken", nil)
		s.Write(w, 200, out)
	})
	_, err := tg.Credential(t.Context())
	check(t, tg, err, target.WrongLocation, "us-gov-west-1", false)
}

func TestExplainUnreachable(t *testing.T) {
	s := newStandIn(t)
	tg := s.target(t, func(o *Options) {
		o.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "api.ecr", IsNotFound: true}}
		}}}
	})
	_, err := tg.Inspect(t.Context(), request("a1"))
	check(t, tg, err, target.Unreachable, "com.amazonaws.us-gov-west-1.ecr.api", false)
	if _, ok := errors.AsType[*remote.UnreachableError](err); !ok {
		t.Errorf("error %v is no UnreachableError", err)
	}
}

func TestExplainUntrusted(t *testing.T) {
	s := newStandIn(t)
	tg := s.target(t, func(o *Options) {
		o.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: s.Client.Transport.(*http.Transport).DialContext}}
	})
	_, err := tg.Inspect(t.Context(), request("a1"))
	if _, ok := errors.AsType[*remote.TLSError](err); !ok {
		t.Errorf("error %v is no TLSError", err)
	}
}

// What the registry answers. Texts are from issues where registries.md 2.1 says
// so; others are examples, and the status alone has to do.
func TestExplainRegistry(t *testing.T) {
	const path = "/v2/team/app/blobs/uploads/"
	for _, tt := range []struct {
		name   string
		status int
		path   string
		errs   []errcode.Error
		login  time.Duration // of our own login, from now; 0: none
		code   target.Code
		remedy string
		fatal  bool
	}{
		{"repository missing", 404, path, []errcode.Error{{Code: "NAME_UNKNOWN", Message: "The repository with name 'team/app' does not exist in the registry with id '123456789012'"}}, 0, target.RepositoryMissing, `"team/app" in account 123456789012, region us-gov-west-1`, false},
		{"blob missing", 404, path, []errcode.Error{{Code: "BLOB_UNKNOWN"}}, 0, "", "", false},
		{"immutable", 400, "/v2/team/app/manifests/v1", []errcode.Error{{Code: "TAG_INVALID", Message: "The image tag 'v1' already exists in the 'team/app' repository and cannot be overwritten because the tag is immutable."}}, 0, target.TagImmutable, `"team/app"`, false},
		{"shape", 405, "/v2/team/app/manifests/v1", []errcode.Error{{Code: "UNSUPPORTED", Message: "Invalid parameter at 'ImageManifest' failed to satisfy constraint: 'Invalid JSON syntax'"}}, 0, target.Unsupported, "media type", false},
		{"denied", 403, path, []errcode.Error{{Code: "DENIED", Message: "User: arn:aws:iam::1:user/x is not authorized to perform: ecr:InitiateLayerUpload on resource: arn:aws:ecr:y"}}, 0, target.Denied, "allow ecr:InitiateLayerUpload on arn:aws-us-gov:ecr:us-gov-west-1:123456789012:repository/team/app", false},
		{"denied, no words", 403, path, nil, 0, target.Denied, "ecr:BatchCheckLayerAvailability", false},
		{"expired", 403, path, []errcode.Error{{Code: "DENIED", Message: "Your authorization token has expired. Reauthenticate and try again."}}, 0, target.LoginExpired, "12 hours", true},
		{"expired, ours", 401, path, nil, -time.Minute, target.LoginExpired, "12 hours", true},
		{"refused, a login of the user's", 401, path, nil, 0, target.LoginExpired, "docker config", true},
		{"refused, ours", 401, path, nil, time.Hour, target.LoginRefused, "partition aws-us-gov", true},
		{"image quota", 403, path, []errcode.Error{{Code: "DENIED", Message: "LimitExceededException: images per repository"}}, 0, target.QuotaExceeded, "Service Quotas", false},
		{"layer size", 413, path, nil, 0, target.TooLarge, "52,000 MiB", false},
		{"layer size, by code", 400, path, []errcode.Error{{Code: "SIZE_INVALID"}}, 0, target.TooLarge, "52,000 MiB", false},
		{"throttled", 429, path, []errcode.Error{{Code: "TOOMANYREQUESTS", Message: "Rate exceeded"}}, 0, target.Throttled, "10 times a second", false},
		{"fault", 500, path, nil, 0, "", "", false},
		{"lost chunk", 400, path, []errcode.Error{{Code: "BLOB_UPLOAD_INVALID", Message: "None of the provided layer digests match"}}, 0, "", "", false},
		{"no path", 403, "", nil, 0, target.Denied, "PutImage", false},
		{"odd path", 403, "/v2/../../x y/blobs/uploads/", nil, 0, target.Denied, "to these AWS credentials", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tg := newStandIn(t).target(t)
			if tt.login != 0 {
				tg.login = target.Credential{Password: "p", Expires: tg.opts.Now().Add(tt.login)}
			}
			err := fmt.Errorf("push: %w", &errcode.ErrorResponse{
				Method: http.MethodPost, URL: &url.URL{Scheme: "https", Host: tg.host.name, Path: tt.path}, StatusCode: tt.status, Errors: tt.errs,
			})
			got := tg.Explain(err)
			if !errors.Is(got, err) {
				t.Errorf("Explain lost the answer: %v", got)
			}
			check(t, tg, got, tt.code, tt.remedy, tt.fatal)
		})
	}
}

func TestExplainLeavesOthers(t *testing.T) {
	tg := newStandIn(t).target(t)
	for _, err := range []error{nil, errors.New("x"), context.Canceled, &net.OpError{Op: "read", Err: errors.New("reset")}} {
		if got := tg.Explain(err); got != err { //nolint:errorlint // the very same error must come back
			t.Errorf("Explain(%v) = %v", err, got)
		}
	}
}
