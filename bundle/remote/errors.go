package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// AuthError says that a host refused the credentials shown, or asked for some
// and there were none.
type AuthError struct {
	Host string
	Err  error
}

func (e *AuthError) Error() string { return fmt.Sprintf("log in to %s: %v", e.Host, e.Err) }

// Unwrap returns the cause.
func (e *AuthError) Unwrap() error { return e.Err }

// NotFoundError says that a host answered and does not have what was asked for.
type NotFoundError struct {
	Ref string
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("%s: not found", e.Ref) }

// UnreachableError says that no answer came: no such name, nobody listens, the
// connection broke or stalled, and trying again did not help.
type UnreachableError struct {
	Host string
	Err  error
}

func (e *UnreachableError) Error() string { return fmt.Sprintf("reach %s: %v", e.Host, e.Err) }

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// TLSError says that the host's certificate is not trusted, or that TLS could
// not be agreed on.
type TLSError struct {
	Host string
	Err  error
}

func (e *TLSError) Error() string {
	return fmt.Sprintf("secure the connection to %s: %v", e.Host, e.Err)
}

// Unwrap returns the cause.
func (e *TLSError) Unwrap() error { return e.Err }

// PlainHTTPError says that plain HTTP stands in the way: the host answered
// HTTPS with plain HTTP (Asked is false), or plain HTTP was asked for, by a
// URL, a redirect or a token realm, and the host is not listed (Asked is true).
type PlainHTTPError struct {
	Host  string
	Asked bool
}

func (e *PlainHTTPError) Error() string {
	if e.Asked {
		return fmt.Sprintf("plain HTTP to %s is not allowed", e.Host)
	}
	return fmt.Sprintf("%s answers plain HTTP, not HTTPS", e.Host)
}

// StatusError is an answer that is neither success nor one of the above.
type StatusError struct {
	Host    string
	Status  int
	Message string // what the host said, shortened; from outside, show it quoted
}

func (e *StatusError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("%s answered %d %s", e.Host, e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("%s answered %d %s: %q", e.Host, e.Status, http.StatusText(e.Status), e.Message)
}

// maxMessage bounds how much of a host's own words goes into an error.
const maxMessage = 300

// Explain turns an error of the HTTP or registry client into one of this
// package's types where one fits, and takes the query out of every URL (a
// redirect's signature is a secret). object is what was asked for: a reference
// with its host, a URL or a host. Errors it does not know, those it already explained, and the
// context's come back as they are.
func Explain(err error, object string) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		// Our transport's own refusal; what is around it holds the whole URL.
		if refused, ok := errors.AsType[*AuthError](ue.Err); ok {
			return refused
		}
	}
	if err == nil || explained(err) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	host := hostOf(err, object)
	if resp, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		return explainStatus(resp, host, object)
	}
	if plain, ok := errors.AsType[*PlainHTTPError](err); ok {
		return plain
	}
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		return &NotFoundError{Ref: object}
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return &AuthError{Host: host, Err: errors.New("it asks for a user name and password, and there are none for it")}
	case errors.Is(err, http.ErrSchemeMismatch) || isHTTPAnswer(err):
		return &PlainHTTPError{Host: host}
	case isTLS(err):
		return &TLSError{Host: host, Err: inner(err)}
	case isNetwork(err):
		return &UnreachableError{Host: host, Err: inner(err)}
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		if _, refused := errors.AsType[*redirectError](err); refused {
			return fmt.Errorf("%s: %w", host, ue.Err)
		}
		// What is left are the transport's own words for an answer that did not
		// come or was none; net/http exports few of them.
		return &UnreachableError{Host: host, Err: ue.Err}
	}
	return err
}

func explainStatus(resp *errcode.ErrorResponse, host, object string) error {
	s := &StatusError{Host: host, Status: resp.StatusCode}
	if len(resp.Errors) > 0 {
		s.Message = resp.Errors.Error()
		if len(s.Message) > maxMessage {
			s.Message = strings.ToValidUTF8(s.Message[:maxMessage], "") + "…"
		}
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return &AuthError{Host: host, Err: s}
	case http.StatusNotFound:
		return &NotFoundError{Ref: object}
	}
	return s
}

func explained(err error) bool {
	if _, ok := errors.AsType[*AuthError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*NotFoundError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*UnreachableError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*TLSError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*StatusError](err); ok {
		return true
	}
	// One that came out of the transport is still wrapped in a *url.Error.
	var plain *PlainHTTPError
	if _, wrapped := errors.AsType[*url.Error](err); wrapped {
		return false
	}
	return errors.As(err, &plain)
}

// hostOf names the host that err is about: after a redirect or for a token it
// is not the object's.
func hostOf(err error, object string) string {
	if resp, ok := errors.AsType[*errcode.ErrorResponse](err); ok && resp.URL != nil {
		return resp.URL.Host
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		if u, err := url.Parse(ue.URL); err == nil && u.Host != "" {
			return u.Host
		}
	}
	if ref, err := ParseReference(object); err == nil && strings.Contains(object, "/") {
		return ref.Host
	}
	if u, err := url.Parse(object); err == nil && u.Host != "" {
		return u.Host
	}
	return object
}

// inner drops the layers that repeat the URL.
func inner(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}

func isHTTPAnswer(err error) bool {
	rec, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok && string(rec.RecordHeader[:]) == "HTTP/"
}

func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	// An alert that the server sent: crypto/tls keeps its type to itself.
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok
}

func isNetwork(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		// *url.Error is a net.Error whatever it holds: look inside.
		if ue, ok := errors.AsType[*url.Error](err); ok {
			return isNetworkCause(ue.Err)
		}
		return true
	}
	return isNetworkCause(err)
}

func isNetworkCause(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EPIPE)
}
