// Package oci is the mirror target for any registry that keeps to the OCI
// distribution-spec and has no interface of its own to create repositories,
// ask for quota or issue credentials.
package oci

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"slices"

	"github.com/airlock-project/airlock/mirror/target"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// Target is a plain OCI registry. The zero value is ready for use.
type Target struct{}

// Limits returns the limits of the distribution-spec.
func (Target) Limits() target.Limits { return target.Limits{} }

// Explain wraps err in a *target.Problem where the cause is known and returns
// it unchanged otherwise. A nil error stays nil.
func (Target) Explain(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*target.Problem](err); ok {
		return err
	}
	code, remedy := transport(err)
	if resp, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		code, remedy = answer(resp)
	}
	if code == "" {
		return err
	}
	return &target.Problem{Code: code, Remedy: remedy, Err: err}
}

// answer reads a registry's error response. Status decides where codes are
// missing, because proxies answer without a body that a registry would write.
func answer(resp *errcode.ErrorResponse) (target.Code, string) {
	has := func(code string) bool {
		return slices.ContainsFunc(resp.Errors, func(e errcode.Error) bool { return e.Code == code })
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return target.Unauthenticated, "check the user name and password for this registry; a login may have expired"
	case resp.StatusCode == http.StatusForbidden:
		return target.Denied, "give this account the right to push to the repository, and check the project's quota"
	case resp.StatusCode == http.StatusNotFound && has(errcode.ErrorCodeNameUnknown):
		return target.RepositoryMissing, "create the repository or project first: this registry does not create it on push"
	case resp.StatusCode == http.StatusRequestEntityTooLarge:
		return target.TooLarge, "raise the upload size limit of the registry or of the proxy in front of it"
	case resp.StatusCode == http.StatusMethodNotAllowed:
		return target.ReadOnly, "allow pushing: the registry, a proxy or a lock refuses writes here"
	case resp.StatusCode == http.StatusTooManyRequests:
		return target.Throttled, "run again later or with fewer workers: what was sent is not sent again"
	}
	return "", ""
}

// transport reads an error from below HTTP.
func transport(err error) (target.Code, string) {
	if errors.Is(err, auth.ErrBasicCredentialNotFound) {
		return target.Unauthenticated, "log in to this registry or give a user name and password"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return target.Untrusted, "give the certificate authority that issued the registry's certificate"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return target.Untrusted, "give the certificate authority that issued the registry's certificate"
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return target.Unreachable, "check the registry's host name and the resolver of this machine"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return target.Unreachable, "check that the registry runs and that no firewall blocks the way to it"
	}
	return "", ""
}
