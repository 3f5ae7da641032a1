package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// maxPEM bounds a file of certificates; a bundle of all public authorities
	// has 250 KiB.
	maxPEM = 1 << 20
	// maxMessage bounds one message of the server, maxRead what it may send in
	// one session: what is asked for fits into a small part of it.
	maxMessage = 1 << 20
	maxRead    = 16 << 20
	// sslRequest asks for TLS (PostgreSQL documentation, section 55.2.10).
	sslRequest = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
)

// attributes are the values of target_session_attrs.
var attributes = map[string]pgconn.ValidateConnectFunc{
	"read-write":     pgconn.ValidateConnectTargetSessionAttrsReadWrite,
	"read-only":      pgconn.ValidateConnectTargetSessionAttrsReadOnly,
	"primary":        pgconn.ValidateConnectTargetSessionAttrsPrimary,
	"standby":        pgconn.ValidateConnectTargetSessionAttrsStandby,
	"prefer-standby": pgconn.ValidateConnectTargetSessionAttrsPreferStandby,
}

// base is a connection string that sets what the driver would else take from
// the environment and from files in the home directory: what is checked is the
// URL that the product gets, not the session of whoever checks it.
const base = "host=localhost port=5432 user=x database=x password='' passfile='' sslmode=disable sslrootcert='' sslcert='' sslkey='' " +
	"sslcertmode=disable sslpassword='' sslsni=1 sslnegotiation=postgres connect_timeout=0 target_session_attrs=any " +
	"min_protocol_version=3.0 max_protocol_version=3.0 channel_binding=prefer require_auth=''"

// Connect begins a session on the first host that gives one, with TLS as
// sslmode asks. ca is a PEM file of the authorities that count; without it
// sslrootcert, and then the system's. Each host has wait to answer. The error is
// an *Error, or that of ctx.
func (t *Target) Connect(ctx context.Context, ca string, wait time.Duration) (*Conn, error) {
	var last error
	for _, h := range t.Hosts {
		c, err := t.one(ctx, h, ca, wait)
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		last = err
	}
	return nil, last
}

func (t *Target) one(ctx context.Context, h Host, ca string, wait time.Duration) (*Conn, error) {
	security, err := t.tlsConfig(h, ca)
	if err != nil {
		return nil, &Error{Code: CodeUntrusted, Host: h, Reason: t.scrub(err.Error()), target: t}
	}
	cfg, err := pgconn.ParseConfig(base)
	if err != nil { // base sets everything but the service
		return nil, fmt.Errorf("prepare connection: unset the environment variable PGSERVICE: %w", err)
	}
	port, err := strconv.ParseUint(h.Port, 10, 16)
	if err != nil {
		return nil, badURL("the port is not a number from 1 to 65535")
	}
	cfg.Host, cfg.Port, cfg.User, cfg.Password, cfg.Database = h.Name, uint16(port), t.User, t.password, t.Database
	cfg.RuntimeParams, cfg.Fallbacks, cfg.TLSConfig = t.params, nil, nil
	if valid := attributes[t.attrs]; valid != nil {
		cfg.ValidateConnect = func(ctx context.Context, pg *pgconn.PgConn) error {
			if err := valid(ctx, pg); err != nil {
				return errRole
			}
			return nil
		}
	}
	cfg.MaxProtocolMessageBodyLen = maxMessage
	// The dialer resolves names itself.
	cfg.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	c := &Conn{Host: h, Target: t}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { c.notice = t.words((*pgconn.PgError)(n)) }
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		return c.dial(ctx, network, address, security)
	}
	attempt, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if c.pg, err = pgconn.ConnectConfig(attempt, cfg); err != nil {
		if errors.Is(attempt.Err(), context.DeadlineExceeded) {
			err = attempt.Err()
		}
		return nil, t.explain(h, err)
	}
	return c, nil
}

// dial makes the connection that the driver talks over. TLS is negotiated here,
// so that each way in which it fails has an error of its own.
func (c *Conn) dial(ctx context.Context, network, address string, security *tls.Config) (net.Conn, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := net.Conn(&limited{Conn: raw, left: maxRead})
	if security == nil {
		return conn, nil
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	secured, err := c.secure(ctx, conn, security)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return secured, nil
}

// secure asks for TLS and makes the handshake.
func (c *Conn) secure(ctx context.Context, conn net.Conn, security *tls.Config) (net.Conn, error) {
	if !c.Target.direct {
		if _, err := io.WriteString(conn, sslRequest); err != nil {
			return nil, err
		}
		// One byte exactly: what a man in the middle adds before the handshake is
		// never read as a part of the session (CVE-2021-23222).
		var answer [1]byte
		if _, err := io.ReadFull(conn, answer[:]); err != nil {
			return nil, err
		}
		switch {
		case answer[0] == 'S':
		case answer[0] == 'N' && (c.Target.Mode == sslPrefer || c.Target.Mode == sslAllow):
			return conn, nil
		case answer[0] == 'N':
			return nil, errNoTLS
		default:
			return nil, errForeign
		}
	}
	secured := tls.Client(conn, security)
	if err := secured.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &handshakeError{err}
	}
	state := secured.ConnectionState()
	c.TLS = &state
	return secured, nil
}

type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// limited is a connection that ends when more was read than a database sends.
type limited struct {
	net.Conn
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooMuch
	}
	n, err := l.Conn.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// tlsConfig says how sslmode wants the server checked; nil is no TLS.
func (t *Target) tlsConfig(h Host, ca string) (*tls.Config, error) {
	if t.Mode == sslDisable {
		return nil, nil
	}
	c := &tls.Config{ServerName: h.Name, MinVersion: tls.VersionTLS12}
	if t.direct {
		c.NextProtos = []string{"postgresql"}
	}
	if err := t.clientCertificate(c); err != nil {
		return nil, err
	}
	mode, file := t.Mode, ca
	if file == "" {
		file = t.rootCert
	}
	switch {
	case t.rootCert == "system":
		// As libpq: only the whole check makes sense with public authorities.
		mode = sslVerifyFull
		if ca == "" {
			file = ""
		}
	case mode == sslRequire && file != "":
		mode = sslVerifyCA // as libpq
	}
	if mode != sslVerifyCA && mode != sslVerifyFull {
		c.InsecureSkipVerify = true // sslmode asks for a cipher, not for identity
		return c, nil
	}
	if file != "" {
		pem, err := readPEM(file)
		if err != nil {
			return nil, fmt.Errorf("the authority that its certificate is checked against cannot be read: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", file)
		}
	}
	if mode == sslVerifyCA {
		c.InsecureSkipVerify = true
		c.VerifyConnection = chainOnly(c.RootCAs)
	}
	return c, nil
}

// chainOnly checks the chain and not the name, which is what verify-ca means.
func chainOnly(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		between := x509.NewCertPool()
		for _, c := range s.PeerCertificates[1:] {
			between.AddCert(c)
		}
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
		return err
	}
}

func (t *Target) clientCertificate(c *tls.Config) error {
	if t.cert == "" || t.key == "" {
		return nil
	}
	cert, err := readPEM(t.cert)
	if err != nil {
		return fmt.Errorf("sslcert cannot be read: %w", err)
	}
	key, err := readPEM(t.key)
	if err != nil {
		return fmt.Errorf("sslkey cannot be read: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("sslcert and sslkey cannot be used: %w", err)
	}
	c.Certificates = []tls.Certificate{pair}
	return nil
}

func readPEM(name string) ([]byte, error) {
	f, err := regular.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxPEM {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxPEM)
	}
	return data, nil
}

// Environment tells PostgreSQL's own programs how to connect to h as Connect
// does. It holds the password: it is for the environment of a child, which only
// the same user can read, and never for its arguments, which everybody can.
func (t *Target) Environment(h Host, ca string) []string {
	if ca == "" {
		ca = t.rootCert
	}
	env := []string{"PGHOST=" + h.Name, "PGPORT=" + h.Port, "PGUSER=" + t.User, "PGDATABASE=" + t.Database, "PGSSLMODE=" + t.Mode, "PGAPPNAME=airlock"}
	for name, v := range map[string]string{"PGPASSWORD": t.password, "PGSSLROOTCERT": ca, "PGSSLCERT": t.cert, "PGSSLKEY": t.key} {
		if v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// Clean returns what a child wrote for people: on one line, bounded, and
// nothing at all if it holds the password.
func (t *Target) Clean(s string) string {
	return t.words(&pgconn.PgError{Message: strings.Join(strings.Fields(s), " ")})
}
