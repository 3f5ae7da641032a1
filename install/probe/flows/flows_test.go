package flows

import (
	"context"
	"crypto/tls"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/pki"
)

// postgres answers an SSLRequest as a server does, then starts TLS if it offers it.
func postgres(conf *tls.Config, answer string) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
			return
		}
		_, _ = io.WriteString(c, answer)
		if answer == "S" {
			_ = tls.Server(c, conf).Handshake()
		}
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return l.Addr().String()
}

func TestFlows(t *testing.T) {
	root, proxy := pki.New(t, "Site A root"), pki.New(t, "Corporate proxy")
	conf := &tls.Config{Certificates: []tls.Certificate{root.Server(t, []string{"127.0.0.1"})}}
	between := &tls.Config{Certificates: []tls.Certificate{proxy.Server(t, []string{"127.0.0.1"})}}
	other := &tls.Config{Certificates: []tls.Certificate{root.Server(t, []string{"other.site-a.example"})}}
	web := func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1024))
		_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
	}
	refuse := func(c net.Conn) { _, _ = c.Read(make([]byte, 64)); _, _ = c.Write([]byte{0x20, 2, 0, 5}) }
	quiet := func(c net.Conn) { _, _ = c.Read(make([]byte, 64)); <-t.Context().Done() }
	shut := closedPort(t)
	for name, c := range map[string]struct {
		flow map[string]any
		code string // "" is open
		says []string
	}{
		"tcp":                {map[string]any{"endpoint": pki.Listen(t, nil, web)}, "", nil},
		"tls":                {map[string]any{"endpoint": pki.Listen(t, conf, web), "protocol": "tls"}, "", nil},
		"https":              {map[string]any{"endpoint": "https://u:hunter2@" + pki.Listen(t, conf, web) + "/health"}, "", nil},
		"http":               {map[string]any{"endpoint": "http://" + pki.Listen(t, nil, web)}, "", nil},
		"mqtts":              {map[string]any{"endpoint": pki.Listen(t, conf, refuse), "protocol": "mqtts"}, "", nil},
		"postgres":           {map[string]any{"endpoint": "postgres://u:hunter2@" + pki.Listen(t, nil, postgres(conf, "S")) + "/spacelift"}, "", nil},
		"postgres plain":     {map[string]any{"endpoint": pki.Listen(t, nil, postgres(nil, "N")), "protocol": "postgres"}, "", nil},
		"any chain":          {map[string]any{"endpoint": pki.Listen(t, between, refuse), "protocol": "mqtts", "untrusted": true}, "", nil},
		"refused":            {map[string]any{"endpoint": shut}, "NET-01", []string{"refused", "dial"}},
		"no such name":       {map[string]any{"endpoint": "nothing.invalid:5432"}, "NET-01", []string{"name"}},
		"intercepted":        {map[string]any{"endpoint": "https://" + pki.Listen(t, between, web)}, "NET-02", []string{"Corporate proxy"}},
		"intercepted DB":     {map[string]any{"endpoint": "postgres://" + pki.Listen(t, nil, postgres(between, "S"))}, "NET-02", []string{"Corporate proxy"}},
		"wrong server":       {map[string]any{"endpoint": "https://" + pki.Listen(t, other, web)}, "NET-06", []string{"127.0.0.1"}},
		"plain where TLS":    {map[string]any{"endpoint": "https://" + pki.Listen(t, nil, web)}, "NET-06", []string{"plain HTTP", "tls"}},
		"not a database":     {map[string]any{"endpoint": "postgres://" + pki.Listen(t, nil, web)}, "NET-06", []string{"hello", "PostgreSQL"}},
		"not a web server":   {map[string]any{"endpoint": "http://" + pki.Listen(t, nil, refuse)}, "NET-06", []string{"HTTP"}},
		"not a broker":       {map[string]any{"endpoint": "mqtt://" + pki.Listen(t, nil, web)}, "NET-06", []string{"MQTT"}},
		"silent database":    {map[string]any{"endpoint": "postgres://" + pki.Listen(t, nil, quiet)}, "NET-06", []string{"no answer"}},
		"silent web server":  {map[string]any{"endpoint": "http://" + pki.Listen(t, nil, quiet)}, "NET-06", []string{"no answer"}},
		"closes at once":     {map[string]any{"endpoint": "postgres://" + pki.Listen(t, nil, func(net.Conn) {})}, "NET-06", []string{""}},
		"busy is a database": {map[string]any{"endpoint": "postgres://" + pki.Listen(t, nil, postgres(nil, "E"))}, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := map[string]any{"from": "server", "to": "dependency", "ca": root.File(t)}
			maps.Copy(f, c.flow)
			timeout := "20s"
			if strings.HasPrefix(name, "silent") {
				timeout = "200ms"
			}
			res, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{"flows": []any{f}, "timeout": timeout}})
			if err != nil {
				t.Fatal(err)
			}
			check(t, res, c.code, c.says)
		})
	}
}

// check looks at the findings and the output of one flow.
func check(t *testing.T, res install.Result, code string, says []string) {
	t.Helper()
	list, ok := res.Outputs["network.flows"].([]any)
	if !ok || len(list) != 1 {
		t.Fatalf("network.flows is %v", res.Outputs)
	}
	v, ok := list[0].(map[string]any)
	if !ok || (v["verdict"] == verdictOpen) != (code == "") || v["vantage"] != "host" || v["from"] != "server" {
		t.Errorf("verdict is %v", list[0])
	}
	if code == "" {
		if len(res.Findings) != 0 {
			t.Errorf("%+v", res.Findings)
		}
		return
	}
	if len(res.Findings) != 1 || res.Findings[0].Code != code {
		t.Fatalf("%+v, want %s", res.Findings, code)
	}
	f := res.Findings[0]
	if got, want := slices.Sorted(maps.Keys(f.Fields)), slices.Sorted(slices.Values(Probe{}.Codes()[code])); !slices.Equal(got, want) {
		t.Errorf("fields %v, want %v", got, want)
	}
	said := f.Detail + f.Fields["issuer"]
	for _, s := range says {
		if !strings.Contains(said, s) {
			t.Errorf("%q does not say %q", said, s)
		}
	}
	if strings.Contains(said, "hunter2") || strings.Contains(string(res.Evidence[0].Data), "hunter2") {
		t.Error("a password shows")
	}
}

func TestDeny(t *testing.T) {
	open := pki.Listen(t, nil, func(net.Conn) {})
	res, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{
		"endpoints": []any{open}, "deny": []any{open, closedPort(t), "nothing.invalid:443"}, "timeout": "20s",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Findings) != 2 || res.Findings[0].Code != "NET-05" || res.Findings[0].Severity != "" || res.Findings[1].Severity != install.SeverityWarn {
		t.Errorf("%+v", res.Findings)
	}
}

func TestNothingGiven(t *testing.T) {
	res, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{"flows": []any{map[string]any{"from": "server", "to": "database", "protocol": "postgres"}}}})
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "NET-04" {
		t.Errorf("%+v, %v", res.Findings, err)
	}
	res, err = Probe{}.Run(t.Context(), install.Input{})
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "NET-04" {
		t.Errorf("%+v, %v", res.Findings, err)
	}
}

func TestArguments(t *testing.T) {
	many := make([]any, maxFlows+1)
	for i := range many {
		many[i] = "h:1"
	}
	for name, with := range map[string]map[string]any{
		"protocol": {"flows": []any{map[string]any{"endpoint": "h:1", "protocol": "smtp"}}},
		"scheme":   {"flows": []any{map[string]any{"endpoint": "ftp://u:hunter2@h/"}}},
		"port":     {"endpoints": []any{"host"}},
		"deny":     {"deny": []any{"a b"}},
		"ca":       {"flows": []any{map[string]any{"endpoint": "h:1", "ca": "/nonexistent"}}},
		"timeout":  {"timeout": "soon"},
		"unknown":  {"flow": []any{}},
		"too many": {"endpoints": many},
	} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCancelled(t *testing.T) {
	reached := make(chan struct{}, 1)
	at := pki.Listen(t, nil, func(net.Conn) { reached <- struct{}{}; <-t.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	if _, err := (Probe{}).Run(ctx, install.Input{With: map[string]any{"flows": []any{map[string]any{"endpoint": "postgres://" + at}}, "timeout": "10m"}}); err == nil {
		t.Error("the probe goes on after its context has ended")
	}
}
