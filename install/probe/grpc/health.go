// Package grpc is the probe grpc.health: does a service answer over gRPC, and
// does it say that it serves (grpc.health.v1, the gRPC health checking protocol).
package grpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/dial"
	"github.com/airlock-project/airlock/install/internal/rpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Codes.
const (
	codeUnreachable = "GRPC-01"
	codeTrust       = "GRPC-02"
	codeOther       = "GRPC-03"
)

// Health is grpc.health. Its zero value is ready and safe for concurrent use.
type Health struct {
	// Dial makes the connection; nil is TCP.
	Dial rpc.Dialer
}

// arguments are the step's with.
type arguments struct {
	Endpoint string            `json:"endpoint"` // host:port; always TLS
	Service  string            `json:"service"`  // "" is the server as a whole
	CA       string            `json:"ca"`       // PEM file; without it the system's authorities count
	Timeout  string            `json:"timeout"`
	Codes    map[string]string `json:"codes"` // GRPC-01: own
}

// Codes implements install.Coder.
func (Health) Codes() map[string][]string {
	fields := []string{"endpoint", "host", "port", "reason"}
	return map[string][]string{codeUnreachable: fields, codeTrust: fields, codeOther: fields}
}

// Run connects, starts TLS with HTTP/2, and asks for the service's health. One
// that speaks gRPC and knows no health service is reported for information.
func (p Health) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a arguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	wait, err := dial.Timeout(a.Timeout)
	if err != nil {
		return install.Result{}, err
	}
	at, err := dial.Parse(a.Endpoint, "443")
	if err != nil {
		return install.Result{}, fmt.Errorf("endpoint %q: %w", a.Endpoint, err)
	}
	roots, err := dial.Pool(a.CA)
	if err != nil {
		return install.Result{}, fmt.Errorf("ca: %w", err)
	}
	l := look{at: at, wait: wait, tls: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, NextProtos: []string{"h2"}}, dial: p.Dial}
	if l.dial == nil {
		l.dial = func(ctx context.Context, address string) (net.Conn, error) { return dial.TCP(ctx, address, wait) }
	}
	code, reason, err := l.all(ctx, a.Service)
	if ctx.Err() != nil {
		return install.Result{}, ctx.Err()
	}
	if err != nil || reason == "" {
		return install.Result{}, err
	}
	f := install.Finding{Code: code, Detail: at.Address() + ": " + reason}
	if code == "" {
		f.Severity = install.SeverityInfo
		return install.Result{Findings: []install.Finding{f}}, nil
	}
	f.Fields = map[string]string{"endpoint": at.Address(), "host": at.Host, "port": at.Port, "reason": reason}
	if own := a.Codes[code]; own != "" {
		f.Code = own
	}
	return install.Result{Findings: []install.Finding{f}}, nil
}

// look is one look at a service.
type look struct {
	at   dial.Endpoint
	wait time.Duration
	tls  *tls.Config
	dial rpc.Dialer
}

// all returns what is wrong, under its code; a reason without a code is only worth
// knowing.
func (l look) all(ctx context.Context, service string) (code, reason string, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.wait)
	defer cancel()
	conn, err := l.dial(ctx, l.at.Address())
	if err != nil {
		return codeUnreachable, dial.Reason(err), nil
	}
	defer conn.Close()
	if code, reason := l.handshake(ctx, conn); code != "" {
		return code, reason, nil
	}
	return l.ask(ctx, service)
}

// handshake says what keeps a client of gRPC from the service before its first
// word.
func (l look) handshake(ctx context.Context, conn net.Conn) (code, reason string) {
	cfg := l.tls.Clone()
	cfg.ServerName = l.at.Host // for a channel it is the authority's
	c := tls.Client(conn, cfg)
	err := c.HandshakeContext(ctx)
	if no, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return codeTrust, strings.TrimPrefix(no.Err.Error(), "x509: ")
	}
	switch {
	case err != nil && strings.Contains(err.Error(), "no application protocol"), err == nil && c.ConnectionState().NegotiatedProtocol != "h2":
		return codeOther, "it speaks TLS, and no HTTP/2 over it"
	case err != nil:
		return codeOther, dial.NotTLS(err)
	}
	return "", ""
}

// ask asks for the health over a connection of its own.
func (l look) ask(ctx context.Context, service string) (code, reason string, err error) {
	conn, err := rpc.Channel(l.at.Address(), l.tls, l.dial)
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	var header, trailer metadata.MD
	reply, err := health.NewHealthClient(conn).Check(ctx, &health.HealthCheckRequest{Service: service}, grpc.Header(&header), grpc.Trailer(&trailer))
	switch {
	case err == nil && reply.GetStatus() == health.HealthCheckResponse_SERVING:
		return "", "", nil
	case err == nil:
		return codeOther, "it speaks gRPC and says " + reply.GetStatus().String(), nil
	case status.Code(err) == codes.Unimplemented && (spoken(header) || spoken(trailer)):
		return "", "it speaks gRPC, and has no health service", nil
	}
	return codeOther, rpc.Reason(err), nil
}

// spoken says whether an answer came from a server of gRPC: one of HTTP that knows
// no such page is "unimplemented" for a client, too.
func spoken(md metadata.MD) bool {
	return slices.ContainsFunc(md.Get("content-type"), func(s string) bool { return strings.HasPrefix(s, "application/grpc") })
}
