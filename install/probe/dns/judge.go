package dns

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/resolve"
	"github.com/miekg/dns"
)

// judge compares what a server says of a name with what is expected.
func (v *view) judge(ctx context.Context, r record, s sight) {
	switch {
	case r.Absent && (s.rcode != dns.RcodeSuccess || len(s.addrs) == 0):
		return
	case s.rcode == dns.RcodeNameError || s.rcode == dns.RcodeSuccess && len(s.addrs) == 0:
		reason := missing(s)
		v.add(codeMissing, r.Name, reason, map[string]string{"reason": reason})
		return
	case s.rcode != dns.RcodeSuccess:
		v.add(codeFailure, r.Name, resolve.Rcode(s.rcode), map[string]string{"rcode": resolve.Rcode(s.rcode)})
		return
	case r.Absent:
		v.add(codeOther, r.Name, "it must not exist here, and points to "+resolve.Show(s.addrs), map[string]string{"got": resolve.Show(s.addrs), "want": "no record"})
		return
	}
	if v.Private {
		for _, ip := range s.addrs {
			if v.public(ip) {
				v.add(codePublic, r.Name, ip.String()+" is a public address", map[string]string{"address": ip.String()})
			}
		}
	}
	switch {
	case r.Target != "":
		v.judgeTarget(ctx, r, s)
	case len(r.want) > 0:
		v.judgeAddresses(r, s)
	default:
		v.judgeFamilies(r, s)
	}
}

func missing(s sight) string {
	switch {
	case s.rcode == dns.RcodeNameError:
		return "NXDOMAIN: the name does not exist"
	case len(s.chain) > 0:
		return "it leads to " + s.chain[len(s.chain)-1] + ", which has no address"
	}
	return "the name exists and has no address"
}

// judgeTarget accepts a chain through the target, and addresses that are those
// of the target: zones flatten CNAMEs at their top.
func (v *view) judgeTarget(ctx context.Context, r record, s sight) {
	if slices.Contains(s.chain, r.Target) {
		v.judgeFamilies(r, s)
		return
	}
	if t, err := v.ask(ctx, "udp", r.Target); err == nil && len(t.addrs) > 0 && slices.Equal(t.addrs, s.addrs) {
		return
	}
	got := resolve.Show(s.addrs)
	if len(s.chain) > 0 {
		got = strings.Join(s.chain, " -> ")
	}
	v.add(codeOther, r.Name, "it leads to "+got, map[string]string{"got": got, "want": "CNAME " + r.Target})
}

func (v *view) judgeAddresses(r record, s sight) {
	got4, got6 := families(s.addrs)
	want4, want6 := families(r.want)
	if len(want6) == 0 && len(got6) > 0 {
		v.family(r, got6, "AAAA is present, and nothing listens on IPv6")
	} else if !slices.Equal(got6, want6) {
		v.other(r, got6, want6)
	}
	if !slices.Equal(got4, want4) {
		v.other(r, got4, want4)
	}
}

func (v *view) other(r record, got, want []netip.Addr) {
	v.add(codeOther, r.Name, "it points to "+resolve.Show(got), map[string]string{"got": resolve.Show(got), "want": resolve.Show(want)})
}

func (v *view) family(r record, got []netip.Addr, reason string) {
	v.add(codeFamily, r.Name, resolve.Show(got)+": "+reason, map[string]string{"got": resolve.Show(got), "reason": reason})
}

// judgeFamilies holds where no address is expected in particular.
func (v *view) judgeFamilies(r record, s sight) {
	four, six := families(s.addrs)
	switch {
	case len(four) == 0:
		v.family(r, six, "AAAA only: clients without IPv6 cannot reach it")
	case r.Families == bothFamily && len(six) == 0:
		v.family(r, four, "A only: an IPv6 address is expected too")
	}
}

func families(list []netip.Addr) (four, six []netip.Addr) {
	for _, ip := range list {
		if ip.Is4() {
			four = append(four, ip)
			continue
		}
		six = append(six, ip)
	}
	return four, six
}

// notPublic are networks beside those of net/netip that are routed nowhere on
// the Internet (RFC 6598, RFC 2544, RFC 5737, RFC 3849, RFC 6890).
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("240.0.0.0/4"),
}

func (v *view) public(ip netip.Addr) bool {
	within := func(p netip.Prefix) bool { return p.Contains(ip) }
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !slices.ContainsFunc(notPublic, within) && !slices.ContainsFunc(v.own, within)
}

// compare reports names of which two servers say different things, each once.
func (a arguments) compare(views []*view) []install.Finding {
	var out []install.Finding
	for _, r := range a.Records {
		if r.Absent {
			continue // each server may say no in its way
		}
		var first *view
		for _, v := range views {
			s, ok := v.seen[r.Name]
			if !ok {
				continue
			}
			if first == nil {
				first = v
				continue
			}
			want := first.seen[r.Name]
			if s.rcode == want.rcode && slices.Equal(s.addrs, want.addrs) {
				continue
			}
			out = append(out, install.Finding{
				Code:   codeDisagree,
				Detail: r.Name + ": " + first.server + " says " + want.show() + ", " + v.server + " says " + s.show(),
				Fields: map[string]string{"resolver": v.server, "name": r.Name, "got": s.show(), "other": first.server, "want": want.show()},
			})
			break
		}
	}
	return out
}
