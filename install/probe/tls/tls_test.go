package tls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/pki"
	"github.com/google/go-cmp/cmp"
)

const name = "spacelift.site-a.example"

func codes(t *testing.T, res install.Result) []string {
	t.Helper()
	var out []string
	known := Probe{}.Codes()
	for _, f := range res.Findings {
		out = append(out, f.Code)
		for field := range f.Fields {
			if !slices.Contains(known[f.Code], field) && known[f.Code] != nil {
				t.Errorf("field %s is not listed with %s", field, f.Code)
			}
		}
	}
	return out
}

func TestDial(t *testing.T) {
	root, stranger := pki.New(t, "Site A root"), pki.New(t, "Corporate proxy")
	mid := root.Below(t, "Site A issuing")
	good := mid.Server(t, []string{name})
	short := mid.Server(t, []string{name})
	short.Certificate = short.Certificate[:1]
	soon := mid.Server(t, []string{name}, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(72 * time.Hour) })
	over := mid.Server(t, []string{name}, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	forClients := mid.Server(t, []string{name}, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	file, _ := pki.Files(t, good)
	serve := func(c tls.Certificate, change func(*tls.Config)) string {
		conf := &tls.Config{Certificates: []tls.Certificate{c}}
		change(conf)
		return pki.Listen(t, conf, func(net.Conn) {})
	}
	as := func(*tls.Config) {}
	old := func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }
	lax := func(c *tls.Config) { c.MinVersion = tls.VersionTLS10 }
	mutual := func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }
	plain := pki.Listen(t, nil, func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) })
	silent := pki.Listen(t, nil, func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)); <-t.Context().Done() })
	gone := pki.Listen(t, nil, func(net.Conn) {})
	for n, c := range map[string]struct {
		at   string
		with map[string]any
		want []string
		says string
	}{
		"good":            {serve(good, as), map[string]any{"cert": file}, nil, ""},
		"mutual":          {serve(good, mutual), nil, nil, ""},
		"other name":      {serve(good, as), map[string]any{"name": "other.site-a.example"}, []string{"TLS-02"}, name},
		"no intermediate": {serve(short, as), nil, []string{"TLS-03"}, "Site A issuing"},
		"client only":     {serve(forClients, as), nil, []string{"TLS-03"}, "usage"},
		"intercepted":     {serve(stranger.Server(t, []string{name}), as), map[string]any{"cert": file}, []string{"NET-02"}, "Corporate proxy"},
		"other authority": {serve(stranger.Server(t, []string{name}), as), nil, []string{"TLS-03"}, "Corporate proxy"},
		"own code":        {serve(stranger.Server(t, []string{name}), as), map[string]any{"codes": map[string]any{"TLS-03": "UI-09"}}, []string{"UI-09"}, "Corporate proxy"},
		"expires soon":    {serve(soon, as), nil, []string{"TLS-04"}, "2 days"},
		"expired":         {serve(over, as), nil, []string{"TLS-04"}, "has expired"},
		"TLS 1.1":         {serve(good, old), nil, []string{"TLS-07"}, "TLS 1.1"},
		"TLS 1.1 too":     {serve(good, lax), nil, []string{"TLS-07"}, "TLS 1.1"},
		"plain HTTP":      {plain, nil, []string{"TLS-09"}, "plain HTTP"},
		"silent":          {silent, map[string]any{"timeout": "50ms"}, []string{"TLS-09"}, "no answer"},
		"closes":          {gone, nil, []string{"TLS-09"}, ""},
		"no name":         {"nothing.invalid:1", map[string]any{"timeout": "20s"}, []string{"NET-01"}, "name"},
	} {
		t.Run(n, func(t *testing.T) {
			with := map[string]any{"endpoint": c.at, "name": name, "ca": root.File(t)}
			maps.Copy(with, c.with)
			res, err := Probe{}.Run(t.Context(), install.Input{With: with})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, codes(t, res)); d != "" {
				t.Fatalf("%s\n%+v", d, res.Findings)
			}
			if c.want == nil {
				if len(res.Evidence) != 1 || !strings.Contains(string(res.Evidence[0].Data), name) {
					t.Errorf("the chain is not evidence: %+v", res.Evidence)
				}
				return
			}
			var said strings.Builder
			said.WriteString(res.Findings[0].Detail)
			for _, v := range res.Findings[0].Fields {
				said.WriteString("\n" + v)
			}
			if !strings.Contains(said.String(), c.says) {
				t.Errorf("%q does not say %q", said.String(), c.says)
			}
			wantWarn := n == "expires soon" || n == "TLS 1.1 too"
			if (res.Findings[0].Severity == install.SeverityWarn) != wantWarn {
				t.Errorf("severity is %q", res.Findings[0].Severity)
			}
		})
	}
}

func TestAddressAsName(t *testing.T) {
	root := pki.New(t, "root")
	at := pki.Listen(t, &tls.Config{Certificates: []tls.Certificate{root.Server(t, []string{"127.0.0.1"})}}, func(net.Conn) {})
	res, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{"endpoint": "https://u:hunter2@" + at + "/x", "ca": root.File(t)}})
	if err != nil || len(res.Findings) > 0 {
		t.Errorf("%+v, %v", res.Findings, err)
	}
}

func TestCancelled(t *testing.T) {
	reached := make(chan struct{}, 1)
	at := pki.Listen(t, nil, func(c net.Conn) { reached <- struct{}{}; <-t.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	if _, err := (Probe{}).Run(ctx, install.Input{With: map[string]any{"endpoint": at, "timeout": "10m"}}); err == nil {
		t.Error("the probe goes on after its context has ended")
	}
}

func TestArguments(t *testing.T) {
	for _, with := range []map[string]any{
		{}, {"endpoint": "host:0"}, {"endpoint": "h:1", "timeout": "soon"}, {"endpoint": "h:1", "ca": "/nonexistent"}, {"endpint": "h:1"},
	} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
}
