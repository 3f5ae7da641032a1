// Package tcp is the probe tcp.dial: can a TCP connection be made, and if not,
// is it the name, a firewall or the service.
package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/airlock-project/airlock/install"
)

// Codes. The checklist may report an endpoint that does not answer under another
// code, with code:.
const (
	codeUnreachable = "NET-01"
	codeNone        = "NET-02"
)

// defaultTimeout bounds one connection attempt: a dropped packet gives no
// answer at all.
const defaultTimeout = 5 * time.Second

// Probe is tcp.dial. Its zero value is ready and safe for concurrent use.
type Probe struct{}

// arguments are the step's with.
type arguments struct {
	Endpoints []string `json:"endpoints"` // host:port
	Endpoint  string   `json:"endpoint"`  // one more
	Timeout   string   `json:"timeout"`   // of each
	Code      string   `json:"code"`
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{codeUnreachable: {"endpoint", "host", "port", "reason"}, codeNone: {}}
}

// Run dials every endpoint and reports each that does not answer.
func (Probe) Run(ctx context.Context, in install.Input) (install.Result, error) {
	a := arguments{Code: codeUnreachable, Timeout: defaultTimeout.String()}
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	wait, err := time.ParseDuration(a.Timeout)
	if err != nil || wait <= 0 {
		return install.Result{}, fmt.Errorf("timeout %q is not a duration such as 5s", a.Timeout)
	}
	list := a.Endpoints
	if a.Endpoint != "" {
		list = append(list, a.Endpoint)
	}
	if len(list) == 0 {
		return install.Result{Findings: []install.Finding{{Code: codeNone, Detail: "no endpoint is given"}}}, nil
	}
	var res install.Result
	for _, endpoint := range list {
		host, port, err := net.SplitHostPort(endpoint)
		if err != nil {
			return res, fmt.Errorf("endpoint %q is not host:port", endpoint)
		}
		err = dial(ctx, endpoint, wait)
		if ctx.Err() != nil {
			return res, ctx.Err()
		}
		if err == nil {
			continue
		}
		res.Findings = append(res.Findings, install.Finding{
			Code: a.Code, Detail: err.Error(),
			Fields: map[string]string{"endpoint": endpoint, "host": host, "port": port, "reason": Reason(err)},
		})
	}
	return res, nil
}

func dial(ctx context.Context, endpoint string, wait time.Duration) error {
	d := net.Dialer{Timeout: wait}
	conn, err := d.DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return err
	}
	// Nothing was sent: what closing says does not matter.
	_ = conn.Close()
	return nil
}

// Reason says in a few words why a connection could not be made.
func Reason(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case dns.IsNotFound:
			return "the name does not exist: no such host"
		case dns.IsTimeout:
			return "the name server does not answer"
		}
		return "the name cannot be resolved"
	}
	if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "timeout: packets are dropped, by a firewall or a missing route"
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused: nothing listens there, or a firewall rejects"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to the host"
	case errors.Is(err, syscall.ECONNRESET):
		return "the connection was reset"
	}
	return "no connection"
}
