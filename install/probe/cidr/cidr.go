// Package cidr is the probe cidr.overlap: do networks that must be apart share
// addresses. A pod network that lies over the database's hides it from every pod.
package cidr

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/airlock-project/airlock/install"
)

// Codes. The checklist may give each another one, with codes:.
const (
	codeOverlap = "CIDR-01"
	codeSyntax  = "CIDR-02"
)

// maxNetworks bounds what is compared pair by pair.
const maxNetworks = 500

// Probe is cidr.overlap. Its zero value is ready and safe for concurrent use.
type Probe struct{}

// arguments are the step's with.
type arguments struct {
	Networks map[string]any    `json:"networks"` // what it is for: a network, an address or a list of them
	Together [][2]string       `json:"together"` // pairs of keys that may share addresses
	Codes    map[string]string `json:"codes"`
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{codeOverlap: {"name", "value", "other", "other_value"}, codeSyntax: {"name", "value", "reason"}}
}

// network is one network with what it is for.
type network struct {
	name   string
	prefix netip.Prefix
}

// Offline implements install.Offline.
func (Probe) Offline() {}

// Run compares every two networks of different names. Networks of one name may
// overlap: a range is often given beside its parts.
func (p Probe) Run(_ context.Context, in install.Input) (install.Result, error) {
	var a arguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	for code := range a.Codes {
		if _, ok := p.Codes()[code]; !ok {
			return install.Result{}, fmt.Errorf("codes: this kind reports no %q", code)
		}
	}
	all, found, err := a.read()
	if err != nil {
		return install.Result{}, err
	}
	for i, n := range all {
		for _, m := range all[i+1:] {
			if n.name == m.name || !n.prefix.Overlaps(m.prefix) || a.mayShare(n.name, m.name) {
				continue
			}
			found = append(found, a.finding(codeOverlap, fmt.Sprintf("%s %s and %s %s share addresses", n.name, n.prefix, m.name, m.prefix),
				map[string]string{"name": n.name, "value": n.prefix.String(), "other": m.name, "other_value": m.prefix.String()}))
		}
	}
	return install.Result{Findings: found}, nil
}

func (a arguments) finding(code, detail string, fields map[string]string) install.Finding {
	if own, ok := a.Codes[code]; ok {
		code = own
	}
	return install.Finding{Code: code, Detail: detail, Fields: fields}
}

func (a arguments) mayShare(x, y string) bool {
	return slices.ContainsFunc(a.Together, func(p [2]string) bool { return p == [2]string{x, y} || p == [2]string{y, x} })
}

// read parses all networks, in the order of their names.
func (a arguments) read() (all []network, found []install.Finding, err error) {
	for _, name := range slices.Sorted(maps.Keys(a.Networks)) {
		list, ok := a.Networks[name].([]any)
		if !ok {
			list = []any{a.Networks[name]}
		}
		for _, v := range list {
			s, ok := v.(string)
			if !ok {
				return nil, nil, fmt.Errorf("networks.%s: want text or a list of texts", name)
			}
			prefix, reason := parse(s)
			if reason != "" {
				found = append(found, a.finding(codeSyntax, fmt.Sprintf("%s: %q %s", name, s, reason), map[string]string{"name": name, "value": s, "reason": reason}))
				continue
			}
			all = append(all, network{name, prefix})
		}
	}
	if len(all) > maxNetworks {
		return nil, nil, fmt.Errorf("%d networks are more than %d", len(all), maxNetworks)
	}
	return all, found, nil
}

// parse reads a network, or one address as a network of its own. An IPv4 address
// written as IPv6 is the IPv4 address.
func parse(s string) (p netip.Prefix, reason string) {
	if addr, err := netip.ParseAddr(s); err == nil {
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), ""
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, "is not a network such as 10.0.0.0/16"
	case p.Masked() != p:
		return p, "has bits set beyond its length; the network is " + p.Masked().String()
	case p.Addr().Is4In6():
		return p, "is an IPv4 network written as IPv6"
	}
	return p, ""
}
