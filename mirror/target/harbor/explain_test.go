package harbor

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

func respond(status int, code, message string) error {
	resp := &errcode.ErrorResponse{Method: "PUT", StatusCode: status, URL: &url.URL{Scheme: "https", Host: testHost, Path: "/v2/apps/web/blobs/uploads/1", RawQuery: "_state=topsecret"}}
	if code != "" {
		resp.Errors = errcode.Errors{{Code: code, Message: message}}
	}
	return resp
}

// TestExplain holds the bodies that Harbor 2.16.0 was seen to send.
func TestExplain(t *testing.T) {
	tests := []struct {
		name  string
		err   error
		code  target.Code
		words string
	}{
		{"quota", respond(403, "DENIED", "adding 30.0 MiB of storage resource, which when updated to current usage of 1.0 KiB will exceed the configured upper limit of 20.0 MiB."), target.QuotaExceeded, "storage quota of project apps"},
		{"quota, older release", respond(412, "PRECONDITION", "adding 1 MiB of storage resource will exceed the configured upper limit of 1 MiB"), target.QuotaExceeded, "storage quota"},
		{"read-only", respond(403, "DENIED", "The system is in read only mode. Any modification is prohibited."), target.ReadOnly, "wait"},
		{"proxy cache", respond(403, "DENIED", "denied: can not push artifact to a proxy project: cache"), target.NotPushable, "proxy cache"},
		{"cookie", respond(403, "FORBIDDEN", "CSRF token not found in request"), target.Denied, "cookies"},
		{"other 403", respond(403, "DENIED", "denied"), target.Denied, "repository:push"},
		{"project missing", respond(401, "UNAUTHORIZED", "project absent not found: project absent not found"), target.RepositoryMissing, "create project apps"},
		{"project missing, 404", respond(404, "NAME_UNKNOWN", "project apps not found"), target.RepositoryMissing, "create project apps"},
		{"rights", respond(401, "UNAUTHORIZED", "unauthorized to access repository: apps/web, action: push: unauthorized to access repository: apps/web, action: push"), target.Denied, "robot \"robot$apps+mirror\" the rights repository:push"},
		{"immutable", respond(412, "PRECONDITION", "Failed to process request due to 'imm:v1' configured as immutable."), target.TagImmutable, "another tag"},
		{"policy", respond(412, "PROJECTPOLICYVIOLATION", "current image without vulnerability scanning cannot be pulled"), target.Denied, "scan"},
		{"manifest", respond(413, "REQUEST_ENTITY_TOO_LARGE", "manifest is too large"), target.TooLarge, "4 MiB"},
		{"nginx", respond(413, "", ""), target.TooLarge, "client_max_body_size"},
		{"throttled", respond(429, "", ""), target.Throttled, "fewer workers"},
		{"broken", respond(500, "UNKNOWN", "internal server error"), target.ServerFault, "core"},
		{"unknown blob", respond(404, "BLOB_UNKNOWN", "blob unknown to registry"), "", ""},
		{"deletion", respond(412, "VIOLATE_FOREIGN_KEY_CONSTRAINT", "the deleting artifact is referenced by others"), "", ""},
		{"other", errors.New("cut"), "", ""},
	}
	s := newStandIn(t)
	s.Projects["apps"] = `{}`
	tg := s.target(robotName, secret)
	if _, err := tg.Inspect(t.Context(), request("apps/web")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tg.Explain(tt.err)
			if tt.code == "" {
				if got != tt.err { //nolint:errorlint // the very same error must come back
					t.Errorf("Explain made %v of an error it does not know", got)
				}
				return
			}
			p, ok := errors.AsType[*target.Problem](got)
			if !ok || p.Code != tt.code || !strings.Contains(p.Remedy, tt.words) {
				t.Fatalf("Explain = %v (%+v), want %q, %q", got, p, tt.code, tt.words)
			}
			if strings.Contains(got.Error(), "topsecret") {
				t.Errorf("the error shows an upload's state: %v", got)
			}
			if again := tg.Explain(got); again != got { //nolint:errorlint // the very same error must come back
				t.Error("Explain wraps twice")
			}
		})
	}
	if tg.Explain(nil) != nil {
		t.Error("Explain(nil) is not nil")
	}
}

// TestExplainLogin is the 401 that means rights or password: which, is known
// only from a login that was tried.
func TestExplainLogin(t *testing.T) {
	got := newStandIn(t).target("robot+ci", secret).Explain(respond(401, "UNAUTHORIZED", "unauthorized to access repository: apps/web, action: push"))
	p, ok := errors.AsType[*target.Problem](got)
	if !ok || p.Code != target.LoginRefused || !strings.Contains(p.Remedy, "single quotes") {
		t.Errorf("Explain = %v (%+v)", got, p)
	}
	if _, ok := errors.AsType[*remote.AuthError](got); !ok {
		t.Error("not an AuthError: the engine would go on")
	}
}
