package kube

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
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/airlock-project/airlock/install/internal/dial"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ConfigError says why a kubeconfig cannot be used.
type ConfigError struct{ File, Reason string }

func (e *ConfigError) Error() string {
	return fmt.Sprintf("use kubeconfig %q: %s", e.File, e.Reason)
}

// PluginError says that a kubeconfig logs in with a program that is not there,
// or that gave no credentials.
type PluginError struct {
	Plugin string // name of the program
	File   string // the kubeconfig
	Reason string // "" if the program is not there
}

func (e *PluginError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("log in with kubeconfig %q: exec plugin %s not found in PATH", e.File, e.Plugin)
	}
	return fmt.Sprintf("log in with exec plugin %s: %s", e.Plugin, e.Reason)
}

// TLSError says that the API server's certificate is not trusted, or that it
// refuses the client's.
type TLSError struct{ Server, Reason string }

func (e *TLSError) Error() string { return fmt.Sprintf("connect to %s: %s", e.Server, e.Reason) }

// UnreachableError says that there is no answer of the API server.
type UnreachableError struct{ Server, Reason string }

func (e *UnreachableError) Error() string { return fmt.Sprintf("reach %s: %s", e.Server, e.Reason) }

// UnauthorizedError says that the API server does not know the user.
type UnauthorizedError struct{ Server string }

func (e *UnauthorizedError) Error() string {
	return fmt.Sprintf("log in to %s: the credentials of the kubeconfig are not accepted, or have expired", e.Server)
}

// ForbiddenError says what the user of the kubeconfig may not do.
type ForbiddenError struct {
	Server    string
	User      string
	Verb      string
	Resource  string // with its group: deployments.apps
	Namespace string // "" is the whole cluster
	Reason    string // where it is not a missing right: an admission policy
}

func (e *ForbiddenError) Error() string {
	if e.Reason != "" {
		return "forbidden: " + e.Reason
	}
	where := "in the cluster"
	if e.Namespace != "" {
		where = "in namespace " + e.Namespace
	}
	return fmt.Sprintf("forbidden: user %s may not %s %s %s", e.User, e.Verb, e.Resource, where)
}

// TooOldError says that a server is older than what is needed.
type TooOldError struct{ Server, Version, Want string }

func (e *TooOldError) Error() string {
	return fmt.Sprintf("check %s: server %s is older than %s", e.Server, e.Version, e.Want)
}

// UnknownKindError says that the server has no such kind.
type UnknownKindError struct{ Server, Kind, Version string }

func (e *UnknownKindError) Error() string {
	return fmt.Sprintf("find kind %s of %s at %s: the server does not have it", e.Kind, e.Version, e.Server)
}

// InvalidError says that the server does not take an object. Of a Secret it
// names the fields and not what is in them.
type InvalidError struct {
	Object string // kind namespace/name
	Fields []string
	Reason string
}

func (e *InvalidError) Error() string { return fmt.Sprintf("apply %s: %s", e.Object, e.Reason) }

// ConflictError says that fields of an object belong to another field manager.
type ConflictError struct {
	Object string // kind namespace/name
	Fields []string
	Owners []string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("apply %s: %s belongs to %s", e.Object, strings.Join(e.Fields, ", "), strings.Join(e.Owners, ", "))
}

// TerminatingError says that a namespace is being removed and what holds it, or
// that it is not there at all.
type TerminatingError struct {
	Namespace string
	Missing   bool
	Holds     []string // finalizers, and what the namespace's conditions say is left
}

func (e *TerminatingError) Error() string {
	if e.Missing {
		return fmt.Sprintf("use namespace %s: it does not exist", e.Namespace)
	}
	return fmt.Sprintf("use namespace %s: it is Terminating, held by %s", e.Namespace, strings.Join(e.Holds, ", "))
}

// Explain turns an error of a client into one of the types above where it is
// one; others stay, so that the functions of package api/errors still tell them
// apart. nil stays nil.
func (c *Client) Explain(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case strings.Contains(err.Error(), "would exceed context deadline"): // the limit of requests in a second
		return context.DeadlineExceeded
	case apierrors.IsUnauthorized(err):
		return &UnauthorizedError{c.server}
	case apierrors.IsForbidden(err):
		return c.forbidden(err)
	}
	if s, ok := errors.AsType[*apierrors.StatusError](err); ok {
		// A webhook of the cluster that does not answer is told as one: the server does.
		code := s.ErrStatus.Code
		if code == http.StatusTooManyRequests || code >= http.StatusInternalServerError && !strings.Contains(s.ErrStatus.Message, "webhook") {
			return &UnreachableError{c.server, clean(fmt.Sprintf("it answers %d %s: %s", s.ErrStatus.Code, http.StatusText(int(s.ErrStatus.Code)), s.ErrStatus.Message))}
		}
		if text := clean(s.ErrStatus.Message); text != s.ErrStatus.Message {
			s = &apierrors.StatusError{ErrStatus: *s.ErrStatus.DeepCopy()}
			s.ErrStatus.Message = text
			return s
		}
		return err
	}
	if reason, ok := untrusted(err); ok {
		return &TLSError{c.server, reason}
	}
	if _, detail, ok := strings.Cut(err.Error(), "getting credentials: "); ok {
		return &PluginError{Plugin: c.plugin(), Reason: clean(detail)}
	}
	if reason := unreadable(err); reason != "" {
		return &UnreachableError{c.server, reason}
	}
	_, isURL := errors.AsType[*url.Error](err)
	_, isNet := errors.AsType[net.Error](err)
	if isURL || isNet {
		return &UnreachableError{c.server, reach(err)}
	}
	return err
}

// unreadable says why an answer cannot be read, "" if that is not what err is about.
// Decoders have no types for it.
func unreadable(err error) string {
	if e, ok := errors.AsType[*largeError](err); ok {
		return e.Error()
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "its answer ends in the middle"
	}
	// So client-go tells of a stream that was reset, and of one that ends with its context.
	if strings.Contains(err.Error(), "error when reading response body") && !errors.Is(err, context.DeadlineExceeded) {
		return "its answer ends in the middle"
	}
	for _, s := range []string{"json parse error", "0-length response", "serializer for "} {
		if strings.Contains(err.Error(), s) {
			return "what answers is no API server: " + plain(err)
		}
	}
	return ""
}

// reach says why there is no answer.
func reach(err error) string {
	if r := dial.Reason(err); r != "no connection" {
		return r
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return clean(dial.NotTLS(err))
}

func (c *Client) plugin() string {
	for _, u := range c.raw.AuthInfos {
		if u.Exec != nil {
			return clean(u.Exec.Command)
		}
	}
	return "of the kubeconfig"
}

// untrusted tells mistakes of certificates from others.
func untrusted(err error) (string, bool) {
	if v, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return clean(v.Err.Error()), true
	}
	if v, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return v.Error(), true
	}
	if v, ok := errors.AsType[tls.AlertError](err); ok {
		return "the server refuses the client's certificate: " + clean(v.Error()), true
	}
	// crypto/tls keeps the alerts of a peer to itself.
	if _, detail, ok := strings.Cut(err.Error(), "remote error: tls: "); ok {
		return "the server refuses the client's certificate: " + clean(detail), true
	}
	return "", false
}

// denied is what the API server's authorizer says; what follows is its reason.
var denied = regexp.MustCompile(`User "([^"]*)" cannot ([a-z]+) resource "([^"]*)" in API group "([^"]*)"(?: in the namespace "([^"]*)")?`)

func (c *Client) forbidden(err error) error {
	if m := denied.FindStringSubmatch(err.Error()); m != nil {
		resource := m[3]
		if m[4] != "" {
			resource += "." + m[4]
		}
		return &ForbiddenError{Server: c.server, User: clean(m[1]), Verb: m[2], Resource: clean(resource), Namespace: clean(m[5])}
	}
	return &ForbiddenError{Server: c.server, Reason: clean(err.Error())}
}

// causes are the fields that a refusal names, and who owns them if it says so.
func causes(err error, kind metav1.CauseType) (fields, messages []string) {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || status.Status().Details == nil {
		return nil, nil
	}
	for _, c := range status.Status().Details.Causes {
		if kind == "" || c.Type == kind {
			fields, messages = append(fields, clean(c.Field)), append(messages, c.Message)
		}
	}
	slices.Sort(fields)
	return slices.Compact(fields), messages
}

func isNotFound(err error) bool { return apierrors.IsNotFound(err) }

func containsSlash(s string) bool { return strings.ContainsRune(s, '/') }

// maxText bounds what is repeated of a server's words.
const maxText = 600

// clean makes outside text fit for a message: one line, no control characters,
// none that turn its direction, bounded.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > maxText {
		s = string(r[:maxText]) + "…"
	}
	return s
}

// Clean makes text of a server fit for a message: one line, no control
// characters, bounded.
func Clean(s string) string { return clean(s) }

func plain(err error) string { return clean(err.Error()) }

// Refusal tells a server's refusal of an object, by validation or by an
// admission webhook that denies or does not answer, from other errors, which
// come back. That the object exists is no refusal.
func Refusal(err error) (reason string, other error) {
	if err == nil || apierrors.IsAlreadyExists(err) {
		return "", nil
	}
	if f, ok := errors.AsType[*ForbiddenError](err); ok && f.Reason != "" {
		return f.Reason, nil
	}
	if s, ok := errors.AsType[*apierrors.StatusError](err); ok {
		return clean(s.Error()), nil
	}
	return "", err
}
