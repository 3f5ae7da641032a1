// Package resolve asks one DNS server, over the transport that the caller names,
// and follows what it answers. It uses no resolver of the operating system, so
// that what each server says is seen.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install/internal/dial"
	"github.com/miekg/dns"
)

const (
	// MaxChain bounds a chain of CNAMEs; resolvers follow 8 to 16.
	MaxChain = 16
	// udpSize avoids fragments (dnsflagday.net, 2020).
	udpSize = 1232
	// tries is how often a question is sent over UDP, which loses packets.
	tries = 2
	// waits is how many times Wait one name may take, with the chain behind it.
	waits = 4
	// strays is how many foreign packets on our socket are passed over.
	strays = 32
	port   = "53"
)

// LoopError says that a chain of CNAMEs does not end.
type LoopError struct{ Chain []string }

func (e *LoopError) Error() string { return "CNAME loop: " + strings.Join(e.Chain, " -> ") }

// Server is the address of a server written as host or host:port.
func Server(s string) (string, error) {
	e, err := dial.Parse(s, port)
	if err != nil || e.Scheme != "" {
		return "", fmt.Errorf("name server %q is not an address such as 10.0.0.53 or 10.0.0.53:5353", s)
	}
	return e.Address(), nil
}

// System returns the servers that this machine uses.
func System() ([]string, error) {
	c, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil, fmt.Errorf("read resolvers of this machine: %w", err)
	}
	var out []string
	for _, s := range c.Servers {
		out = append(out, net.JoinHostPort(s, c.Port))
	}
	if len(out) == 0 {
		return nil, errors.New("read resolvers of this machine: /etc/resolv.conf names none")
	}
	return out, nil
}

// Client asks. The zero value of Secrets signs nothing. It is safe for
// concurrent use.
type Client struct {
	Wait    time.Duration     // for one exchange
	Secrets map[string]string // TSIG: name of the key, fully qualified, to its secret in base64
}

// Exchange sends m and returns the answer to it. Over UDP it is sent again if it
// gets none, and over TCP if it was cut short.
func (c Client) Exchange(ctx context.Context, network, server string, m *dns.Msg) (*dns.Msg, error) {
	if network == "tcp" {
		return c.once(ctx, network, server, m)
	}
	var r *dns.Msg
	var err error
	for range tries {
		if r, err = c.once(ctx, network, server, m); err == nil || !dial.TimedOut(err) || ctx.Err() != nil {
			break
		}
	}
	if err == nil && r.Truncated {
		return c.once(ctx, "tcp", server, m)
	}
	return r, err
}

func (c Client) once(ctx context.Context, network, server string, m *dns.Msg) (*dns.Msg, error) {
	d := net.Dialer{Timeout: c.Wait}
	conn, err := d.DialContext(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	release, err := dial.Bound(ctx, conn, c.Wait)
	if err != nil {
		return nil, err
	}
	defer release()
	co := &dns.Conn{Conn: conn, UDPSize: udpSize, TsigSecret: c.Secrets}
	if err := co.WriteMsg(m); err != nil {
		return nil, err
	}
	for range strays {
		r, err := co.ReadMsg()
		if err != nil {
			return r, badAnswer(err)
		}
		if r.Id == m.Id && r.Response {
			return r, nil
		}
	}
	return nil, &FormError{Text: "only packets come back that answer another question"}
}

// FormError says that something came back which is no answer of DNS.
type FormError struct{ Text string }

func (e *FormError) Error() string { return "what answers does not speak DNS: " + e.Text }

// Reason says in a few words why a server gave no answer.
func Reason(err error) string {
	if e, ok := errors.AsType[*FormError](err); ok {
		return e.Error()
	}
	return dial.Reason(err)
}

// signature are the errors of TSIG, which callers look for.
var signature = []error{dns.ErrSig, dns.ErrSecret, dns.ErrTime, dns.ErrKeyAlg, dns.ErrNoSig}

// badAnswer tells a message that cannot be read from a connection that broke.
func badAnswer(err error) error {
	e, ok := errors.AsType[*dns.Error](err)
	if !ok || slices.ContainsFunc(signature, func(s error) bool { return errors.Is(err, s) }) {
		return err
	}
	return &FormError{Text: strings.TrimPrefix(e.Error(), "dns: ")}
}

// Answer is what a server says of a name.
type Answer struct {
	Rcode int
	Chain []string // the CNAMEs on the way, without final dot
	Addrs []netip.Addr
	TTL   uint32 // the smallest on the way
}

// Lookup asks server for the addresses of name (dns.TypeA or dns.TypeAAAA) and
// follows CNAMEs, with more questions to the same server where it does not. A
// chain that does not end is a *LoopError, one that is followed too slowly a
// timeout.
func (c Client) Lookup(ctx context.Context, network, server, name string, qtype uint16) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, waits*c.Wait)
	defer cancel()
	at := clean(name)
	var out Answer
	for {
		m := new(dns.Msg).SetQuestion(dns.Fqdn(at), qtype).SetEdns0(udpSize, false)
		r, err := c.Exchange(ctx, network, server, m)
		if err != nil {
			return out, err
		}
		out.Rcode = r.Rcode
		end, err := out.follow(r.Answer, at, qtype)
		if err != nil {
			return out, err
		}
		if end == at || len(out.Addrs) > 0 || r.Rcode != dns.RcodeSuccess {
			slices.SortFunc(out.Addrs, netip.Addr.Compare)
			out.Addrs = slices.Compact(out.Addrs)
			return out, nil
		}
		at = end
	}
}

// follow walks the CNAMEs of one answer from a name to its end and takes the
// addresses there.
func (a *Answer) follow(list []dns.RR, from string, qtype uint16) (string, error) {
	at := from
	for {
		next := ""
		for _, rr := range list {
			if cn, ok := rr.(*dns.CNAME); ok && clean(cn.Hdr.Name) == at {
				next = clean(cn.Target)
				a.ttl(cn.Hdr.Ttl)
			}
		}
		if next == "" {
			break
		}
		if loop := slices.Contains(a.Chain, next) || next == from; loop || len(a.Chain) >= MaxChain {
			return "", &LoopError{append(slices.Clone(a.Chain), next)}
		}
		a.Chain = append(a.Chain, next)
		at = next
	}
	for _, rr := range list {
		if clean(rr.Header().Name) != at || rr.Header().Rrtype != qtype {
			continue
		}
		if ip, ok := address(rr); ok {
			a.Addrs = append(a.Addrs, ip)
			a.ttl(rr.Header().Ttl)
		}
	}
	return at, nil
}

func (a *Answer) ttl(t uint32) {
	if a.TTL == 0 || t < a.TTL {
		a.TTL = t
	}
}

func address(rr dns.RR) (netip.Addr, bool) {
	var raw net.IP
	switch t := rr.(type) {
	case *dns.A:
		raw = t.A.To4()
	case *dns.AAAA:
		raw = t.AAAA.To16()
	}
	ip, ok := netip.AddrFromSlice(raw)
	return ip, ok
}

// clean is a name as it is compared and shown.
func clean(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Clean returns a name without its final dot, in lower case.
func Clean(name string) string { return clean(name) }

// Rcode is the name of a response code, such as NXDOMAIN.
func Rcode(code int) string {
	if s, ok := dns.RcodeToString[code]; ok {
		return s
	}
	return fmt.Sprintf("RCODE %d", code)
}

// maxShown bounds how many addresses are shown: one answer may hold thousands.
const maxShown = 16

// Show lists addresses for people, up to maxShown of them.
func Show(list []netip.Addr) string {
	if len(list) == 0 {
		return "no address"
	}
	var out []string
	for _, ip := range list[:min(len(list), maxShown)] {
		out = append(out, ip.String())
	}
	if more := len(list) - maxShown; more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, ", ")
}
