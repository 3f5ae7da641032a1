package mqtt

import (
	"crypto/tls"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/pki"
	"github.com/google/go-cmp/cmp"
	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

func codes(t *testing.T, k install.Coder, res install.Result) []string {
	t.Helper()
	var out []string
	for _, f := range res.Findings {
		if f.Code == "" && f.Severity == install.SeverityInfo {
			continue
		}
		out = append(out, f.Code)
		if got := slices.Sorted(maps.Keys(f.Fields)); !slices.Equal(got, slices.Sorted(slices.Values(k.Codes()[f.Code]))) {
			t.Errorf("%s has fields %v, lists %v", f.Code, got, k.Codes()[f.Code])
		}
	}
	return out
}

func TestEndpoint(t *testing.T) {
	for name, c := range map[string]struct {
		with map[string]any
		want []string
		says string
	}{
		"good":             {map[string]any{"type": "builtin", "endpoint": "tls://mqtt.site-a.example:1984"}, nil, ""},
		"in the cluster":   {map[string]any{"type": "builtin", "endpoint": "tls://spacelift-mqtt.spacelift.svc.cluster.local:1984"}, nil, ""},
		"cloud":            {map[string]any{"type": "iotcore", "endpoint": "a1b2-ats.iot.us-iso-east-1.c2s.ic.gov"}, nil, ""},
		"misspelt":         {map[string]any{"type": "iot-core", "endpoint": "x"}, []string{"MQTT-01"}, "iotcore"},
		"unknown":          {map[string]any{"type": "rabbit", "endpoint": "x"}, []string{"MQTT-01"}, "builtin or iotcore"},
		"unset":            {map[string]any{}, []string{"MQTT-01"}, "builtin or iotcore"},
		"no scheme":        {map[string]any{"type": "builtin", "endpoint": "mqtt.site-a.example:1984"}, []string{"MQTT-02"}, "tls://"},
		"other scheme":     {map[string]any{"type": "builtin", "endpoint": "mqtts://mqtt.site-a.example:1984"}, []string{"MQTT-02"}, "tls://"},
		"no port":          {map[string]any{"type": "builtin", "endpoint": "tls://mqtt.site-a.example"}, []string{"MQTT-02"}, "no port"},
		"port 0":           {map[string]any{"type": "builtin", "endpoint": "tls://mqtt.site-a.example:0"}, []string{"MQTT-02"}, "65535"},
		"path":             {map[string]any{"type": "builtin", "endpoint": "tls://mqtt.site-a.example:1984/x"}, []string{"MQTT-02"}, "65535"},
		"reserved":         {map[string]any{"type": "builtin", "endpoint": "tls://mqtt.site-a.example:1983"}, []string{"MQTT-02"}, "server's HTTP"},
		"none":             {map[string]any{"type": "builtin"}, []string{"MQTT-02"}, "no endpoint"},
		"cloud with port":  {map[string]any{"type": "iotcore", "endpoint": "x.example:443"}, []string{"MQTT-02"}, "port"},
		"refused here":     {map[string]any{"type": "iotcore", "endpoint": "x.example", "refused": map[string]any{"iotcore": "no way out"}}, []string{"MQTT-06"}, "no way out"},
		"inside only":      {map[string]any{"type": "builtin", "endpoint": "tls://spacelift-mqtt.spacelift.svc.cluster.local:1984", "external": true}, []string{"MQTT-03"}, "spacelift-mqtt"},
		"outside":          {map[string]any{"type": "builtin", "endpoint": "tls://mqtt.site-a.example:1984", "external": true}, nil, ""},
		"with credentials": {map[string]any{"type": "builtin", "endpoint": "tls://u:hunter2@h:1"}, []string{"MQTT-02"}, "withheld"},
	} {
		t.Run(name, func(t *testing.T) {
			with := map[string]any{
				"types": map[string]any{"builtin": "tls", "iotcore": "host"}, "meant": map[string]any{"iot-core": "iotcore"},
				"reserved": map[string]any{"1983": "the server's HTTP"}, "inside": []any{".svc", ".cluster.local"},
			}
			maps.Copy(with, c.with)
			res, err := Endpoint{}.Run(t.Context(), install.Input{With: with})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, codes(t, Endpoint{}, res)); d != "" {
				t.Fatalf("%s\n%+v", d, res.Findings)
			}
			for _, f := range res.Findings {
				if !strings.Contains(f.Detail, c.says) || strings.Contains(f.Detail, "hunter2") {
					t.Errorf("%q does not say %q", f.Detail, c.says)
				}
			}
		})
	}
}

// serve runs a broker with one listener. Without TLS it speaks plain MQTT.
func serve(t *testing.T, hook broker.Hook, conf *tls.Config) string {
	t.Helper()
	s := broker.New(&broker.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := s.AddHook(hook, nil); err != nil {
		t.Fatal(err)
	}
	l := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0", TLSConfig: conf})
	if err := s.AddListener(l); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return l.Address()
}

// deny lets nobody in.
type deny struct{ broker.HookBase }

func (*deny) ID() string           { return "deny" }
func (*deny) Provides(b byte) bool { return b == broker.OnConnectAuthenticate }

func TestDial(t *testing.T) {
	root := pki.New(t, "root")
	cert := root.Server(t, []string{"127.0.0.1"})
	conf := func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{cert}} }
	mutual := conf()
	mutual.ClientAuth = tls.RequireAnyClientCert
	read := func(c net.Conn) { _, _ = c.Read(make([]byte, 64)) }
	for name, c := range map[string]struct {
		at   string
		with map[string]any
		want []string
		says string
	}{
		"refuses":        {serve(t, new(deny), conf()), nil, nil, "127.0.0.1"},
		"closes":         {pki.Listen(t, conf(), read), nil, nil, "127.0.0.1"},
		"wants our cert": {pki.Listen(t, mutual, read), nil, nil, "127.0.0.1"},
		"not trusted":    {serve(t, new(deny), conf()), map[string]any{"ca": pki.New(t, "other").File(t)}, nil, "will not trust"},
		"lets us in":     {serve(t, new(auth.AllowHook), conf()), nil, []string{"MQTT-05"}, "without credentials"},
		"plain MQTT":     {serve(t, new(deny), nil), map[string]any{"timeout": "300ms"}, []string{"MQTT-04"}, ""},
		"plain HTTP":     {pki.Listen(t, nil, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }), nil, []string{"MQTT-04"}, "plain HTTP"},
		"web server":     {pki.Listen(t, conf(), func(c net.Conn) { read(c); _, _ = io.WriteString(c, "HTTP/1.1 400 Bad\r\n\r\n") }), nil, []string{"MQTT-07"}, "does not speak MQTT"},
		"silent":         {pki.Listen(t, conf(), func(net.Conn) { <-t.Context().Done() }), map[string]any{"timeout": "200ms"}, []string{"MQTT-07"}, "no answer"},
		"nothing":        {"nothing.invalid:1984", map[string]any{"timeout": "20s"}, []string{"NET-01"}, "name"},
		"at an address":  {"mqtt.invalid:1", map[string]any{"address": serve(t, new(deny), conf()), "name": "127.0.0.1", "external": true}, nil, "127.0.0.1"},
		"no address":     {"mqtt.invalid:1", map[string]any{"external": true}, []string{"MQTT-03"}, "outside"},
		"bad address":    {"mqtt.invalid:1", map[string]any{"address": "a b"}, []string{"MQTT-02"}, "host name"},
		"no port":        {"mqtt.site-a.example", nil, []string{"MQTT-02"}, "port"},
	} {
		t.Run(name, func(t *testing.T) {
			with := map[string]any{"endpoint": "tls://" + c.at, "ca": root.File(t)}
			maps.Copy(with, c.with)
			res, err := Dial{}.Run(t.Context(), install.Input{With: with})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, codes(t, Dial{}, res)); d != "" {
				t.Fatalf("%s\n%+v", d, res.Findings)
			}
			if !slices.ContainsFunc(res.Findings, func(f install.Finding) bool { return strings.Contains(f.Detail, c.says) }) {
				t.Errorf("%+v does not say %q", res.Findings, c.says)
			}
			if name == "silent" && res.Findings[0].Severity != install.SeverityWarn {
				t.Error("silence is not a warning")
			}
		})
	}
}

func TestArguments(t *testing.T) {
	for _, with := range []map[string]any{{}, {"types": 3}, {"typ": "x"}} {
		if _, err := (Endpoint{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
	for _, with := range []map[string]any{{"endpoint": "h:1", "timeout": "soon"}, {"endpint": "h:1"}} {
		if _, err := (Dial{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
}
