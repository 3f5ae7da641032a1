package blob

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

const (
	maxCA          = 1 << 20
	dialTimeout    = 5 * time.Second
	headerTimeout  = 30 * time.Second // until an answer begins
	bodyTimeout    = 30 * time.Second // from then on
	idleConnection = 30 * time.Second
)

// Clock compares the time of a service, as its answers say it, with this
// machine's. It is safe for concurrent use.
type Clock struct {
	mu   sync.Mutex
	skew time.Duration
	seen bool
	now  func() time.Time
}

// Skew is how far the service's clock is ahead of this machine's, by the last
// answer; ok is false if none told the time. The Date header has whole seconds.
func (c *Clock) Skew() (skew time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew, c.seen
}

func (c *Clock) note(h http.Header) {
	at, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew, c.seen = at.Sub(c.now()).Round(time.Second), true
}

// watch is a transport that notes what time the answers say, and bounds them.
type watch struct {
	base  http.RoundTripper
	clock *Clock
	wait  time.Duration // from the beginning of an answer to its end
}

func (w watch) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	resp, err := w.base.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	w.clock.note(resp.Header)
	resp.Body = bound(ctx, cancel, resp, w.wait)
	return resp, nil
}

// CloseIdleConnections lets http.Client close them.
func (w watch) CloseIdleConnections() {
	if t, ok := w.base.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// newTransport trusts the authorities of a PEM file, or this machine's. It uses
// no proxy: what is proved is the way that the application takes.
func newTransport(ca string, insecure bool) (watch, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure} //nolint:gosec // asked for, and reported as a risk
	if ca != "" {
		pool, err := readCA(ca)
		if err != nil {
			return watch{}, err
		}
		conf.RootCAs = pool
	}
	return watch{clock: &Clock{now: time.Now}, wait: bodyTimeout, base: &http.Transport{
		TLSClientConfig:       conf,
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       idleConnection,
		MaxIdleConnsPerHost:   4,
		ForceAttemptHTTP2:     true,
		// Content is compared as it was sent.
		DisableCompression: true,
	}}, nil
}

func readCA(path string) (*x509.CertPool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read ca: %w", err)
	}
	defer f.Close()
	pem, err := io.ReadAll(io.LimitReader(f, maxCA))
	if err != nil {
		return nil, fmt.Errorf("read ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read ca: %s holds no PEM certificate", path)
	}
	return pool, nil
}

// plain is a client without credentials that follows no redirects: a signed
// request that is sent elsewhere is a finding.
func plain(t http.RoundTripper) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
