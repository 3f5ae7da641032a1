package dns

import (
	"context"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

const (
	zone   = "site-a.example."
	key    = "airlock."
	secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="
)

// primary is a zone in memory that takes signed updates, checks prerequisites
// (RFC 2136, section 3.2) and answers questions.
type primary struct {
	mu      sync.Mutex
	zone    []dns.RR
	deaf    bool // takes updates and does nothing
	race    dns.RR
	updates int
}

func (p *primary) start(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up, done := make(chan struct{}), make(chan error, 1)
	s := &dns.Server{
		Listener: l, TsigSecret: map[string]string{key: secret}, NotifyStartedFunc: func() { close(up) },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
			r := new(dns.Msg).SetReply(m)
			if t := m.IsTsig(); t == nil || w.TsigStatus() != nil {
				r.Rcode = dns.RcodeNotAuth
			} else {
				p.answer(m, r)
				r.SetTsig(t.Hdr.Name, t.Algorithm, fudge, int64(t.TimeSigned))
			}
			_ = w.WriteMsg(r)
		}),
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
	}
	go func() { done <- s.ActivateAndServe() }()
	<-up
	t.Cleanup(func() { _, _ = s.Shutdown(), <-done })
	return l.Addr().String()
}

func (p *primary) answer(m, r *dns.Msg) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.Opcode != dns.OpcodeUpdate {
		for _, rr := range p.zone {
			if rr.Header().Name == m.Question[0].Name && rr.Header().Rrtype == m.Question[0].Qtype {
				r.Answer = append(r.Answer, rr)
			}
		}
		return
	}
	if p.race != nil {
		p.zone, p.race = append(p.zone, p.race), nil
	}
	p.updates++
	for _, rr := range m.Answer {
		h := rr.Header()
		have := p.set(h.Name, h.Rrtype)
		if h.Class == dns.ClassNONE && len(have) > 0 {
			r.Rcode = dns.RcodeYXRrset
			return
		}
		if h.Class == dns.ClassINET && !slices.Contains(kinds(have), kind(rr)) {
			r.Rcode = dns.RcodeNXRrset
			return
		}
	}
	if p.deaf {
		return
	}
	for _, rr := range m.Ns {
		switch h := rr.Header(); h.Class {
		case dns.ClassANY:
			p.zone = slices.DeleteFunc(p.zone, func(o dns.RR) bool { return o.Header().Name == h.Name && o.Header().Rrtype == h.Rrtype })
		case dns.ClassINET:
			p.zone = append(p.zone, rr)
		}
	}
}

func (p *primary) set(name string, typ uint16) (out []dns.RR) {
	for _, rr := range p.zone {
		if rr.Header().Name == name && rr.Header().Rrtype == typ {
			out = append(out, rr)
		}
	}
	return out
}

func rr(t *testing.T, s string) dns.RR {
	t.Helper()
	out, err := dns.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func records() []any {
	return []any{
		map[string]any{"name": "spacelift.site-a.example", "addresses": []any{"10.1.2.3", "fd00::3"}},
		map[string]any{"name": "mqtt.site-a.example", "target": "lb.site-a.example"},
		map[string]any{"name": "later.site-a.example"},
		map[string]any{"addresses": []any{"10.0.0.1"}},
	}
}

func with(server string, more map[string]any) map[string]any {
	w := map[string]any{"records": records(), "server": server, "zone": "site-a.example", "key": "airlock", "secret": secret}
	maps.Copy(w, more)
	return w
}

func TestUpdate(t *testing.T) {
	p := &primary{zone: []dns.RR{
		rr(t, "spacelift.site-a.example. 60 A 10.9.9.9"), rr(t, `mqtt.site-a.example. TXT "keep"`), rr(t, "mqtt.site-a.example. A 10.1.1.1"),
		rr(t, "other.site-a.example. A 10.1.1.1"),
	}}
	in := install.Input{With: with(p.start(t), nil)}
	before, err := Update{}.Plan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"mqtt.site-a.example: CNAME lb.site-a.example. instead of A 10.1.1.1",
		"spacelift.site-a.example: A 10.1.2.3, AAAA fd00::3 instead of A 10.9.9.9",
	}
	if d := cmp.Diff(want, before.Details); d != "" || before.Nothing || p.updates > 0 {
		t.Errorf("plan: %s (nothing %v, %d updates)", d, before.Nothing, p.updates)
	}
	res, err := Update{}.Apply(t.Context(), in)
	if err != nil || len(res.Findings) > 0 || !res.Changed {
		t.Fatalf("%+v, %v", res, err)
	}
	got := kinds(p.zone)
	if d := cmp.Diff([]string{"A 10.1.1.1", "A 10.1.2.3", "AAAA fd00::3", "CNAME lb.site-a.example.", `TXT mqtt.site-a.example. 3600 IN TXT "keep"`}, got); d != "" {
		t.Errorf("the zone: %s", d)
	}
	sent := p.updates
	res, err = Update{}.Apply(t.Context(), in)
	if err != nil || res.Changed || len(res.Findings) > 0 || p.updates != sent {
		t.Errorf("a second time: %+v, %v, %d updates more", res, err, p.updates-sent)
	}
	if after, err := (Update{}).Plan(t.Context(), in); err != nil || !after.Nothing {
		t.Errorf("plan afterwards: %+v, %v", after, err)
	}
}

func TestUpdateRefused(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent.Close()
	for name, c := range map[string]struct {
		p    *primary
		with map[string]any
		code string
		says string
	}{
		"wrong secret": {&primary{}, map[string]any{"secret": "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3I="}, "DNS-10", "NOTAUTH"},
		"other key":    {&primary{}, map[string]any{"key": "nobody"}, "DNS-10", "NOTAUTH"},
		"unsigned":     {&primary{}, map[string]any{"key": nil, "secret": nil}, "DNS-10", "NOTAUTH"},
		"race":         {&primary{race: rr(t, "mqtt.site-a.example. A 10.7.7.7")}, nil, "DNS-10", "another"},
		"no effect":    {&primary{deaf: true}, nil, "DNS-11", "still says nothing"},
		"no server":    {&primary{}, map[string]any{"server": silent.Addr().String()}, "DNS-12", "refused"},
		"nothing":      {&primary{}, map[string]any{"records": []any{map[string]any{"name": "x.site-a.example"}}}, "DNS-09", ""},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := Update{}.Apply(t.Context(), install.Input{With: with(c.p.start(t), c.with)})
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Findings) != 1 || res.Findings[0].Code != c.code || !strings.Contains(res.Findings[0].Detail, c.says) {
				t.Fatalf("%+v", res.Findings)
			}
			f := res.Findings[0]
			if got, want := slices.Sorted(maps.Keys(f.Fields)), slices.Sorted(slices.Values(Update{}.Codes()[c.code])); !slices.Equal(got, want) {
				t.Errorf("fields %v, want %v", got, want)
			}
			if strings.Contains(f.Detail, secret) {
				t.Error("the secret shows")
			}
		})
	}
}

func TestArguments(t *testing.T) {
	for name, w := range map[string]map[string]any{
		"not in the zone": {"zone": "other.example"},
		"not base64":      {"secret": "hunter2!"},
		"no secret":       {"secret": ""},
		"no key":          {"key": ""},
		"algorithm":       {"algorithm": "hmac-md5"},
		"twice":           {"records": append(records(), records()...)},
		"bad address":     {"records": []any{map[string]any{"name": "a.site-a.example", "addresses": []any{"10.0.0.256"}}}},
		"two kinds":       {"records": []any{map[string]any{"name": "a.site-a.example", "addresses": []any{"10.0.0.2"}, "target": "b.example"}}},
		"to itself":       {"records": []any{map[string]any{"name": "a.site-a.example", "target": "a.site-a.example"}}},
		"injection":       {"records": []any{map[string]any{"name": "a.site-a.example", "target": "b.example.\nevil A 1.2.3.4"}}},
		"no zone":         {"zone": ""},
		"server":          {"server": ""},
		"long ttl":        {"ttl": int64(1e9)},
		"unknown":         {"srever": "x"},
	} {
		if _, err := (Update{}).Apply(t.Context(), install.Input{With: with("127.0.0.1:1", w)}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, to := range []string{"", "../x", "a/b", ".hidden"} {
		if _, err := (Snippet{}).Apply(t.Context(), install.Input{With: map[string]any{"records": records(), "to": to}, Render: t.TempDir()}); err == nil {
			t.Errorf("to %q is accepted", to)
		}
	}
}

func TestCancelled(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn, err := l.Accept()
		cancel()
		if err == nil {
			<-t.Context().Done()
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close() })
	if _, err := (Update{}).Apply(ctx, install.Input{With: with(l.Addr().String(), map[string]any{"timeout": "10m"})}); err == nil {
		t.Error("the action goes on after its context has ended")
	}
}

func TestSnippet(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "render")
	in := install.Input{Render: dir, With: map[string]any{"records": records(), "to": "dns.zone"}}
	if c, err := (Snippet{}).Plan(t.Context(), in); err != nil || c.Nothing || len(c.Details) != 3 {
		t.Errorf("plan: %+v, %v", c, err)
	}
	res, err := Snippet{}.Apply(t.Context(), in)
	if err != nil || !res.Changed {
		t.Fatalf("%+v, %v", res, err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "dns.zone"))
	if err != nil {
		t.Fatal(err)
	}
	want := "mqtt.site-a.example. 300 IN CNAME lb.site-a.example.\nspacelift.site-a.example. 300 IN A 10.1.2.3\nspacelift.site-a.example. 300 IN AAAA fd00::3\n"
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
	if res.Outputs["dns.snippet"] != filepath.Join(dir, "dns.zone") || len(res.Outputs["dns.records"].([]any)) != 3 {
		t.Errorf("outputs %v", res.Outputs)
	}
	if c, err := (Snippet{}).Plan(t.Context(), in); err != nil || !c.Nothing {
		t.Errorf("plan afterwards: %+v, %v", c, err)
	}
	if res, err = (Snippet{}).Apply(t.Context(), in); err != nil || res.Changed {
		t.Errorf("a second time: %+v, %v", res, err)
	}
	empty := install.Input{Render: dir, With: map[string]any{"to": "dns.zone"}}
	if res, err = (Snippet{}).Apply(t.Context(), empty); err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "DNS-09" {
		t.Errorf("nothing to write: %+v, %v", res, err)
	}
	if kept, err := os.ReadFile(filepath.Join(dir, "dns.zone")); err != nil || string(kept) != want {
		t.Errorf("an empty list has overwritten the file: %q, %v", kept, err)
	}
}
