// Package nameserver runs DNS servers in process, for tests that need an exact
// answer: a response code, a loop, a silence.
package nameserver

import (
	"net"
	"testing"

	"github.com/miekg/dns"
)

// Handler answers a question; the response is prepared. A nil message is silence.
type Handler func(q dns.Question, r *dns.Msg, network string) *dns.Msg

// Start serves on one free port of 127.0.0.1, over UDP and TCP, until the test
// ends.
func Start(t testing.TB, h Handler) (address string) {
	t.Helper()
	return StartAt(t, "127.0.0.1", h)
}

// StartAt is Start on an address of the test's choice.
func StartAt(t testing.TB, host string, h Handler) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	p, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	serve := func(w dns.ResponseWriter, m *dns.Msg) {
		if r := h(m.Question[0], new(dns.Msg).SetReply(m), w.RemoteAddr().Network()); r != nil {
			_ = w.WriteMsg(r)
		}
	}
	for _, s := range []*dns.Server{{Listener: l}, {PacketConn: p}} {
		s.Handler = dns.HandlerFunc(serve)
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		done := make(chan error, 1)
		go func() { done <- s.ActivateAndServe() }()
		select {
		case <-up:
		case err := <-done:
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = s.Shutdown(), <-done })
	}
	return address
}

// Zone answers from records in the form of a zone file; names it lacks do not
// exist. CNAMEs are not followed.
func Zone(t testing.TB, records ...string) Handler {
	t.Helper()
	var zone []dns.RR
	for _, s := range records {
		rr, err := dns.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		zone = append(zone, rr)
	}
	return func(q dns.Question, r *dns.Msg, _ string) *dns.Msg {
		known := false
		for _, rr := range zone {
			if !equal(rr.Header().Name, q.Name) {
				continue
			}
			known = true
			if typ := rr.Header().Rrtype; typ == q.Qtype || typ == dns.TypeCNAME {
				r.Answer = append(r.Answer, rr)
			}
		}
		if !known {
			r.Rcode = dns.RcodeNameError
		}
		return r
	}
}

func equal(a, b string) bool { return dns.CanonicalName(a) == dns.CanonicalName(b) }
