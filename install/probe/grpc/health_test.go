package grpc

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/pki"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// serve starts a gRPC server; says is the word of its health service, if it has
// one.
func serve(t *testing.T, cert tls.Certificate, service bool, says healthpb.HealthCheckResponse_ServingStatus) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	if service {
		h := health.NewServer()
		h.SetServingStatus("", says)
		healthpb.RegisterHealthServer(s, h)
	}
	go s.Serve(l) //nolint:errcheck // it ends with Stop
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

// plain is an HTTPS server that knows no page; http2 says whether it speaks HTTP/2.
func plain(t *testing.T, cert tls.Certificate, http2 bool) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.EnableHTTP2, s.TLS = http2, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestHealth(t *testing.T) {
	ca := pki.New(t, "enclave CA")
	cert := ca.Server(t, []string{"127.0.0.1"})
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	clear := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(clear.Close)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := gone.Addr().String()
	gone.Close()
	const serving, not = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	for name, c := range map[string]struct {
		endpoint, service string
		other             bool // trust another authority
		code, reason      string
	}{
		"serves":          {endpoint: serve(t, cert, true, serving)},
		"no such service": {endpoint: serve(t, cert, true, serving), service: "nobody", code: "OWN-03", reason: "NotFound"},
		"does not serve":  {endpoint: serve(t, cert, true, not), code: "OWN-03", reason: "NOT_SERVING"},
		"no health":       {endpoint: serve(t, cert, false, 0), reason: "has no health service"},
		"not trusted":     {endpoint: serve(t, cert, true, serving), other: true, code: "GRPC-02", reason: "unknown authority"},
		"other name":      {endpoint: serve(t, ca.Server(t, []string{"vcs.site-a.example"}), true, serving), code: "GRPC-02", reason: "127.0.0.1"},
		"page of HTTP/2":  {endpoint: plain(t, cert, true), code: "OWN-03", reason: "404"},
		"HTTP/1.1":        {endpoint: plain(t, cert, false), code: "OWN-03", reason: "no HTTP/2"},
		"no TLS":          {endpoint: clear.Listener.Addr().String(), code: "OWN-03", reason: "HTTP"},
		"mute":            {endpoint: mute.Addr().String(), code: "OWN-03", reason: "no answer"},
		"nobody":          {endpoint: closed, code: "GRPC-01", reason: "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			trust := ca.File(t)
			if c.other {
				trust = pki.New(t, "another CA").File(t)
			}
			with := map[string]any{"endpoint": c.endpoint, "service": c.service, "ca": trust, "codes": map[string]any{"GRPC-03": "OWN-03"}}
			if name == "mute" {
				with["timeout"] = "200ms"
			}
			res, err := Health{}.Run(t.Context(), install.Input{With: with})
			if err != nil {
				t.Fatal(err)
			}
			if c.reason == "" {
				if len(res.Findings) > 0 {
					t.Errorf("%+v", res.Findings)
				}
				return
			}
			if len(res.Findings) != 1 {
				t.Fatalf("%+v", res.Findings)
			}
			f := res.Findings[0]
			if f.Code != c.code || !strings.Contains(f.Detail, c.reason) || c.code != "" && (f.Fields["reason"] == "" || f.Fields["endpoint"] != c.endpoint) {
				t.Errorf("%+v, want %s %q", f, c.code, c.reason)
			}
		})
	}
}

// TestHealthEnds with its context, whatever the other side does.
func TestHealthEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := Health{Dial: func(ctx context.Context, _ string) (net.Conn, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	if _, err := p.Run(ctx, install.Input{With: map[string]any{"endpoint": "h:1"}}); err == nil {
		t.Error("it goes on")
	}
}

func TestArguments(t *testing.T) {
	for _, with := range []map[string]any{
		{"endpoint": ""}, {"endpoint": "h:0"}, {"endpoint": "h:1", "timeout": "soon"}, {"endpoint": "h:1", "ca": "/nowhere.pem"}, {"endpint": "h:1"},
	} {
		if _, err := (Health{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
}
