//go:build all

package dns

import (
	"context"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/resolve"
	"github.com/airlock-project/airlock/testdata/nameserver"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func signed(server string, more map[string]any) install.Input {
	w := with(server, map[string]any{"key": nameserver.KeyName, "secret": nameserver.KeySecret})
	for k, v := range more {
		w[k] = v
	}
	return install.Input{With: w}
}

// ask is what BIND says of a name and a type.
func ask(t *testing.T, server, name string, typ uint16) []string {
	t.Helper()
	r, err := resolve.Client{Wait: 5e9}.Exchange(context.WithoutCancel(t.Context()), "udp", server, new(dns.Msg).SetQuestion(name, typ))
	if err != nil {
		t.Fatal(err)
	}
	return kinds(r.Answer)
}

func TestBind(t *testing.T) {
	server := nameserver.Named(t, "site-a.example", "spacelift 60 A 10.9.9.9", "other A 10.1.1.1", "lb A 10.1.2.4")
	before, err := Update{}.Plan(t.Context(), signed(server, nil))
	if err != nil || before.Nothing || len(before.Details) != 2 {
		t.Fatalf("plan: %+v, %v", before, err)
	}
	res, err := Update{}.Apply(t.Context(), signed(server, nil))
	if err != nil || len(res.Findings) > 0 || !res.Changed {
		t.Fatalf("%+v, %v", res, err)
	}
	for name, want := range map[string][]string{
		"spacelift.site-a.example.": {"A 10.1.2.3"}, "mqtt.site-a.example.": {"A 10.1.2.4", "CNAME lb.site-a.example."}, "other.site-a.example.": {"A 10.1.1.1"},
	} {
		if d := cmp.Diff(want, ask(t, server, name, dns.TypeA)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if res, err = (Update{}).Apply(t.Context(), signed(server, nil)); err != nil || res.Changed || len(res.Findings) > 0 {
		t.Errorf("a second time: %+v, %v", res, err)
	}
	back := map[string]any{"records": []any{map[string]any{"name": "mqtt.site-a.example", "addresses": []any{"10.1.2.5"}}}}
	if res, err = (Update{}).Apply(t.Context(), signed(server, back)); err != nil || !res.Changed || len(res.Findings) > 0 {
		t.Errorf("from CNAME to A: %+v, %v", res, err)
	}
	if d := cmp.Diff([]string{"A 10.1.2.5"}, ask(t, server, "mqtt.site-a.example.", dns.TypeA)); d != "" {
		t.Error(d)
	}
}

func TestBindRefuses(t *testing.T) {
	server := nameserver.Named(t, "site-a.example")
	for name, c := range map[string]struct {
		with map[string]any
		says string
	}{
		"wrong secret": {map[string]any{"secret": "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3I="}, "BADSIG"},
		"unknown key":  {map[string]any{"key": "nobody"}, "BADKEY"},
		"unsigned":     {map[string]any{"key": "", "secret": ""}, "REFUSED"},
		"policy":       {map[string]any{"records": []any{map[string]any{"name": "x.denied.site-a.example", "addresses": []any{"10.0.0.1"}}}}, "REFUSED"},
		"other zone":   {map[string]any{"zone": "other.example", "records": []any{map[string]any{"name": "x.other.example", "addresses": []any{"10.0.0.1"}}}}, "REFUSED"},
	} {
		res, err := Update{}.Apply(t.Context(), signed(server, c.with))
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Findings) != 1 || res.Findings[0].Code != "DNS-10" || !strings.Contains(res.Findings[0].Detail, c.says) {
			t.Errorf("%s: %+v, want %s", name, res.Findings, c.says)
		}
	}
}
