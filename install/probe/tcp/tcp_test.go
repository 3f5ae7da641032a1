package tcp

import (
	"net"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
)

func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := l.Addr().String()
	t.Cleanup(func() { l.Close() })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := gone.Addr().String()
	gone.Close()
	for name, c := range map[string]struct {
		with   map[string]any
		reason string // "" if it passes
		code   string
	}{
		"open":      {map[string]any{"endpoint": open}, "", ""},
		"refused":   {map[string]any{"endpoints": []any{open, closed}}, "refused", "NET-01"},
		"no name":   {map[string]any{"endpoint": "nothing.invalid:80", "timeout": "20s", "code": "DNS-09"}, "name", "DNS-09"},
		"two fails": {map[string]any{"endpoints": []any{closed}, "endpoint": closed}, "refused", "NET-01"},
	} {
		res, err := Probe{}.Run(t.Context(), install.Input{With: c.with})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.reason == "" {
			if len(res.Findings) != 0 {
				t.Errorf("%s: %+v", name, res.Findings)
			}
			continue
		}
		if len(res.Findings) == 0 || res.Findings[0].Code != c.code || !strings.Contains(res.Findings[0].Fields["reason"], c.reason) {
			t.Errorf("%s: %+v, want %q", name, res.Findings, c.reason)
		}
	}
}

func TestNoEndpointIsAFinding(t *testing.T) {
	for _, with := range []map[string]any{{}, {"endpoint": nil}, {"endpoint": "", "code": "DNS-09"}, {"endpoints": []any{}}} {
		res, err := Probe{}.Run(t.Context(), install.Input{With: with})
		if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "NET-02" || res.Findings[0].Severity != "" {
			t.Errorf("%v: %+v, %v", with, res.Findings, err)
		}
	}
}

func TestArguments(t *testing.T) {
	for _, with := range []map[string]any{
		{"endpoint": "host"}, {"endpoint": "h:1", "timeout": "soon"}, {"endpoint": "h:1", "timeout": "-1s"}, {"endpint": "h:1"},
	} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
}
