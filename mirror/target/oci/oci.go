// Package oci is the mirror target for any registry that keeps to the OCI
// distribution-spec and has no interface of its own to create repositories,
// ask for quota or issue credentials.
package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/mirror/target"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// Target is a plain OCI registry. The zero value is ready for use.
type Target struct{}

// Kind implements mirror.Target.
func (Target) Kind() string { return "oci" }

// Inspect returns that nothing is known: the distribution-spec has no way to
// ask for repositories, quota or rules.
func (Target) Inspect(context.Context, target.Request) (target.State, error) {
	return target.State{}, nil
}

// Prepare refuses: the distribution-spec has no way to make a repository.
func (Target) Prepare(_ context.Context, actions []target.Action) error {
	if len(actions) == 0 {
		return nil
	}
	names := make([]string, len(actions))
	for i, a := range actions {
		names[i] = a.Kind + " " + a.Name
	}
	return &target.Problem{
		Code:   target.RepositoryMissing,
		Remedy: "make it with the registry's own tools, or choose --provider",
		Err:    fmt.Errorf("prepare the registry: a plain OCI registry cannot do: %s", strings.Join(names, ", ")),
	}
}

// Credential returns none: the logins of docker and podman apply.
func (Target) Credential(context.Context) (target.Credential, error) {
	return target.Credential{}, nil
}

// Limits returns the limits of the distribution-spec. Uploads in pieces are
// part of it; they are the last resort.
func (Target) Limits() target.Limits { return target.Limits{Chunks: true} }

// Explain wraps err in a *target.Problem where it is a registry's answer whose
// cause is known, and returns it unchanged otherwise. What goes wrong below
// HTTP, and credentials, are explained by package remote for all commands.
func (Target) Explain(err error) error {
	resp, ok := errors.AsType[*errcode.ErrorResponse](err)
	if !ok {
		return err
	}
	if _, ok := errors.AsType[*target.Problem](err); ok {
		return err
	}
	code, remedy := answer(resp)
	if code == "" {
		return err
	}
	return &target.Problem{Code: code, Remedy: remedy, Err: err}
}

// answer reads a registry's error response. Status decides, because proxies
// answer without the body that a registry would write.
func answer(resp *errcode.ErrorResponse) (target.Code, string) {
	switch resp.StatusCode {
	case http.StatusForbidden:
		return target.Denied, "give this account the right to push to the repository, and check the project's quota"
	case http.StatusNotFound:
		if slices.ContainsFunc(resp.Errors, func(e errcode.Error) bool { return e.Code == errcode.ErrorCodeNameUnknown }) {
			return target.RepositoryMissing, "create the repository or project first: this registry does not create it on push"
		}
	case http.StatusRequestEntityTooLarge:
		return target.TooLarge, "raise the upload size limit of the registry or of the proxy in front of it"
	case http.StatusMethodNotAllowed:
		return target.ReadOnly, "allow pushing: the registry, a proxy or a lock refuses writes here"
	case http.StatusTooManyRequests:
		return target.Throttled, "run again later or with fewer workers: what was sent is not sent again"
	}
	return "", ""
}
