// Package otlp is the probe otlp.export: does a collector take spans over OTLP
// gRPC.
package otlp

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/dial"
	"github.com/airlock-project/airlock/install/internal/rpc"
	"github.com/airlock-project/airlock/install/internal/web"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
)

// Codes.
const (
	codeHTTPOnly    = "TEL-01"
	codeScheme      = "TEL-02"
	codeUnreachable = "TEL-03"
	codeRefused     = "TEL-04"
)

const (
	grpcPort = "4317"
	httpPort = "4318"
	// maxReply bounds an answer over HTTP.
	maxReply = 64 << 10
)

// Probe is otlp.export. Its zero value is ready and safe for concurrent use.
type Probe struct{}

// arguments are the step's with.
type arguments struct {
	Endpoint string `json:"endpoint"` // http://host:4317 or https://…, as OTEL_EXPORTER_OTLP_ENDPOINT has it
	CA       string `json:"ca"`       // PEM file; without it the system's authorities count
	Service  string `json:"service"`  // name of the span's service
	Timeout  string `json:"timeout"`
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{
		codeHTTPOnly:    {"endpoint", "host", "port", "reason"},
		codeScheme:      {"endpoint", "reason"},
		codeUnreachable: {"endpoint", "host", "port", "reason"},
		codeRefused:     {"endpoint", "host", "port", "reason"},
	}
}

// export is one look at a collector.
type export struct {
	arguments
	at   dial.Endpoint
	wait time.Duration
	tls  *tls.Config // nil: plain
}

// Run exports one span, which is the only trace the probe leaves. Where that
// does not work it looks whether the collector speaks OTLP over HTTP only.
func (Probe) Run(ctx context.Context, in install.Input) (install.Result, error) {
	a := arguments{Service: "airlock-probe"}
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	e, finding, err := prepare(a)
	if err != nil {
		return install.Result{}, err
	}
	if finding != nil {
		return install.Result{Findings: []install.Finding{*finding}}, nil
	}
	conn, err := dial.TCP(ctx, e.at.Address(), e.wait)
	if ctx.Err() != nil {
		return install.Result{}, ctx.Err()
	}
	if err != nil {
		return e.unreachable(ctx, dial.Reason(err)), nil
	}
	_ = conn.Close() // it only shows that the port is open
	err = e.send(ctx)
	if ctx.Err() != nil {
		return install.Result{}, ctx.Err()
	}
	if err == nil {
		return install.Result{}, nil
	}
	if no, ok := errors.AsType[*rejectedError](err); ok {
		return e.finding(codeRefused, no.reason), nil
	}
	if e.overHTTP(ctx, e.at.Port) {
		return e.finding(codeHTTPOnly, "it speaks OTLP over HTTP, not gRPC"), nil
	}
	return e.finding(codeRefused, rpc.Reason(err)), nil
}

// prepare checks the endpoint as the exporters of OpenTelemetry read it: without
// a scheme they take the host for one.
func prepare(a arguments) (*export, *install.Finding, error) {
	wait, err := dial.Timeout(a.Timeout)
	if err != nil {
		return nil, nil, err
	}
	e := &export{arguments: a, wait: wait}
	why := ""
	u, err := url.Parse(a.Endpoint)
	switch {
	case a.Endpoint == "":
		why = "no endpoint is given"
	case !strings.Contains(a.Endpoint, "://"):
		why = "it has no scheme"
	case err != nil || u.Scheme != "http" && u.Scheme != "https":
		why = "its scheme is neither http nor https"
	case u.User != nil:
		why, e.Endpoint = "it holds a user or a password", "(withheld)"
	}
	if why == "" {
		if e.at, err = dial.Parse(a.Endpoint, grpcPort); err != nil {
			why = err.Error()
		}
	}
	if why != "" {
		return nil, &install.Finding{Code: codeScheme, Detail: fmt.Sprintf("endpoint: %s", why), Fields: map[string]string{"endpoint": e.Endpoint, "reason": why}}, nil
	}
	roots, err := dial.Pool(a.CA)
	if err != nil {
		return nil, nil, fmt.Errorf("ca: %w", err)
	}
	if e.at.Scheme == "https" {
		e.tls = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	}
	return e, nil, nil
}

func (e *export) finding(code, reason string) install.Result {
	return install.Result{Findings: []install.Finding{{
		Code: code, Detail: e.at.Address() + ": " + reason,
		Fields: map[string]string{"endpoint": e.Endpoint, "host": e.at.Host, "port": e.at.Port, "reason": reason},
	}}}
}

// unreachable looks for a collector on the port of OTLP over HTTP.
func (e *export) unreachable(ctx context.Context, reason string) install.Result {
	if e.at.Port != httpPort && e.overHTTP(ctx, httpPort) {
		return e.finding(codeHTTPOnly, "only port "+httpPort+" answers, over HTTP")
	}
	return e.finding(codeUnreachable, reason)
}

// rejectedError is an answer of OTLP that is no.
type rejectedError struct{ reason string }

func (e *rejectedError) Error() string { return e.reason }

// send exports the span.
func (e *export) send(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.wait)
	defer cancel()
	conn, err := rpc.Channel(e.at.Address(), e.tls, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	reply, err := collector.NewTraceServiceClient(conn).Export(ctx, span(e.Service))
	if err != nil {
		return err
	}
	if part := reply.GetPartialSuccess(); part.GetRejectedSpans() > 0 {
		return &rejectedError{"the span is rejected: " + part.GetErrorMessage()}
	}
	return nil
}

// span is a request with one span that ends as it begins.
func span(service string) *collector.ExportTraceServiceRequest {
	id := make([]byte, 24)
	_, _ = rand.Read(id) // it never fails (crypto/rand)
	now := uint64(time.Now().UnixNano())
	name := &common.KeyValue{Key: "service.name", Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: service}}}
	return &collector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{
		Resource: &resource.Resource{Attributes: []*common.KeyValue{name}},
		ScopeSpans: []*trace.ScopeSpans{{Spans: []*trace.Span{{
			TraceId: id[:16], SpanId: id[16:], Name: "probe", Kind: trace.Span_SPAN_KIND_INTERNAL, StartTimeUnixNano: now, EndTimeUnixNano: now,
		}}}},
	}}}
}

// overHTTP reports whether the port takes an empty export over HTTP. A receiver
// of traces answers 200 to it; whatever else answers HTTP does not.
func (e *export) overHTTP(ctx context.Context, port string) bool {
	at := e.at
	at.Port = port
	scheme := "http"
	client := web.Client(nil, e.wait)
	if e.tls != nil {
		scheme = "https"
		client = web.Client(e.tls.RootCAs, e.wait)
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+at.Address()+"/v1/traces", bytes.NewReader([]byte("{}")))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := web.Do(client, req, maxReply)
	return err == nil && resp.Code == http.StatusOK
}
