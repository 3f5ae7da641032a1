// Package dns holds two actions: dns.snippet writes the records that an
// installation needs in the form of a zone file, dns.update puts them into a zone
// by dynamic update (RFC 2136).
package dns

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/resolve"
	"github.com/miekg/dns"
)

const (
	maxRecords = 100
	defaultTTL = 300
	maxTTL     = 7 * 24 * 3600
)

// record is what one name should point to.
type record struct {
	Name      string   `json:"name"`      // "" is passed over
	Addresses []string `json:"addresses"` // A and AAAA
	Target    string   `json:"target"`    // CNAME
}

// entry is the wanted state of one name: every A, AAAA and CNAME it has, and no
// other. Records of other types are not looked at.
type entry struct {
	name string // fully qualified
	rrs  []dns.RR
}

// entries checks records and puts them in order. Records that name nothing to
// point to are left out: the site does not know it yet.
func entries(list []record, ttl uint32) ([]entry, error) {
	if len(list) > maxRecords {
		return nil, fmt.Errorf("%d names are given; at most %d are written", len(list), maxRecords)
	}
	if ttl > maxTTL {
		return nil, fmt.Errorf("ttl %d is longer than a week", ttl)
	}
	var out []entry
	for _, r := range list {
		if r.Name == "" || len(r.Addresses) == 0 && r.Target == "" {
			continue
		}
		e, err := r.entry(ttl)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o entry) bool { return o.name == e.name }) {
			return nil, fmt.Errorf("records: %s is given twice", r.Name)
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	return out, nil
}

func (r record) entry(ttl uint32) (entry, error) {
	name := resolve.Clean(r.Name)
	if err := install.CheckHostname(name); err != nil {
		return entry{}, fmt.Errorf("records: %w", err)
	}
	e := entry{name: dns.Fqdn(name)}
	head := func(typ uint16) dns.RR_Header {
		return dns.RR_Header{Name: e.name, Rrtype: typ, Class: dns.ClassINET, Ttl: ttl}
	}
	if r.Target != "" {
		target := resolve.Clean(r.Target)
		if len(r.Addresses) > 0 {
			return e, fmt.Errorf("records: %s: give addresses or target, not both", name)
		}
		if err := install.CheckHostname(target); err != nil || target == name {
			return e, fmt.Errorf("records: %s: %q is not a name it can point to", name, r.Target)
		}
		e.rrs = []dns.RR{&dns.CNAME{Hdr: head(dns.TypeCNAME), Target: dns.Fqdn(target)}}
		return e, nil
	}
	var ips []netip.Addr
	for _, s := range r.Addresses {
		ip, err := netip.ParseAddr(s)
		if err != nil || ip.Zone() != "" {
			return e, fmt.Errorf("records: %s: %q is not an IP address", name, s)
		}
		ips = append(ips, ip.Unmap())
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	for _, ip := range slices.Compact(ips) {
		if ip.Is4() {
			e.rrs = append(e.rrs, &dns.A{Hdr: head(dns.TypeA), A: ip.AsSlice()})
			continue
		}
		e.rrs = append(e.rrs, &dns.AAAA{Hdr: head(dns.TypeAAAA), AAAA: ip.AsSlice()})
	}
	return e, nil
}

// text is a record as people and zone files write it.
func text(rr dns.RR) string { return strings.Join(strings.Fields(rr.String()), " ") }

// kind is type and value of a record: two are the same if these are.
func kind(rr dns.RR) string {
	typ := dns.TypeToString[rr.Header().Rrtype]
	switch t := rr.(type) {
	case *dns.A:
		return typ + " " + t.A.String()
	case *dns.AAAA:
		return typ + " " + t.AAAA.String()
	case *dns.CNAME:
		return typ + " " + dns.CanonicalName(t.Target)
	}
	return typ + " " + text(rr)
}

// kinds lists records by type and value, sorted.
func kinds(list []dns.RR) []string {
	var out []string
	for _, rr := range list {
		out = append(out, kind(rr))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func show(list []dns.RR) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(kinds(list), ", ")
}
