package dns

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/nameserver"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

const host = "spacelift.site-a.example"

func rcode(code int) nameserver.Handler {
	return func(_ dns.Question, r *dns.Msg, _ string) *dns.Msg {
		r.Rcode = code
		return r
	}
}

// udpOnly is a server behind a firewall that forgot TCP.
func udpOnly(h nameserver.Handler) nameserver.Handler {
	return func(q dns.Question, r *dns.Msg, network string) *dns.Msg {
		if network == "tcp" {
			return nil
		}
		return h(q, r, network)
	}
}

// long cuts its answers short over UDP.
func long(h nameserver.Handler) nameserver.Handler {
	return func(q dns.Question, r *dns.Msg, network string) *dns.Msg {
		if network == "udp" {
			r.Truncated = true
			return r
		}
		return h(q, r, network)
	}
}

func chain(n int) (out []string) {
	for i := range n {
		out = append(out, strings.Repeat("x", i)+host+". CNAME "+strings.Repeat("x", i+1)+host+".")
	}
	return out
}

func TestRecords(t *testing.T) {
	zone := func(records ...string) string { return nameserver.Start(t, nameserver.Zone(t, records...)) }
	a := zone(host + ". 300 A 10.1.2.3")
	wanted := []any{map[string]any{"name": host, "addresses": []any{"10.1.2.3"}}}
	target := []any{map[string]any{"name": host, "target": "lb.cloud.example"}}
	any6 := []any{map[string]any{"name": host, "families": "both"}}
	absent := []any{map[string]any{"name": host, "absent": true}}
	for name, c := range map[string]struct {
		servers []string
		records []any
		with    map[string]any
		want    []string
		says    string
	}{
		"good":                  {[]string{a}, wanted, nil, nil, ""},
		"upper case":            {[]string{zone("SPACELIFT.Site-A.example. A 10.1.2.3")}, wanted, nil, nil, ""},
		"cut short":             {[]string{nameserver.Start(t, long(nameserver.Zone(t, host+". A 10.1.2.3")))}, wanted, nil, nil, ""},
		"NXDOMAIN":              {[]string{zone("other.example. A 10.1.2.3")}, wanted, nil, []string{"DNS-01"}, "NXDOMAIN"},
		"no address":            {[]string{zone(host + `. TXT "x"`)}, wanted, nil, []string{"DNS-01"}, "no address"},
		"other address":         {[]string{zone(host + ". A 10.9.9.9")}, wanted, nil, []string{"DNS-02"}, "10.9.9.9"},
		"one too many":          {[]string{zone(host+". A 10.1.2.3", host+". A 10.9.9.9")}, wanted, nil, []string{"DNS-02"}, "10.9.9.9"},
		"split horizon":         {[]string{a, zone(host + ". A 10.9.9.9")}, []any{map[string]any{"name": host}}, nil, []string{"DNS-03"}, "10.9.9.9"},
		"one does not know":     {[]string{a, zone("other.example. A 10.1.2.3")}, wanted, nil, []string{"DNS-01", "DNS-03"}, ""},
		"AAAA too":              {[]string{zone(host+". A 10.1.2.3", host+". AAAA fd00::1")}, wanted, nil, []string{"DNS-04"}, "fd00::1"},
		"AAAA only":             {[]string{zone(host + ". AAAA fd00::1")}, []any{map[string]any{"name": host}}, nil, []string{"DNS-04"}, "AAAA only"},
		"A only":                {[]string{a}, any6, nil, []string{"DNS-04"}, "A only"},
		"both":                  {[]string{zone(host+". A 10.1.2.3", host+". AAAA fd00::1")}, any6, nil, nil, ""},
		"SERVFAIL":              {[]string{nameserver.Start(t, rcode(dns.RcodeServerFailure))}, wanted, nil, []string{"DNS-05"}, "SERVFAIL"},
		"REFUSED":               {[]string{nameserver.Start(t, rcode(dns.RcodeRefused))}, wanted, nil, []string{"DNS-05"}, "REFUSED"},
		"public":                {[]string{zone(host + ". A 52.1.2.3")}, []any{map[string]any{"name": host}}, map[string]any{"private": true}, []string{"DNS-06"}, "52.1.2.3"},
		"public, ours":          {[]string{zone(host + ". A 52.1.2.3")}, []any{map[string]any{"name": host}}, map[string]any{"private": true, "own": []any{"52.0.0.0/8"}}, nil, ""},
		"public, connected":     {[]string{zone(host + ". A 52.1.2.3")}, []any{map[string]any{"name": host}}, nil, nil, ""},
		"silent":                {[]string{nameserver.Start(t, func(dns.Question, *dns.Msg, string) *dns.Msg { return nil })}, wanted, map[string]any{"timeout": "50ms"}, []string{"DNS-07"}, "udp"},
		"UDP only":              {[]string{nameserver.Start(t, udpOnly(nameserver.Zone(t, host+". A 10.1.2.3")))}, wanted, map[string]any{"timeout": "100ms"}, []string{"DNS-07"}, "tcp"},
		"CNAME":                 {[]string{zone(host+". CNAME lb.cloud.example.", "lb.cloud.example. A 10.1.2.3")}, target, nil, nil, ""},
		"CNAME elsewhere":       {[]string{zone(host+". CNAME old.cloud.example.", "old.cloud.example. A 10.1.2.4")}, target, nil, []string{"DNS-02"}, "old.cloud.example"},
		"CNAME to nothing":      {[]string{zone(host + ". CNAME lb.cloud.example.")}, target, nil, []string{"DNS-01"}, ""},
		"flattened CNAME":       {[]string{zone(host+". A 10.1.2.3", "lb.cloud.example. A 10.1.2.3")}, target, nil, nil, ""},
		"loop":                  {[]string{zone(host+". CNAME b.example.", "b.example. CNAME "+host+".")}, target, nil, []string{"DNS-08"}, "b.example -> " + host},
		"endless":               {[]string{zone(chain(30)...)}, target, nil, []string{"DNS-08"}, "xxx" + host},
		"absent":                {[]string{zone("other.example. A 10.1.2.3")}, absent, nil, nil, ""},
		"absent, SERVFAIL":      {[]string{nameserver.Start(t, rcode(dns.RcodeServerFailure))}, absent, nil, nil, ""},
		"present, not absent":   {[]string{a}, absent, nil, []string{"DNS-02"}, "10.1.2.3"},
		"authoritative differs": {[]string{a}, wanted, map[string]any{"authoritative": zone(host + ". A 10.9.9.9")}, []string{"DNS-02", "DNS-03"}, ""},
		"nothing":               {[]string{a}, []any{map[string]any{"addresses": []any{"10.1.2.3"}}}, nil, []string{"DNS-09"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			with := map[string]any{"records": c.records, "resolvers": c.servers, "timeout": "20s"}
			maps.Copy(with, c.with)
			res, err := Probe{}.Run(t.Context(), install.Input{With: with})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range res.Findings {
				got = append(got, f.Code)
				if keys, want := slices.Sorted(maps.Keys(f.Fields)), slices.Sorted(slices.Values(Probe{}.Codes()[f.Code])); !slices.Equal(keys, want) {
					t.Errorf("%s has fields %v, lists %v", f.Code, keys, want)
				}
				if !strings.Contains(f.Detail, c.says) {
					t.Errorf("%q does not say %q", f.Detail, c.says)
				}
				if (f.Severity == install.SeverityWarn) != (name == "UDP only") {
					t.Errorf("%s is %q", f.Code, f.Severity)
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("%s\n%+v", d, res.Findings)
			}
		})
	}
}

// TestForeignAnswer shows that an answer to another question is not taken.
func TestForeignAnswer(t *testing.T) {
	at := nameserver.Start(t, func(q dns.Question, r *dns.Msg, network string) *dns.Msg {
		r.Id++
		return nameserver.Zone(t, host+". A 10.1.2.3")(q, r, network)
	})
	res, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{"records": []any{map[string]any{"name": host}}, "resolvers": []any{at}, "timeout": "100ms"}})
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "DNS-07" {
		t.Errorf("%+v, %v", res.Findings, err)
	}
}

// What answers and speaks no DNS is there: no firewall need be opened for it.
func TestGarbage(t *testing.T) {
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	go func() {
		b := make([]byte, 512)
		for {
			_, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = p.WriteTo([]byte("hello"), from)
		}
	}()
	res, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{"records": []any{map[string]any{"name": host}}, "resolvers": []any{p.LocalAddr().String()}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Findings) != 1 || res.Findings[0].Code != "DNS-07" || !strings.Contains(res.Findings[0].Fields["reason"], "does not speak DNS") {
		t.Errorf("findings %+v, want DNS-07 that says it is not DNS", res.Findings)
	}
}

// An answer may hold thousands of addresses; a finding is for reading.
func TestManyAddresses(t *testing.T) {
	var records []string
	for i := range 1000 {
		records = append(records, fmt.Sprintf("%s. A 10.9.%d.%d", host, i/250, i%250))
	}
	at := nameserver.Start(t, long(nameserver.Zone(t, records...)))
	res, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{"records": []any{map[string]any{"name": host, "addresses": []any{"10.1.2.3"}}}, "resolvers": []any{at}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Findings) == 0 || len(res.Findings[0].Fields["got"]) > 400 || !strings.Contains(res.Findings[0].Fields["got"], "and 984 more") {
		t.Errorf("findings %.600v, want the first addresses and how many more", res.Findings)
	}
}

// TestSlowChain shows that a server which is only just in time each time, and
// never at an end, is given up, with its name.
func TestSlowChain(t *testing.T) {
	var asked atomic.Int64
	at := nameserver.Start(t, func(q dns.Question, r *dns.Msg, _ string) *dns.Msg {
		time.Sleep(120 * time.Millisecond)
		r.Answer = []dns.RR{&dns.CNAME{
			Hdr:    dns.RR_Header{Name: q.Name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: 1},
			Target: fmt.Sprintf("x%d.example.", asked.Add(1)),
		}}
		return r
	})
	res, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{"records": []any{map[string]any{"name": host}}, "resolvers": []any{at}, "timeout": "200ms"}})
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "DNS-07" || res.Findings[0].Fields["resolver"] != at {
		t.Errorf("%+v, %v; want DNS-07 of %s", res.Findings, err, at)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	at := nameserver.Start(t, func(dns.Question, *dns.Msg, string) *dns.Msg { cancel(); return nil })
	if _, err := (Probe{}).Run(ctx, install.Input{With: map[string]any{"records": []any{map[string]any{"name": host}}, "resolvers": []any{at}, "timeout": "10m"}}); err == nil {
		t.Error("the probe goes on after its context has ended")
	}
}

func TestArguments(t *testing.T) {
	one := []any{map[string]any{"name": host}}
	for name, with := range map[string]map[string]any{
		"name":     {"records": []any{map[string]any{"name": "a b"}}},
		"address":  {"records": []any{map[string]any{"name": host, "addresses": []any{"10.0.0.256"}}}},
		"two":      {"records": []any{map[string]any{"name": host, "addresses": []any{"10.0.0.2"}, "target": "x.example"}}},
		"resolver": {"records": one, "resolvers": []any{"10.0.0.1:0"}},
		"scheme":   {"records": one, "resolvers": []any{"https://10.0.0.1"}},
		"own":      {"records": one, "resolvers": []any{"127.0.0.1:1"}, "own": []any{"10.0.0.0"}},
		"timeout":  {"records": one, "timeout": "x"},
		"unknown":  {"record": one},
	} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
