package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"unicode"

	"github.com/airlock-project/airlock/install"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Codes of what stops a connection, the same for every kind of step.
const (
	CodeUnreachable = "PG-01"
	CodeUntrusted   = "PG-08"
	CodeURL         = "PG-09"
	CodeLogin       = "PG-10"
)

// Codes lists the codes of Finding and their fields, for install.Coder.
func Codes() map[string][]string {
	fields := []string{"host", "port", "user", "db", "reason"}
	return map[string][]string{CodeUnreachable: fields, CodeUntrusted: fields, CodeURL: {"reason"}, CodeLogin: fields}
}

// Error is why a server could not be talked to. It shows neither the URL nor
// the password.
type Error struct {
	Code   string
	Host   Host // zero if it is about the URL
	Reason string
	target *Target
}

func (e *Error) Error() string {
	if e.target == nil {
		return "read database URL: " + e.Reason
	}
	return fmt.Sprintf("connect to PostgreSQL at %s: %s", e.Host, e.Reason)
}

// Finding returns the finding that tells of err; ok is false if err is not an
// *Error.
func Finding(err error) (f install.Finding, ok bool) {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return f, false
	}
	f = install.Finding{Code: e.Code, Detail: e.Error(), Fields: map[string]string{"reason": e.Reason}}
	if e.target != nil && e.Code != CodeURL {
		f.Fields["host"], f.Fields["port"] = e.Host.Name, e.Host.Port
		f.Fields["user"], f.Fields["db"] = e.target.User, e.target.Database
	}
	return f, true
}

func badURL(reason string) error { return &Error{Code: CodeURL, Reason: reason} }

// Errors of the way to a server that the driver has no words for.
var (
	errNoTLS   = errors.New("the server does not offer TLS, and sslmode demands it: switch ssl on in the server")
	errTooMuch = errors.New("the server sends more than a database would")
	errForeign = errors.New("what listens there does not speak PostgreSQL")
	errRole    = errors.New("the server is not what target_session_attrs asks for")
)

// explain turns an error of the driver into ours. Only what this package knows
// to be harmless is kept of it: a driver's error may hold the configuration.
func (t *Target) explain(h Host, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Code: CodeUnreachable, Host: h, target: t}
	switch {
	case errors.Is(err, errNoTLS):
		e.Code, e.Reason = CodeUntrusted, errNoTLS.Error()
	case errors.Is(err, errTooMuch):
		e.Reason = errTooMuch.Error()
	case errors.Is(err, errForeign):
		e.Reason = errForeign.Error()
	case errors.Is(err, errRole):
		e.Reason = errRole.Error()
	default:
		if reason := untrusted(err); reason != "" {
			e.Code, e.Reason = CodeUntrusted, reason
		} else if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
			e.Code, e.Reason = t.refusal(pg)
		} else {
			e.Reason = unreachable(err)
		}
	}
	e.Reason = Line(t.scrub(e.Reason))
	return e
}

// untrusted says what is wrong with a server's certificate, "" if err is not
// about it.
func untrusted(err error) string {
	if u, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		if u.Cert != nil {
			return fmt.Sprintf("its certificate is signed by %q, which no authority given vouches for", u.Cert.Issuer.String())
		}
		return "its certificate is signed by an unknown authority"
	}
	if h, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Sprintf("its certificate is for [%s], not for %s", strings.Join(names(h.Certificate), ", "), h.Host)
	}
	if i, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return "its certificate is not valid: " + strings.TrimPrefix(i.Error(), "x509: ")
	}
	if v, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate cannot be verified: " + v.Err.Error()
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "it breaks off TLS: what it sends is not TLS"
	}
	if a, ok := errors.AsType[tls.AlertError](err); ok {
		return "it refuses TLS: " + strings.TrimPrefix(a.Error(), "tls: ")
	}
	if o, ok := errors.AsType[*handshakeError](err); ok {
		return "TLS cannot be agreed on: " + strings.TrimPrefix(o.err.Error(), "tls: ")
	}
	return ""
}

func names(c *x509.Certificate) []string {
	if c == nil {
		return nil
	}
	out := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}

// refusal explains what a server said while a session began or ran (PostgreSQL
// documentation, appendix A).
func (t *Target) refusal(pg *pgconn.PgError) (code, reason string) {
	switch {
	case pg.Code == "28P01":
		reason = "the password is wrong"
	case pg.Code == "28000":
		reason = "the server's pg_hba.conf does not let this user in from here, or the role does not exist"
	case pg.Code == "3D000":
		reason = "the database does not exist"
	case pg.Code == "53300":
		reason = "too many connections: all that the server or the role may have are in use"
	case strings.HasPrefix(pg.Code, "57P"):
		return CodeUnreachable, t.quote("the server is starting or shutting down", pg)
	case pg.Code == "42704" || pg.Code == "22023":
		return CodeURL, t.quote("the server refuses an option of the URL", pg)
	default:
		reason = "the server refuses the session"
	}
	return CodeLogin, t.quote(reason, pg)
}

// quote adds the server's own words.
func (t *Target) quote(reason string, pg *pgconn.PgError) string {
	return fmt.Sprintf("%s (server: %s)", reason, t.words(pg))
}

// maxLine bounds a line that shows what comes from outside.
const maxLine = 500

// Line makes one line of bounded length of a text from outside: control
// characters, which move a terminal's cursor, become spaces.
func Line(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > maxLine {
		s = string(r[:maxLine]) + "…"
	}
	return s
}

// words are a server's own, on one line. A message that holds the password is
// left out: a hostile server has it where the login sends it in the clear.
func (t *Target) words(pg *pgconn.PgError) string {
	s := Line(pg.Message)
	if t.holdsSecret(pg.Message) {
		s = "left out: it holds the password"
	}
	if len(pg.Code) == 5 && strings.Trim(pg.Code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" && !t.holdsSecret(pg.Code) {
		s += ", SQLSTATE " + pg.Code
	}
	return s
}

// holdsSecret reports whether s holds the URL or the password in a shape in
// which it is written anywhere.
func (t *Target) holdsSecret(s string) bool {
	s = strings.ToLower(s)
	if strings.Contains(s, strings.ToLower(t.raw)) {
		return true
	}
	for _, secret := range t.secrets {
		if secret == "" {
			continue
		}
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), strings.Trim(fmt.Sprintf("%q", secret), `"`)} {
			if strings.Contains(s, strings.ToLower(form)) {
				return true
			}
		}
	}
	return false
}

// scrub is the last line of defence for text whose parts are ours.
func (t *Target) scrub(s string) string {
	s = strings.ReplaceAll(s, t.raw, "[url]")
	for _, secret := range t.secrets {
		if len(secret) >= minScrub {
			s = strings.ReplaceAll(s, secret, "[password]")
		}
	}
	return s
}

// minScrub is the shortest password that is cut out of our own words: a shorter
// one is part of any text, and then shows nothing.
const minScrub = 6

// unreachable says in a few words why there is no session.
func unreachable(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case dns.IsNotFound:
			return "no such host: the name does not exist"
		case dns.IsTimeout:
			return "the name server does not answer"
		}
		return "the name cannot be resolved"
	}
	if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "timeout: packets are dropped on the way, or the server does not answer"
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused: nothing listens there, or a firewall rejects"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to the host"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed from the other side"
	}
	if _, ok := errors.AsType[*pgproto3.ExceededMaxBodyLenErr](err); ok {
		return errForeign.Error()
	}
	return "no session: the connection was lost, or what listens there does not speak PostgreSQL"
}

// Foreign is the error of a server whose answer no PostgreSQL gives.
func (t *Target) Foreign(h Host) error { return t.explain(h, errForeign) }
