package oci

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/airlock-project/airlock/mirror/target"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

func TestExplain(t *testing.T) {
	status := func(code int, codes ...string) error {
		resp := &errcode.ErrorResponse{Method: http.MethodPut, URL: &url.URL{Host: "r.test"}, StatusCode: code}
		for _, c := range codes {
			resp.Errors = append(resp.Errors, errcode.Error{Code: c})
		}
		return fmt.Errorf("push: %w", resp)
	}
	tests := []struct {
		name string
		err  error
		want target.Code
	}{
		{"unauthorized", status(401), ""},
		{"denied", status(403, "DENIED"), target.Denied},
		{"no repository", status(404, "NAME_UNKNOWN"), target.RepositoryMissing},
		{"other not found", status(404, "BLOB_UNKNOWN"), ""},
		{"proxy limit", status(413), target.TooLarge},
		{"read-only", status(405, "UNSUPPORTED"), target.ReadOnly},
		{"throttled", status(429), target.Throttled},
		{"server fault", status(500), ""},
		{"cut", fmt.Errorf("get: %w", &net.OpError{Op: "read", Err: errors.New("reset")}), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Target{}.Explain(tt.err)
			if !errors.Is(got, tt.err) {
				t.Fatalf("Explain lost the error: %v", got)
			}
			p, ok := errors.AsType[*target.Problem](got)
			if !ok {
				p = &target.Problem{}
			}
			if p.Code != tt.want {
				t.Errorf("code = %q, want %q", p.Code, tt.want)
			}
			if ok && p.Remedy == "" {
				t.Error("no remedy")
			}
			if again := (Target{}).Explain(got); again != got { //nolint:errorlint // the very same error must come back
				t.Error("Explain wraps twice")
			}
		})
	}
	if (Target{}).Explain(nil) != nil {
		t.Error("Explain(nil) is not nil")
	}
}
