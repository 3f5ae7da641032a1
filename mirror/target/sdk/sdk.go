// Package sdk holds what adapters that use a provider's SDK share: clients for
// the requests that carry their secrets, and words for lists of names.
package sdk

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// MetadataTimeout bounds a question to a metadata service, which is on this
// machine or its link, or nowhere.
const MetadataTimeout = 5 * time.Second

// Doer sends the requests of a provider's SDK. Answers are bounded, redirects
// not followed: the requests carry secrets and no API redirects. It is safe for
// concurrent use.
type Doer struct {
	Client    *http.Client // made by WithoutRedirects
	Metadata  *http.Client // for plain HTTP to hosts that Near names; nil means Local
	Near      func(host string) bool
	MaxAnswer int64 // bytes of an answer that are read

	mu  sync.Mutex
	err error
}

// Do implements the interface for clients that the SDKs have in common.
func (d *Doer) Do(req *http.Request) (*http.Response, error) {
	c := d.Client
	near := d.Near
	if near == nil {
		near = Local
	}
	if req.URL.Scheme == "http" && near(req.URL.Hostname()) {
		c = d.Metadata
	}
	resp, err := c.Do(req)
	d.mu.Lock()
	d.err = err
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, d.MaxAnswer), resp.Body}
	return resp, nil
}

// Failure returns why the last request got no answer, of which some SDKs keep
// the text only.
func (d *Doer) Failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// WithoutRedirects returns a copy of a client that follows none and keeps no
// cookies.
func WithoutRedirects(c *http.Client) *http.Client {
	own := *c
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	own.Jar = nil
	return &own
}

// MetadataClient asks metadata services: no proxy, and little patience.
func MetadataClient() *http.Client {
	return WithoutRedirects(&http.Client{
		Timeout:   MetadataTimeout,
		Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: MetadataTimeout}).DialContext, DisableKeepAlives: true},
	})
}

// Local reports whether a name is an address of this machine or its link, where
// the metadata services of virtual machines, containers and functions are.
func Local(name string) bool {
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && (ip.IsLoopback() || ip.IsLinkLocalUnicast())
}

// QuoteSome lists the first few names and counts the rest.
func QuoteSome(names []string) string {
	const most = 3
	var b strings.Builder
	for i, n := range names {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(names)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", n)
	}
	return b.String()
}
