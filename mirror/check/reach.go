package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
)

// certificates says which file of the operator's holds a certificate.
type certificates interface {
	CAFile(c *x509.Certificate) string
}

// Certificate is one of the chain that the registry is trusted by, or of the one
// it showed if it is not.
type Certificate struct {
	Subject string    `json:"subject"`
	Names   []string  `json:"names,omitempty"` // of the server's
	Expires time.Time `json:"expires"`
	Trusted string    `json:"trusted,omitempty"` // of the last: the CA file, or "system"
}

// reach asks for /v2/ without credentials: it shows TLS, the clock and whether
// a registry answers at all.
func (c *checker) reach(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(""), http.NoBody)
	if err != nil {
		c.failed("reach", Fail, err)
		return false
	}
	before := c.o.Now()
	resp, err := c.o.Hosts.HTTPClient().Do(req)
	after := c.o.Now()
	if err != nil {
		c.unreached(err)
		return false
	}
	defer resp.Body.Close()
	// What a proxy or an index page writes here does not matter.
	_, _ = io.CopyN(io.Discard, resp.Body, maxBody)
	c.tls(resp.TLS)
	c.clock(resp.Header.Get("Date"), before.Add(after.Sub(before)/2))
	c.result.APIVersion = resp.Header.Get("Docker-Distribution-Api-Version")
	switch {
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusUnauthorized:
		text := "answers at /v2/"
		if v := c.result.APIVersion; v != "" {
			text += fmt.Sprintf(" as %q", v)
		}
		c.row("api", OK, text, "")
		return true
	case resp.StatusCode == http.StatusNotFound:
		c.row("api", Fail, "no registry at /v2/: it answered 404", "check host and port: some products serve their registry on a port of its own")
	default:
		c.row("api", Fail, fmt.Sprintf("/v2/ answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode)), "look at the registry and at any proxy before it")
	}
	return false
}

// unreached names what stands in the way, and shows the chain of a certificate
// that is not trusted.
func (c *checker) unreached(err error) {
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		c.chain(bad.UnverifiedCertificates)
	}
	explained := remote.Explain(err, c.ref.Name())
	if _, ok := errors.AsType[*remote.TLSError](explained); ok {
		remedy := "give the authority that signed the certificate with --ca-file, or use a name that the certificate has"
		if bad, ok := errors.AsType[x509.CertificateInvalidError](err); ok && bad.Reason == x509.Expired {
			remedy = "renew the certificate, and check this machine's clock"
		}
		c.row("tls", Fail, explained.Error(), remedy)
		return
	}
	c.row("reach", Fail, explained.Error(), "check the name, the network and any proxy; --resolve HOST:IP names an address by hand")
}

// tls describes the chain that was verified.
func (c *checker) tls(state *tls.ConnectionState) {
	if state == nil {
		c.row("tls", Warn, "plain HTTP: passwords can be read on the way", "serve the registry with TLS")
		return
	}
	list := state.PeerCertificates
	if len(state.VerifiedChains) > 0 {
		list = state.VerifiedChains[0]
	}
	c.chain(list)
	if len(list) == 0 {
		return // a client that accepts this is not ours
	}
	root := list[len(list)-1]
	trusted := c.o.Hosts.CAFile(root)
	if trusted == "" {
		trusted = "system"
	}
	c.result.Certificates[len(list)-1].Trusted = trusted
	// The first of a chain to end ends it.
	first := slices.MinFunc(list, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	text := fmt.Sprintf("%s, trusted through %q (%s), until %s", tls.VersionName(state.Version), name(root), trusted, first.NotAfter.UTC().Format(time.DateOnly))
	if left := first.NotAfter.Sub(c.o.Now()); left < expiryWarn {
		c.row("tls", Warn, fmt.Sprintf("%s: the certificate of %q ends in %d days", text, name(first), int(left.Hours()/24)), "renew it before it stops the installation")
		return
	}
	c.row("tls", OK, text, "")
}

func (c *checker) chain(list []*x509.Certificate) {
	for i, x := range list {
		cert := Certificate{Subject: name(x), Expires: x.NotAfter.UTC()}
		if i == 0 {
			cert.Names = slices.Clone(x.DNSNames)
			for _, ip := range x.IPAddresses {
				cert.Names = append(cert.Names, ip.String())
			}
		}
		c.result.Certificates = append(c.result.Certificates, cert)
	}
}

func name(x *x509.Certificate) string {
	if x.Subject.CommonName != "" {
		return x.Subject.CommonName
	}
	return x.Subject.String()
}

// clock compares the registry's clock, told in seconds, with ours.
func (c *checker) clock(date string, ours time.Time) {
	theirs, err := http.ParseTime(date)
	if err != nil {
		c.row("clock", Unknown, "the registry does not tell the time", "")
		return
	}
	skew := theirs.Sub(ours).Round(time.Second)
	d := Duration(skew)
	c.result.Skew = &d
	way := "ahead of"
	if skew < 0 {
		way = "behind"
	}
	text := fmt.Sprintf("the registry's clock is %s %s ours", skew.Abs(), way)
	if skew.Abs() <= time.Second { // it tells whole seconds
		text = "the registry's clock agrees with ours"
	}
	const remedy = "set both clocks, or have them follow one time server: tokens and signed requests carry the time"
	switch {
	case skew.Abs() > skewFail:
		c.row("clock", Fail, text, remedy)
	case skew.Abs() > skewWarn:
		c.row("clock", Warn, text, remedy)
	default:
		c.row("clock", OK, text, "")
	}
}

// login asks for /v2/ with credentials, and for the repository's tags: some
// token services answer a wrong password with a token for nobody.
func (c *checker) login(ctx context.Context) bool {
	resp, err := c.send(ctx, http.MethodGet, c.url(""), nil, nil)
	if err != nil {
		c.failed("credentials", Fail, err)
		return false
	}
	login := c.o.Hosts.Login(c.ref.Host)
	refused := make([]string, 0, len(login.Refused))
	for _, a := range login.Refused {
		refused = append(refused, fmt.Sprintf("%s: %d", a.Source, a.Status))
	}
	switch resp.status {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		text := fmt.Sprintf("%s: refused with %d", login.Source, resp.status)
		if len(refused) > 0 {
			text = "refused: " + strings.Join(refused, "; ")
		}
		c.row("credentials", Fail, text, "log in again (docker login, podman login), or give --username with --password-stdin, or --auth-file")
		return false
	default:
		c.failed("credentials", Fail, c.status(resp))
		return false
	}
	text := login.Source
	if !login.Expires.IsZero() {
		text += ", until " + login.Expires.UTC().Format(time.RFC3339)
	}
	if len(refused) > 0 {
		c.row("credentials", Warn, text+"; refused before it: "+strings.Join(refused, "; "), "remove the login that was refused, docker logout "+c.ref.Host)
		return true
	}
	c.row("credentials", OK, text, "")
	return true
}
