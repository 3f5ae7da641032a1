package dns

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/dial"
	"github.com/airlock-project/airlock/install/internal/resolve"
	"github.com/miekg/dns"
)

// Codes.
const (
	codeSilent  = "DNS-12"
	codeNone    = "DNS-09"
	codeRefused = "DNS-10"
	codeProof   = "DNS-11"
)

// fudge is the difference of clocks, in seconds, that a signature bears (RFC
// 8945, section 10).
const fudge = 300

// types are those that the action owns at a name.
var types = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeCNAME}

var algorithms = map[string]string{
	"hmac-sha256": dns.HmacSHA256, "hmac-sha384": dns.HmacSHA384, "hmac-sha512": dns.HmacSHA512, "hmac-sha224": dns.HmacSHA224,
}

// Update is dns.update. Its zero value is ready and safe for concurrent use.
type Update struct{}

// updateArguments are the step's with.
type updateArguments struct {
	Records []record `json:"records"`
	TTL     uint32   `json:"ttl"`
	Server  string   `json:"server"` // the zone's primary, host or host:port
	Zone    string   `json:"zone"`
	Key     string   `json:"key"`       // name of the TSIG key; without one nothing is signed
	Algo    string   `json:"algorithm"` // default hmac-sha256
	Secret  string   `json:"secret"`    // in base64
	Timeout string   `json:"timeout"`
}

// Codes implements install.Coder.
func (Update) Codes() map[string][]string {
	return map[string][]string{
		codeSilent:  {"server", "reason"},
		codeNone:    {},
		codeRefused: {"server", "zone", "name", "reason"},
		codeProof:   {"server", "name", "got", "want"},
	}
}

// update is one run of the action.
type update struct {
	updateArguments
	client  resolve.Client
	entries []entry
}

// Plan asks the server what there is, and lists what would change.
func (Update) Plan(ctx context.Context, in install.Input) (install.Change, error) {
	u, err := prepare(in)
	if err != nil {
		return install.Change{}, err
	}
	c := install.Change{Summary: fmt.Sprintf("update zone %s at %s", resolve.Clean(u.Zone), u.Server), Nothing: true}
	for _, e := range u.entries {
		have, err := u.have(ctx, e.name)
		if err != nil {
			return c, fmt.Errorf("ask %s for %s: %w", u.Server, resolve.Clean(e.name), err)
		}
		if same(have, e.rrs) {
			continue
		}
		c.Nothing = false
		c.Details = append(c.Details, fmt.Sprintf("%s: %s instead of %s", resolve.Clean(e.name), show(e.rrs), show(have)))
	}
	return c, nil
}

// Apply brings every name to what is wanted, one update for each, and asks the
// server again. An update holds only as long as the name still has the records
// that were seen (RFC 2136, section 2.4), so two who write at once do not undo
// each other's work unseen.
func (Update) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	u, err := prepare(in)
	if err != nil {
		return install.Result{}, err
	}
	var res install.Result
	if len(u.entries) == 0 {
		res.Findings = append(res.Findings, install.Finding{Code: codeNone, Detail: "no name has an address or a target"})
		return res, nil
	}
	for _, e := range u.entries {
		changed, f, err := u.bring(ctx, e)
		if ctx.Err() != nil {
			return res, ctx.Err()
		}
		if err != nil {
			f = &install.Finding{Code: codeSilent, Detail: u.Server + ": " + resolve.Reason(err), Fields: map[string]string{"server": u.Server, "reason": resolve.Reason(err)}}
		}
		res.Changed = res.Changed || changed
		if f != nil {
			res.Findings = append(res.Findings, *f)
			return res, nil
		}
	}
	return res, nil
}

func prepare(in install.Input) (*update, error) {
	u := &update{updateArguments: updateArguments{TTL: defaultTTL, Algo: "hmac-sha256"}}
	err := in.Decode(&u.updateArguments)
	if err != nil {
		return nil, err
	}
	if u.Server, err = resolve.Server(u.Server); err != nil {
		return nil, err
	}
	if err := install.CheckHostname(resolve.Clean(u.Zone)); err != nil {
		return nil, fmt.Errorf("zone: %w", err)
	}
	u.Zone = dns.CanonicalName(u.Zone)
	if u.client.Wait, err = dial.Timeout(u.Timeout); err != nil {
		return nil, err
	}
	if u.entries, err = entries(u.Records, u.TTL); err != nil {
		return nil, err
	}
	for _, e := range u.entries {
		if !dns.IsSubDomain(u.Zone, e.name) {
			return nil, fmt.Errorf("records: %s is not in zone %s", resolve.Clean(e.name), resolve.Clean(u.Zone))
		}
	}
	return u, u.sign()
}

// sign prepares the key. No error holds the secret.
func (u *update) sign() error {
	if u.Key == "" {
		if u.Secret != "" {
			return errors.New("a secret is given and no key that it belongs to")
		}
		return nil
	}
	if _, ok := dns.IsDomainName(u.Key); !ok {
		return fmt.Errorf("key %q is not a name", u.Key)
	}
	if algorithms[strings.ToLower(u.Algo)] == "" {
		return fmt.Errorf("algorithm %q is not one of hmac-sha224, hmac-sha256, hmac-sha384, hmac-sha512", u.Algo)
	}
	if raw, err := base64.StdEncoding.DecodeString(u.Secret); err != nil || len(raw) == 0 {
		return errors.New("the secret of the key is not base64, as tsig-keygen writes it")
	}
	u.Key = dns.CanonicalName(u.Key)
	u.client.Secrets = map[string]string{u.Key: u.Secret}
	return nil
}

// have asks the zone's server, without recursion, for what a name has. TCP: a
// forged answer must not steer a change.
func (u *update) have(ctx context.Context, name string) ([]dns.RR, error) {
	var out []dns.RR
	for _, typ := range types {
		m := new(dns.Msg).SetQuestion(name, typ)
		m.RecursionDesired = false
		r, err := u.exchange(ctx, m)
		if err != nil {
			return nil, err
		}
		if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
			return nil, &refusedError{resolve.Rcode(r.Rcode)}
		}
		for _, rr := range r.Answer {
			if dns.CanonicalName(rr.Header().Name) == dns.CanonicalName(name) && rr.Header().Rrtype == typ {
				out = append(out, rr)
			}
		}
	}
	return out, nil
}

// refusedError is an answer that is no.
type refusedError struct{ reason string }

func (e *refusedError) Error() string { return e.reason }

func same(have, want []dns.RR) bool { return slices.Equal(kinds(have), kinds(want)) }

// bring makes one name what is wanted and proves it.
func (u *update) bring(ctx context.Context, e entry) (changed bool, f *install.Finding, err error) {
	have, err := u.have(ctx, e.name)
	if err == nil && same(have, e.rrs) {
		return false, nil, nil
	}
	if err == nil {
		err = u.send(ctx, e, have)
	}
	if no, ok := errors.AsType[*refusedError](err); ok {
		return false, &install.Finding{
			Code: codeRefused, Detail: fmt.Sprintf("%s refuses to change %s: %s", u.Server, resolve.Clean(e.name), no.reason),
			Fields: map[string]string{"server": u.Server, "zone": resolve.Clean(u.Zone), "name": resolve.Clean(e.name), "reason": no.reason},
		}, nil
	}
	if err != nil {
		return false, nil, err
	}
	now, err := u.have(ctx, e.name)
	if err != nil {
		return true, nil, err
	}
	if !same(now, e.rrs) {
		return true, &install.Finding{
			Code: codeProof, Detail: fmt.Sprintf("%s still says %s of %s", u.Server, show(now), resolve.Clean(e.name)),
			Fields: map[string]string{"server": u.Server, "name": resolve.Clean(e.name), "got": show(now), "want": show(e.rrs)},
		}, nil
	}
	return true, nil, nil
}

// send replaces what was seen at a name by what is wanted.
func (u *update) send(ctx context.Context, e entry, have []dns.RR) error {
	m := new(dns.Msg).SetUpdate(u.Zone)
	for _, typ := range types {
		old := slices.DeleteFunc(slices.Clone(have), func(rr dns.RR) bool { return rr.Header().Rrtype != typ })
		if len(old) == 0 {
			m.RRsetNotUsed([]dns.RR{header(e.name, typ)})
			continue
		}
		m.Used(clones(old))
		m.RemoveRRset([]dns.RR{header(e.name, typ)})
	}
	m.Insert(clones(e.rrs))
	r, err := u.exchange(ctx, m)
	if err != nil {
		return err
	}
	if r.Rcode != dns.RcodeSuccess {
		return &refusedError{explain(r.Rcode)}
	}
	return nil
}

// exchange signs m, sends it, and takes only an answer that is signed as well.
func (u *update) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	if u.Key != "" {
		m.SetTsig(u.Key, algorithms[strings.ToLower(u.Algo)], fudge, time.Now().Unix())
	}
	r, err := u.client.Exchange(ctx, "tcp", u.Server, m)
	if reason := signatureReason(r, err); reason != "" {
		return nil, &refusedError{reason}
	}
	if err == nil && u.Key != "" && r.IsTsig() == nil {
		if r.Rcode == dns.RcodeSuccess {
			return nil, &refusedError{"its answer is not signed with the key"}
		}
		return nil, &refusedError{explain(r.Rcode)} // a refusal may come unsigned
	}
	return r, err
}

// signatureReason says what is wrong with the key.
func signatureReason(r *dns.Msg, err error) string {
	if r != nil {
		if t := r.IsTsig(); t != nil && t.Error != dns.RcodeSuccess {
			switch int(t.Error) {
			case dns.RcodeBadKey:
				return "BADKEY: it does not know the key"
			case dns.RcodeBadSig:
				return "BADSIG: the secret is not that of the key"
			case dns.RcodeBadTime:
				return "BADTIME: the clocks of the two machines differ by more than five minutes"
			}
			return resolve.Rcode(int(t.Error))
		}
	}
	switch {
	case errors.Is(err, dns.ErrSig), errors.Is(err, dns.ErrSecret), errors.Is(err, dns.ErrTime), errors.Is(err, dns.ErrKeyAlg), errors.Is(err, dns.ErrNoSig):
		return "its answer is not signed with the key"
	}
	return ""
}

// explain puts a response code of an update into words (RFC 2136, section 2.2).
func explain(rcode int) string {
	switch rcode {
	case dns.RcodeNotAuth:
		return "NOTAUTH: it is not the primary of the zone, or does not accept the key"
	case dns.RcodeNotZone:
		return "NOTZONE: the name is not in the zone"
	case dns.RcodeRefused:
		return "REFUSED: its policy forbids the change"
	case dns.RcodeNXRrset, dns.RcodeYXRrset, dns.RcodeNameError, dns.RcodeYXDomain:
		return resolve.Rcode(rcode) + ": the name was changed by another meanwhile"
	}
	return resolve.Rcode(rcode)
}

func header(name string, typ uint16) dns.RR {
	return &dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: typ, Class: dns.ClassINET}}
}

// clones keeps a message from changing the headers of what it takes.
func clones(list []dns.RR) []dns.RR {
	out := make([]dns.RR, len(list))
	for i, rr := range list {
		out[i] = dns.Copy(rr)
	}
	return out
}
