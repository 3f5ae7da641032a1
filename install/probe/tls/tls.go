// Package tls is the probe tls.dial: what does a live endpoint present, and will
// clients that trust the site's authorities accept it.
package tls

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/dial"
)

// Codes. The checklist may report each under another, with codes:.
const (
	codeUnreachable = "NET-01"
	codeIntercepted = "NET-02"
	codeName        = "TLS-02"
	codeTrust       = "TLS-03"
	codeExpires     = "TLS-04"
	codeWeak        = "TLS-07"
	codeNotTLS      = "TLS-09"
)

const (
	defaultPort = "443"
	warnDays    = 30
)

// Probe is tls.dial. Now is the clock; nil means time.Now. It is safe for
// concurrent use.
type Probe struct {
	Now func() time.Time
}

// arguments are the step's with.
type arguments struct {
	Endpoint string            `json:"endpoint"` // host:port or a URL; port 443 if none is given
	Name     string            `json:"name"`     // clients ask for and verify; default: the endpoint's host
	CA       string            `json:"ca"`       // PEM file; without it the system's authorities count
	Cert     string            `json:"cert"`     // PEM file of the certificate that should be there, if known
	WarnDays int               `json:"warn_days"`
	Timeout  string            `json:"timeout"`
	Codes    map[string]string `json:"codes"` // code: the one to report instead
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{
		codeUnreachable: {"endpoint", "host", "port", "reason"},
		codeIntercepted: {"endpoint", "host", "issuer", "reason"},
		codeName:        {"endpoint", "host", "cert", "names"},
		codeTrust:       {"endpoint", "host", "cert", "issuer", "reason"},
		codeExpires:     {"endpoint", "subject", "date", "reason"},
		codeWeak:        {"endpoint", "subject", "reason"},
		codeNotTLS:      {"endpoint", "reason"},
	}
}

// check is one look at an endpoint.
type check struct {
	arguments
	at    dial.Endpoint
	wait  time.Duration
	roots *x509.CertPool
	found []install.Finding
}

// Run connects, records what is presented as evidence, and reports everything a
// client would refuse. It sends nothing after the handshake.
func (p Probe) Run(ctx context.Context, in install.Input) (install.Result, error) {
	c, err := prepare(in)
	if err != nil {
		return install.Result{}, err
	}
	seen, err := c.handshake(ctx, 0, 0)
	if ctx.Err() != nil {
		return install.Result{}, ctx.Err()
	}
	if err != nil {
		if _, ok := errors.AsType[*unreachableError](err); ok {
			c.add(codeUnreachable, install.SeverityFail, err.Error(), map[string]string{"host": c.at.Host, "port": c.at.Port, "reason": err.Error()})
		} else {
			c.add(codeNotTLS, install.SeverityFail, err.Error(), map[string]string{"reason": dial.NotTLS(err)})
		}
		return install.Result{Findings: c.found}, nil
	}
	now := time.Now
	if p.Now != nil {
		now = p.Now
	}
	if err := c.judge(seen, now()); err != nil {
		return install.Result{}, err
	}
	if err := c.versions(ctx, seen); err != nil {
		return install.Result{}, err
	}
	return install.Result{
		Findings: c.found,
		Outputs:  map[string]any{"tls.version": tls.VersionName(seen.Version), "tls.not_after": seen.Chain[0].NotAfter.UTC().Format(time.RFC3339)},
		Evidence: []install.Evidence{{Name: "chain", Media: "application/x-pem-file", Data: dial.PEM(seen.Chain)}},
	}, nil
}

func prepare(in install.Input) (*check, error) {
	c := &check{arguments: arguments{WarnDays: warnDays}}
	err := in.Decode(&c.arguments)
	if err != nil {
		return nil, err
	}
	if c.at, err = dial.Parse(c.Endpoint, defaultPort); err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	c.Endpoint = c.at.Address() // a URL may hold a password
	if c.Name == "" {
		c.Name = c.at.Host
	}
	if c.wait, err = dial.Timeout(c.Timeout); err != nil {
		return nil, err
	}
	if c.roots, err = dial.Pool(c.CA); err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	return c, nil
}

// unreachableError says why there is no connection at all.
type unreachableError struct{ reason string }

func (e *unreachableError) Error() string { return e.reason }

func (c *check) handshake(ctx context.Context, lowest, highest uint16) (dial.Presented, error) {
	conn, err := dial.TCP(ctx, c.Endpoint, c.wait)
	if err != nil {
		return dial.Presented{}, &unreachableError{dial.Reason(err)}
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	name := c.Name
	if net.ParseIP(name) != nil {
		name = "" // server names are names only (RFC 6066, section 3)
	}
	_, seen, err := dial.Handshake(ctx, conn, name, lowest, highest)
	if err != nil && seen.Asked && len(seen.Chain) > 0 {
		err = nil // it wants our certificate: what it presents is seen
	}
	if err == nil && len(seen.Chain) == 0 {
		err = errors.New("no certificate is presented")
	}
	return seen, err
}

func (c *check) add(code string, severity install.Severity, detail string, fields map[string]string) {
	fields["endpoint"] = c.Endpoint
	if own := c.Codes[code]; own != "" {
		code = own
	}
	c.found = append(c.found, install.Finding{Code: code, Severity: severity, Detail: c.Endpoint + ": " + detail, Fields: fields})
}

// judge reports the faults of a chain. A chain that clients do not trust, in
// place of the certificate that should be there, comes from something between.
func (c *check) judge(seen dial.Presented, now time.Time) error {
	between, err := c.foreign(seen.Chain[0])
	if err != nil {
		return err
	}
	for _, f := range dial.Judge(seen.Chain, dial.Wish{Name: c.Name, Roots: c.roots, WarnDays: c.WarnDays, Now: now}) {
		severity := install.SeverityFail
		if f.Warn {
			severity = install.SeverityWarn
		}
		detail := f.Subject + ": " + f.Reason
		switch {
		case f.What == dial.FaultName:
			c.add(codeName, severity, detail, map[string]string{"host": c.Name, "cert": f.Subject, "names": f.Names})
		case f.What == dial.FaultTrust && between:
			c.add(codeIntercepted, severity, detail, map[string]string{"host": c.Name, "issuer": f.Issuer, "reason": f.Reason})
		case f.What == dial.FaultTrust:
			c.add(codeTrust, severity, detail, map[string]string{"host": c.Name, "cert": f.Subject, "issuer": f.Issuer, "reason": f.Reason})
		case f.What == dial.FaultExpires:
			c.add(codeExpires, severity, detail, map[string]string{"subject": f.Subject, "date": f.Date, "reason": f.Reason})
		default:
			c.add(codeWeak, severity, detail, map[string]string{"subject": f.Subject, "reason": f.Reason})
		}
	}
	return nil
}

// foreign reports whether another certificate is presented than the expected.
func (c *check) foreign(leaf *x509.Certificate) (bool, error) {
	if c.Cert == "" {
		return false, nil
	}
	want, err := dial.Certificates(c.Cert)
	if err != nil {
		return false, fmt.Errorf("cert: %w", err)
	}
	return !bytes.Equal(want[0].Raw, leaf.Raw), nil
}

// versions reports an endpoint that speaks TLS older than 1.2, and warns of one
// that still can.
func (c *check) versions(ctx context.Context, seen dial.Presented) error {
	severity, version := install.SeverityFail, seen.Version
	if version >= tls.VersionTLS12 {
		old, err := c.handshake(ctx, tls.VersionTLS10, tls.VersionTLS11)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return nil //nolint:nilerr // refused, as it should be
		}
		severity, version = install.SeverityWarn, old.Version
	}
	reason := "it speaks " + tls.VersionName(version) + "; clients want TLS 1.2 or later"
	c.add(codeWeak, severity, reason, map[string]string{"subject": c.Endpoint, "reason": reason})
	return nil
}
