package otlp

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/pki"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// receiver is a collector.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	got   chan *collector.ExportTraceServiceRequest
	reply *collector.ExportTraceServiceResponse
	err   error
}

func (r *receiver) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	if r.got != nil {
		r.got <- req
	}
	return r.reply, r.err
}

func (r *receiver) start(t *testing.T, o ...grpc.ServerOption) string {
	t.Helper()
	if r.reply == nil {
		r.reply = &collector.ExportTraceServiceResponse{}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(o...)
	collector.RegisterTraceServiceServer(s, r)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func traces(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/traces" || r.Method != http.MethodPost {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(status)
	}
}

func TestExport(t *testing.T) {
	root := pki.New(t, "root")
	conf := &tls.Config{Certificates: []tls.Certificate{root.Server(t, []string{"127.0.0.1"})}}
	secure := grpc.Creds(credentials.NewTLS(conf))
	web := httptest.NewServer(traces(http.StatusOK))
	t.Cleanup(web.Close)
	other := httptest.NewServer(traces(http.StatusForbidden))
	t.Cleanup(other.Close)
	part := &collector.ExportTraceServiceResponse{PartialSuccess: &collector.ExportTracePartialSuccess{RejectedSpans: 1, ErrorMessage: "quota"}}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, c := range map[string]struct {
		endpoint string
		with     map[string]any
		code     string
		says     string
	}{
		"plain":        {"http://" + (&receiver{}).start(t), nil, "", ""},
		"TLS":          {"https://" + (&receiver{}).start(t, secure), nil, "", ""},
		"unknown CA":   {"https://" + (&receiver{}).start(t, secure), map[string]any{"ca": pki.New(t, "other").File(t)}, "TEL-04", "unknown authority"},
		"HTTP only":    {web.URL, nil, "TEL-01", "not gRPC"},
		"a web server": {other.URL, nil, "TEL-04", ""},
		"silent":       {"http://" + pki.Listen(t, nil, func(net.Conn) { <-t.Context().Done() }), map[string]any{"timeout": "100ms"}, "TEL-04", ""},
		"rejects":      {"http://" + (&receiver{reply: part}).start(t), nil, "TEL-04", "quota"},
		"wants login":  {"http://" + (&receiver{err: status.Error(codes.Unauthenticated, "no token")}).start(t), nil, "TEL-04", "no token"},
		"refused":      {"http://" + closed.Addr().String(), nil, "TEL-03", "refused"},
		"no name":      {"http://nothing.invalid:4317", map[string]any{"timeout": "20s"}, "TEL-03", "name"},
		"no scheme":    {"otel.site-a.example:4317", nil, "TEL-02", "no scheme"},
		"odd scheme":   {"grpc://otel.site-a.example:4317", nil, "TEL-02", "neither"},
		"password":     {"http://u:hunter2@otel.site-a.example", nil, "TEL-02", "password"},
		"none":         {"", nil, "TEL-02", "no endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			with := map[string]any{"endpoint": c.endpoint, "ca": root.File(t)}
			maps.Copy(with, c.with)
			res, err := Probe{}.Run(t.Context(), install.Input{With: with})
			if err != nil {
				t.Fatal(err)
			}
			if c.code == "" {
				if len(res.Findings) > 0 {
					t.Errorf("%+v", res.Findings)
				}
				return
			}
			if len(res.Findings) != 1 || res.Findings[0].Code != c.code || !strings.Contains(res.Findings[0].Detail, c.says) {
				t.Fatalf("%+v, want %s %q", res.Findings, c.code, c.says)
			}
			f := res.Findings[0]
			if got, want := slices.Sorted(maps.Keys(f.Fields)), slices.Sorted(slices.Values(Probe{}.Codes()[c.code])); !slices.Equal(got, want) {
				t.Errorf("fields %v, want %v", got, want)
			}
			if strings.Contains(f.Detail+f.Fields["endpoint"], "hunter2") {
				t.Error("a password shows")
			}
		})
	}
}

func TestSpan(t *testing.T) {
	r := &receiver{got: make(chan *collector.ExportTraceServiceRequest, 1)}
	if res, err := (Probe{}).Run(t.Context(), install.Input{With: map[string]any{"endpoint": "http://" + r.start(t), "service": "probe-of-site-a"}}); err != nil || len(res.Findings) > 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	got := (<-r.got).GetResourceSpans()
	if len(got) != 1 || got[0].GetResource().GetAttributes()[0].GetValue().GetStringValue() != "probe-of-site-a" {
		t.Fatalf("%v", got)
	}
	s := got[0].GetScopeSpans()[0].GetSpans()[0]
	if len(s.GetTraceId()) != 16 || len(s.GetSpanId()) != 8 || s.GetStartTimeUnixNano() == 0 {
		t.Errorf("%v", s)
	}
}

// TestHTTPPort finds a collector that listens for OTLP over HTTP only.
func TestHTTPPort(t *testing.T) {
	web := httptest.NewServer(traces(http.StatusOK))
	t.Cleanup(web.Close)
	_, port, err := net.SplitHostPort(web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	e, f, err := prepare(arguments{Endpoint: "http://127.0.0.1:4317"})
	if err != nil || f != nil {
		t.Fatal(f, err)
	}
	if !e.overHTTP(t.Context(), port) {
		t.Error("a collector over HTTP is not seen")
	}
	if other := httptest.NewServer(traces(http.StatusForbidden)); e.overHTTP(t.Context(), strings.TrimPrefix(other.URL, "http://127.0.0.1:")) {
		t.Error("a web server is taken for a collector")
	} else {
		other.Close()
	}
}

func TestCancelled(t *testing.T) {
	reached := make(chan struct{}, 2)
	at := pki.Listen(t, nil, func(net.Conn) { reached <- struct{}{}; <-t.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; <-reached; cancel() }()
	if _, err := (Probe{}).Run(ctx, install.Input{With: map[string]any{"endpoint": "http://" + at, "timeout": "10m"}}); err == nil {
		t.Error("the probe goes on after its context has ended")
	}
}

func TestArguments(t *testing.T) {
	for _, with := range []map[string]any{{"endpoint": "https://h", "ca": "/nonexistent"}, {"endpoint": "http://h", "timeout": "x"}, {"endpint": "x"}} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
}
