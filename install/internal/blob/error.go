package blob

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Reason says why an operation did not work, in terms that a person can act on.
type Reason int

// Reasons. The zero value is something else.
const (
	Other       Reason = iota
	Missing            // no such bucket or object
	Elsewhere          // the bucket is in another region or belongs to someone else
	Denied             // the credentials are known and may not
	Unknown            // the credentials are not known
	Signature          // the signature does not match the request that arrived
	Skew               // the clocks differ too much
	Trust              // the certificate is not trusted
	Unreachable        // nothing answers, or not as it should
	Unsupported        // the service does not have this operation
)

// Error is an operation that did not work. Text holds no secrets.
type Error struct {
	Op     string
	Bucket string
	Reason Reason
	Text   string
	err    error // for errors.Is with the context's errors only
}

// Error implements error.
func (e *Error) Error() string {
	if e.Bucket == "" {
		return e.Op + ": " + e.Text
	}
	return fmt.Sprintf("bucket %s: %s: %s", e.Bucket, e.Op, e.Text)
}

// Unwrap returns the context's error, if that ended the operation.
func (e *Error) Unwrap() error { return e.err }

// ReasonOf is the reason of an *Error, else Other.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return Other
}

// textOf is what an *Error says beyond operation and bucket.
func textOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Text
	}
	return err.Error()
}

// maxText bounds what a service says of an error.
const maxText = 300

// clip makes foreign text fit for a finding.
func clip(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

// fromWire says why no answer came. ok is false if err is not about the
// connection.
func fromWire(op, bucket string, err error) (out *Error, ok bool) {
	out = &Error{Op: op, Bucket: bucket, Reason: Unreachable}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		out.err, out.Text = err, "no answer in time"
		return out, true
	}
	for _, limit := range []error{errLong, errSlow} {
		if errors.Is(err, limit) {
			out.Text = limit.Error()
			return out, true
		}
	}
	// The URL of a request may carry a signature: only its host is said.
	inner := err
	if ue, isURL := errors.AsType[*url.Error](err); isURL {
		inner = ue.Err
	}
	if _, is := errors.AsType[*tls.CertificateVerificationError](err); is {
		out.Reason, out.Text = Trust, clip(inner.Error())
		return out, true
	}
	for _, is := range []bool{is[x509.UnknownAuthorityError](err), is[x509.HostnameError](err), is[x509.CertificateInvalidError](err)} {
		if is {
			out.Reason, out.Text = Trust, clip(inner.Error())
			return out, true
		}
	}
	if is[tls.RecordHeaderError](err) || strings.Contains(inner.Error(), "server gave HTTP response to HTTPS client") {
		out.Text = "it speaks plain HTTP, not TLS"
		return out, true
	}
	if _, isURL := errors.AsType[*url.Error](err); isURL || is[*net.OpError](err) || is[*net.DNSError](err) {
		out.Text = clip(inner.Error())
		return out, true
	}
	return nil, false
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// ConfigError is a configuration that no service can be opened with.
type ConfigError struct {
	Field string // of the storage argument
	Value string // "" if it may be a secret
	Text  string
}

// Error implements error.
func (e *ConfigError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("storage %s: %s", e.Field, e.Text)
	}
	return fmt.Sprintf("storage %s %q: %s", e.Field, e.Value, e.Text)
}

// Wire says in words that may be shown why a request of the plain client got no
// answer.
func Wire(err error) (text string, reason Reason) {
	if e, ok := fromWire("", "", err); ok {
		return e.Text, e.Reason
	}
	return clip(err.Error()), Unreachable
}
