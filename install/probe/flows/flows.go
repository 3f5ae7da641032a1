// Package flows is the probe net.flows: can each party of an installation reach
// what it needs, up to the first words of the protocol, and is what must not be
// reached out of reach.
package flows

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/dial"
	"golang.org/x/sync/errgroup"
)

// Codes. NET-03 is kept for a flow that a host has and the cluster has not.
const (
	codeUnreachable = "NET-01"
	codeIntercepted = "NET-02"
	codeNone        = "NET-04"
	codeWayOut      = "NET-05"
	codeHello       = "NET-06"
)

const (
	// maxFlows bounds a matrix; a real one has some thirty.
	maxFlows = 500
	// parallel is how many flows are tried at once: with dropped packets each
	// takes its whole time.
	parallel = 16
	vantage  = "host"
)

// Verdicts of a flow.
const (
	verdictOpen    = "open"
	verdictBlocked = "blocked"
	verdictBad     = "bad"       // it connects, and what answers is not what was wanted
	verdictGiven   = "not given" // the site names no endpoint
)

// Probe is net.flows. Its zero value is ready and safe for concurrent use.
type Probe struct{}

// flow is one line of the matrix.
type flow struct {
	From      string `json:"from"`
	To        string `json:"to"`
	Endpoint  string `json:"endpoint"`  // host:port or a URL; what a URL holds beside host, port and path is not used
	Protocol  string `json:"protocol"`  // tcp (default), tls, http, https, postgres, mqtt, mqtts; a URL's scheme is the default
	CA        string `json:"ca"`        // PEM file; default: the step's
	Name      string `json:"name"`      // server name; default: the endpoint's host
	Untrusted bool   `json:"untrusted"` // the chain need not be trusted

	roots *x509.CertPool
}

// arguments are the step's with.
type arguments struct {
	Flows     []flow   `json:"flows"`
	More      []flow   `json:"more"`      // after Flows
	Endpoints []string `json:"endpoints"` // host:port each: more flows, with nothing but a connection
	Deny      []string `json:"deny"`      // host:port each: must not be reachable
	CA        string   `json:"ca"`        // PEM file; without it the system's authorities count
	Timeout   string   `json:"timeout"`   // of each step of a flow
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{
		codeUnreachable: {"from", "to", "endpoint", "host", "port", "reason"},
		codeIntercepted: {"from", "to", "endpoint", "host", "port", "issuer", "reason"},
		codeHello:       {"from", "to", "endpoint", "host", "port", "reason"},
		codeWayOut:      {"endpoint", "reason"},
		codeNone:        {},
	}
}

// verdict is what became of a flow.
type verdict struct {
	From     string `json:"from"`
	To       string `json:"to"`
	Endpoint string `json:"endpoint"`
	Protocol string `json:"protocol"`
	Vantage  string `json:"vantage"`
	Verdict  string `json:"verdict"`
	Step     string `json:"step,omitempty"` // that did not work: dial, tls, hello
	Reason   string `json:"reason,omitempty"`

	code   string
	issuer string
	took   time.Duration
	at     dial.Endpoint
}

// Run tries every flow. Its output network.flows lists a verdict for each, in
// order; how long each took is evidence only, so that the output is the same
// while nothing changes.
func (Probe) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a arguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	wait, err := dial.Timeout(a.Timeout)
	if err != nil {
		return install.Result{}, err
	}
	a.Flows = append(a.Flows, a.More...)
	for _, e := range a.Endpoints {
		a.Flows = append(a.Flows, flow{From: "this machine", To: e, Endpoint: e, Protocol: "tcp"})
	}
	if n := len(a.Flows) + len(a.Deny); n > maxFlows {
		return install.Result{}, fmt.Errorf("%d flows are given; at most %d are tried", n, maxFlows)
	}
	verdicts, wayOut, err := a.try(ctx, wait)
	if err != nil {
		return install.Result{}, err
	}
	return report(verdicts, wayOut)
}

// try runs everything at once, within bounds.
func (a arguments) try(ctx context.Context, wait time.Duration) ([]verdict, []install.Finding, error) {
	verdicts, denied := make([]verdict, len(a.Flows)), make([]*install.Finding, len(a.Deny))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, f := range a.Flows {
		if f.CA == "" {
			f.CA = a.CA
		}
		g.Go(func() (err error) {
			verdicts[i], err = f.try(ctx, wait)
			return err
		})
	}
	for i, target := range a.Deny {
		g.Go(func() (err error) {
			denied[i], err = deny(ctx, target, wait)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	var wayOut []install.Finding
	for _, f := range denied {
		if f != nil {
			wayOut = append(wayOut, *f)
		}
	}
	return verdicts, wayOut, nil
}

// deny finds that target, which must not be reachable, is. That a name cannot be
// resolved or nothing comes back is what is wanted; a refusal came from somewhere.
func deny(ctx context.Context, target string, wait time.Duration) (*install.Finding, error) {
	at, err := dial.Parse(target, "443")
	if err != nil {
		return nil, fmt.Errorf("deny: %q: %w", target, err)
	}
	conn, err := dial.TCP(ctx, at.Address(), wait)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	f := &install.Finding{Code: codeWayOut, Fields: map[string]string{"endpoint": at.Address()}}
	switch {
	case err == nil:
		_ = conn.Close() // nothing was sent
		f.Fields["reason"] = "a connection is made"
	case refused(err):
		f.Severity = install.SeverityWarn
		f.Fields["reason"] = "the connection is refused: by a firewall here, or by the other end, which would mean a route"
	default:
		return nil, nil //nolint:nilerr // out of reach, as it should be
	}
	f.Detail = at.Address() + ": " + f.Fields["reason"]
	return f, nil
}

// report turns verdicts into findings, the output and evidence.
func report(verdicts []verdict, wayOut []install.Finding) (install.Result, error) {
	res := install.Result{Findings: wayOut}
	given := 0
	var log bytes.Buffer
	for _, v := range verdicts {
		fmt.Fprintf(&log, "%s -> %s %s (%s): %s %s %s, %s\n", v.From, v.To, v.Endpoint, v.Protocol, v.Verdict, v.Step, v.Reason, v.took.Round(time.Microsecond))
		if v.Verdict != verdictGiven {
			given++
		}
		if v.code == "" {
			continue
		}
		fields := map[string]string{"from": v.From, "to": v.To, "endpoint": v.Endpoint, "host": v.at.Host, "port": v.at.Port, "reason": v.Reason}
		if v.code == codeIntercepted {
			fields["issuer"] = v.issuer
		}
		res.Findings = append(res.Findings, install.Finding{
			Code: v.code, Fields: fields, Detail: fmt.Sprintf("%s to %s, %s, at step %s: %s", v.From, v.To, v.Endpoint, v.Step, v.Reason),
		})
	}
	if given == 0 {
		res.Findings = append(res.Findings, install.Finding{Code: codeNone, Detail: "no flow has an endpoint"})
	}
	list, err := plain(verdicts)
	if err != nil {
		return res, err
	}
	res.Outputs = map[string]any{"network.flows": list}
	res.Evidence = []install.Evidence{{Name: "flows", Media: "text/plain", Data: log.Bytes()}}
	return res, nil
}

// plain makes outputs of verdicts.
func plain(verdicts []verdict) ([]any, error) {
	raw, err := json.Marshal(verdicts)
	if err != nil {
		return nil, fmt.Errorf("encode flows: %w", err)
	}
	out := []any{}
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("decode flows: %w", err)
	}
	return out, nil
}
