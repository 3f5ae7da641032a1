// Package tcp is the probe tcp.dial: can a TCP connection be made, and if not,
// is it the name, a firewall or the service.
package tcp

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/dial"
)

// Codes. The checklist may report an endpoint that does not answer under another
// code, with code:.
const (
	codeUnreachable = "NET-01"
	codeNone        = "NET-02"
)

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
	a := arguments{Code: codeUnreachable}
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	wait, err := dial.Timeout(a.Timeout)
	if err != nil {
		return install.Result{}, err
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
		err = connect(ctx, endpoint, wait)
		if ctx.Err() != nil {
			return res, ctx.Err()
		}
		if err == nil {
			continue
		}
		res.Findings = append(res.Findings, install.Finding{
			Code: a.Code, Detail: err.Error(),
			Fields: map[string]string{"endpoint": endpoint, "host": host, "port": port, "reason": dial.Reason(err)},
		})
	}
	return res, nil
}

func connect(ctx context.Context, endpoint string, wait time.Duration) error {
	conn, err := dial.TCP(ctx, endpoint, wait)
	if err != nil {
		return err
	}
	// Nothing was sent: what closing says does not matter.
	_ = conn.Close()
	return nil
}
