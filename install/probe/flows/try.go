package flows

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/airlock-project/airlock/install/internal/dial"
	"github.com/airlock-project/airlock/install/internal/hello"
)

// Steps of a flow.
const (
	stepDial  = "dial"
	stepTLS   = "tls"
	stepHello = "hello"
)

// protocol says what a flow does once it is connected.
type protocol struct {
	port  string // where none is given
	tls   bool   // from the first byte on
	hello func(ctx context.Context, f flow, at dial.Endpoint, conn net.Conn) error
}

var protocols = map[string]protocol{
	"tcp":      {},
	"tls":      {port: "443", tls: true},
	"http":     {port: "80", hello: helloHTTP},
	"https":    {port: "443", tls: true, hello: helloHTTP},
	"postgres": {port: "5432", hello: helloPostgres},
	"mqtt":     {port: "1883", hello: helloMQTT},
	"mqtts":    {port: "8883", tls: true, hello: helloMQTT},
}

// aliases are schemes that mean a protocol.
var aliases = map[string]string{"postgresql": "postgres"}

// trustError says that a chain is not one that the site trusts.
type trustError struct{ fault dial.Fault }

func (e *trustError) Error() string { return e.fault.Reason }

// named finds the protocol of a flow. The error names no endpoint: it may hold a
// password.
func (f *flow) named() (protocol, error) {
	if f.Protocol == "" {
		if scheme, _, ok := strings.Cut(f.Endpoint, "://"); ok {
			f.Protocol = scheme
		}
	}
	if to := aliases[f.Protocol]; to != "" {
		f.Protocol = to
	}
	if f.Protocol == "" {
		f.Protocol = "tcp"
	}
	p, ok := protocols[f.Protocol]
	if !ok {
		return p, fmt.Errorf("flow from %s to %s: protocol %q is not one of tcp, tls, http, https, postgres, mqtt, mqtts", f.From, f.To, f.Protocol)
	}
	return p, nil
}

// try walks one flow up to the step that does not work. An error means that the
// flow could not be tried at all.
func (f flow) try(ctx context.Context, wait time.Duration) (verdict, error) {
	p, err := f.named()
	if err != nil {
		return verdict{}, err
	}
	v := verdict{From: f.From, To: f.To, Protocol: f.Protocol, Vantage: vantage, Verdict: verdictGiven}
	if f.Endpoint == "" {
		return v, nil
	}
	if v.at, err = dial.Parse(f.Endpoint, p.port); err != nil {
		return v, fmt.Errorf("flow from %s to %s: endpoint: %w", f.From, f.To, err)
	}
	v.Endpoint = v.at.Address()
	if f.roots, err = dial.Pool(f.CA); err != nil {
		return v, fmt.Errorf("flow from %s to %s: ca: %w", f.From, f.To, err)
	}
	start := time.Now()
	step, err := f.walk(ctx, v.at, p, wait)
	v.took = time.Since(start)
	if ctx.Err() != nil {
		return v, ctx.Err()
	}
	v.judge(step, err)
	return v, nil
}

func (v *verdict) judge(step string, err error) {
	if err == nil {
		v.Verdict = verdictOpen
		return
	}
	v.Step, v.Verdict, v.code, v.Reason = step, verdictBad, codeHello, err.Error()
	if step == stepDial {
		v.Verdict, v.code, v.Reason = verdictBlocked, codeUnreachable, dial.Reason(err)
	}
	if step == stepTLS {
		v.Reason = dial.NotTLS(err)
	}
	if t, ok := errors.AsType[*trustError](err); ok {
		v.code, v.issuer, v.Reason = codeIntercepted, t.fault.Issuer, t.fault.Reason
	}
}

// walk returns the step that does not work, and why.
func (f flow) walk(ctx context.Context, at dial.Endpoint, p protocol, wait time.Duration) (string, error) {
	conn, err := dial.TCP(ctx, at.Address(), wait)
	if err != nil {
		return stepDial, err
	}
	defer conn.Close()
	release, err := dial.Bound(ctx, conn, wait)
	if err != nil {
		return stepDial, err
	}
	defer release()
	if p.tls {
		if conn, err = f.secure(ctx, conn, at); err != nil {
			return stepTLS, err
		}
	}
	if p.hello == nil {
		return "", nil
	}
	return stepHello, p.hello(ctx, f, at, conn)
}

// secure starts TLS and wants a chain that the site trusts for the name.
func (f flow) secure(ctx context.Context, conn net.Conn, at dial.Endpoint) (net.Conn, error) {
	name := f.Name
	if name == "" {
		name = at.Host
	}
	sni := name
	if net.ParseIP(sni) != nil {
		sni = ""
	}
	secure, seen, err := dial.Handshake(ctx, conn, sni, tls.VersionTLS12, 0)
	if err != nil {
		return nil, err
	}
	if f.Untrusted {
		return secure, nil
	}
	for _, fault := range dial.Judge(seen.Chain, dial.Wish{Name: name, Roots: f.roots, Now: time.Now()}) {
		switch fault.What {
		case dial.FaultTrust:
			return nil, &trustError{fault}
		case dial.FaultName, dial.FaultExpires:
			return nil, fmt.Errorf("certificate of %s: %s", fault.Subject, fault.Reason)
		}
	}
	return secure, nil
}

func helloHTTP(ctx context.Context, _ flow, at dial.Endpoint, conn net.Conn) error {
	path := at.Path
	if path == "" {
		path = "/"
	}
	_, err := hello.HTTP(ctx, conn, at.Address(), path)
	return err
}

// helloMQTT leaves it to mqtt.dial whether a broker is too open.
func helloMQTT(_ context.Context, _ flow, _ dial.Endpoint, conn net.Conn) error {
	if err := hello.MQTT(conn); err != nil && !errors.Is(err, hello.ErrOpen) {
		return err
	}
	return nil
}

// helloPostgres goes up to TLS where the server offers it.
func helloPostgres(ctx context.Context, f flow, at dial.Endpoint, conn net.Conn) error {
	start, err := hello.Postgres(conn)
	if err != nil || !start {
		return err
	}
	_, err = f.secure(ctx, conn, at)
	return err
}

func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
