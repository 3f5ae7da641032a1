// Package dns is the probe dns.records: do all name servers say of a name what
// they should.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/dial"
	"github.com/airlock-project/airlock/install/internal/resolve"
	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// Codes.
const (
	codeMissing  = "DNS-01"
	codeOther    = "DNS-02"
	codeDisagree = "DNS-03"
	codeFamily   = "DNS-04"
	codeFailure  = "DNS-05"
	codePublic   = "DNS-06"
	codeSilent   = "DNS-07"
	codeLoop     = "DNS-08"
	codeNone     = "DNS-09"
)

const (
	maxRecords = 100
	maxServers = 16
	bothFamily = "both"
)

// Probe is dns.records. Its zero value is ready and safe for concurrent use.
type Probe struct{}

// record is what is expected of one name. With neither addresses nor target it
// has to resolve, and to the same everywhere.
type record struct {
	Name      string   `json:"name"` // "" is passed over
	Addresses []string `json:"addresses"`
	Target    string   `json:"target"`   // its CNAME
	Families  string   `json:"families"` // both: IPv4 and IPv6 are needed
	Absent    bool     `json:"absent"`   // it must not exist here

	want []netip.Addr
}

// arguments are the step's with.
type arguments struct {
	Records       []record `json:"records"`
	Resolvers     []string `json:"resolvers"`     // host or host:port; none: those of this machine
	Authoritative string   `json:"authoritative"` // one more server, that of the zone
	Private       bool     `json:"private"`       // public addresses are wrong
	Own           []string `json:"own"`           // networks that are the site's, whatever they look like
	Timeout       string   `json:"timeout"`       // of one exchange

	own []netip.Prefix
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{
		codeMissing:  {"resolver", "name", "reason"},
		codeOther:    {"resolver", "name", "got", "want"},
		codeDisagree: {"resolver", "name", "got", "other", "want"},
		codeFamily:   {"resolver", "name", "got", "reason"},
		codeFailure:  {"resolver", "name", "rcode"},
		codePublic:   {"resolver", "name", "address"},
		codeSilent:   {"resolver", "name", "proto", "reason"},
		codeLoop:     {"resolver", "name", "chain"},
		codeNone:     {},
	}
}

// Run asks every server for every name, over UDP and then TCP.
func (Probe) Run(ctx context.Context, in install.Input) (install.Result, error) {
	a, servers, client, err := prepare(in)
	if err != nil {
		return install.Result{}, err
	}
	if len(a.Records) == 0 {
		return install.Result{Findings: []install.Finding{{Code: codeNone, Detail: "no name is given"}}}, nil
	}
	views := make([]*view, len(servers))
	g, ctx := errgroup.WithContext(ctx)
	for i, server := range servers {
		views[i] = &view{arguments: a, server: server, client: client, seen: map[string]sight{}}
		g.Go(func() error { return views[i].look(ctx) })
	}
	if err := g.Wait(); err != nil {
		return install.Result{}, err
	}
	var res install.Result
	var log strings.Builder
	for _, v := range views {
		res.Findings = append(res.Findings, v.found...)
		v.write(&log)
	}
	res.Findings = append(res.Findings, a.compare(views)...)
	res.Evidence = []install.Evidence{{Name: "answers", Media: "text/plain", Data: []byte(log.String())}}
	return res, nil
}

func prepare(in install.Input) (a arguments, servers []string, client resolve.Client, err error) {
	if err = in.Decode(&a); err != nil {
		return a, nil, client, err
	}
	if client.Wait, err = dial.Timeout(a.Timeout); err != nil {
		return a, nil, client, err
	}
	a.Records = slices.DeleteFunc(a.Records, func(r record) bool { return r.Name == "" })
	if len(a.Records) > maxRecords || len(a.Resolvers) >= maxServers {
		return a, nil, client, fmt.Errorf("%d names and %d resolvers are given; at most %d and %d are asked", len(a.Records), len(a.Resolvers), maxRecords, maxServers-1)
	}
	for i := range a.Records {
		if err = a.Records[i].check(); err != nil {
			return a, nil, client, err
		}
	}
	for _, s := range a.Own {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return a, nil, client, fmt.Errorf("own: %q is not a network such as 10.0.0.0/16", s)
		}
		a.own = append(a.own, p)
	}
	servers, err = a.servers()
	return a, servers, client, err
}

func (a arguments) servers() ([]string, error) {
	list := slices.Clone(a.Resolvers)
	if a.Authoritative != "" {
		list = append(list, a.Authoritative)
	}
	if len(a.Resolvers) == 0 {
		system, err := resolve.System()
		if err != nil {
			return nil, err
		}
		list = append(system, list...)
	}
	for i := range list {
		s, err := resolve.Server(list[i])
		if err != nil {
			return nil, err
		}
		list[i] = s
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

func (r *record) check() error {
	r.Name = resolve.Clean(r.Name)
	if err := install.CheckHostname(r.Name); err != nil {
		return fmt.Errorf("records: %w", err)
	}
	if r.Target = resolve.Clean(r.Target); r.Target != "" && len(r.Addresses) > 0 {
		return fmt.Errorf("records: %s: give addresses or target, not both", r.Name)
	}
	for _, s := range r.Addresses {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("records: %s: %q is not an IP address", r.Name, s)
		}
		r.want = append(r.want, ip.Unmap())
	}
	slices.SortFunc(r.want, netip.Addr.Compare)
	r.want = slices.Compact(r.want)
	return nil
}

// sight is what one server says of one name.
type sight struct {
	chain []string
	addrs []netip.Addr
	ttl   uint32
	rcode int
}

// view is the world as one server shows it.
type view struct {
	arguments
	server string
	client resolve.Client
	seen   map[string]sight
	found  []install.Finding
}

// add keeps a finding; it always names the server and the name.
func (v *view) add(code, name, detail string, fields map[string]string) {
	fields["resolver"], fields["name"] = v.server, name
	v.found = append(v.found, install.Finding{Code: code, Detail: fmt.Sprintf("%s at %s: %s", name, v.server, detail), Fields: fields})
}

// look asks one server for everything. One that is silent is not asked again.
func (v *view) look(ctx context.Context) error {
	for _, r := range v.Records {
		s, err := v.ask(ctx, "udp", r.Name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if r.Absent || v.failed(r.Name, "udp", err) {
				continue
			}
			return nil
		}
		v.judge(ctx, r, s)
		v.seen[r.Name] = s
		if r.Absent {
			continue
		}
		if err := v.overTCP(ctx, r, s); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// failed reports a question without an answer; again is whether the server may
// know another name.
func (v *view) failed(name, proto string, err error) (again bool) {
	if loop, ok := errors.AsType[*resolve.LoopError](err); ok {
		v.add(codeLoop, name, err.Error(), map[string]string{"chain": strings.Join(loop.Chain, " -> ")})
		return true
	}
	v.add(codeSilent, name, proto+": "+resolve.Reason(err), map[string]string{"proto": proto, "reason": resolve.Reason(err)})
	return false
}

func (v *view) ask(ctx context.Context, network, name string) (sight, error) {
	four, err := v.client.Lookup(ctx, network, v.server, name, dns.TypeA)
	if err != nil {
		return sight{}, err
	}
	s := sight{chain: four.Chain, addrs: four.Addrs, ttl: four.TTL, rcode: four.Rcode}
	if four.Rcode != dns.RcodeSuccess {
		return s, nil
	}
	six, err := v.client.Lookup(ctx, network, v.server, name, dns.TypeAAAA)
	if err != nil {
		return sight{}, err
	}
	s.addrs, s.rcode = append(s.addrs, six.Addrs...), six.Rcode
	return s, nil
}

// overTCP asks again: firewalls forget that DNS has a second transport, which
// long answers need. That it is missing is a warning, that it differs is not.
func (v *view) overTCP(ctx context.Context, r record, udp sight) error {
	s, err := v.ask(ctx, "tcp", r.Name)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		v.failed(r.Name, "tcp", err)
		v.found[len(v.found)-1].Severity = install.SeverityWarn
		return nil
	}
	if s.rcode != udp.rcode || !slices.Equal(s.addrs, udp.addrs) {
		v.add(codeDisagree, r.Name, "it answers otherwise over TCP", map[string]string{
			"got": s.show(), "other": v.server + " over UDP", "want": udp.show(),
		})
	}
	return nil
}

func (s sight) show() string {
	if s.rcode != dns.RcodeSuccess {
		return resolve.Rcode(s.rcode)
	}
	return resolve.Show(s.addrs)
}

func (v *view) write(log *strings.Builder) {
	for _, r := range v.Records {
		if s, ok := v.seen[r.Name]; ok {
			fmt.Fprintf(log, "%s %s %s %s ttl %d via %s\n", v.server, r.Name, resolve.Rcode(s.rcode), resolve.Show(s.addrs), s.ttl, strings.Join(s.chain, " "))
		}
	}
}
