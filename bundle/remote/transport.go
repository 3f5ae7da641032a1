package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/regular"
)

// Time limits. None bounds a transfer that moves.
const (
	dialTimeout      = 30 * time.Second
	handshakeTimeout = 20 * time.Second
	// idleTimeout bounds the wait for the next byte of a body, in either direction.
	idleTimeout = 60 * time.Second
	// answerTimeout bounds the wait for an answer. Registries on object storage
	// copy a blob between its last byte and their answer, hence so long for
	// requests that have a body.
	answerTimeout     = 90 * time.Second
	bodyAnswerTimeout = 10 * time.Minute
	// quietTimeout is when the wait for an answer is worth a word.
	quietTimeout = 5 * time.Second
	// maxRedirects bounds a chain of redirects, as oras-go and net/http do.
	maxRedirects = 10
	// maxPEM bounds a CA file; a system's whole bundle is about 230 KiB.
	maxPEM = 4 << 20
	// maxIdlePerHost keeps the connections of all who mirror at once.
	maxIdlePerHost = 40
	// maxHeader bounds the header of an answer.
	maxHeader = 256 << 10
)

// newHTTPClient stacks the transports: rules for hosts on the outside, then
// credentials that end, then retry, then the watch for stalls, which must see each attempt by itself.
func newHTTPClient(h *Hosts, roots *x509.CertPool, resolve map[string]string, o Options) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	base := &http.Transport{
		Proxy:                  proxyUnless(resolve),
		DialContext:            dialer(resolve),
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    handshakeTimeout,
		ExpectContinueTimeout:  5 * time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		MaxResponseHeaderBytes: maxHeader,
		// Sizes and digests are those of the bytes sent.
		DisableCompression: true,
		Protocols:          protocols,
	}
	attempts := o.Attempts
	if attempts <= 0 {
		attempts = defaultAttempts
	}
	agent := o.UserAgent
	if agent == "" {
		agent = "airlock"
	}
	retry := &retryTransport{base: &stallTransport{base: base, waiting: o.Waiting}, attempts: attempts}
	return &http.Client{
		Transport:     &ruleTransport{base: &renewTransport{base: retry, ring: h.keyring}, hosts: h, agent: agent},
		CheckRedirect: checkRedirect,
	}
}

// ruleTransport refuses plain HTTP to hosts that are not listed, whoever asks:
// a URL, a redirect or a token realm.
type ruleTransport struct {
	base  http.RoundTripper
	hosts *Hosts
	agent string
}

func (t *ruleTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !t.hosts.isPlain(req.URL.Host) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, &PlainHTTPError{Host: req.URL.Host, Asked: true}
	}
	if req.Header.Get("User-Agent") == "" {
		req = req.Clone(req.Context())
		req.Header.Set("User-Agent", t.agent)
	}
	resp, err := t.base.RoundTrip(req)
	if err == nil && req.Response != nil {
		// Answers to a redirected request carry a signed URL that oras-go would
		// put into its errors.
		resp.Request = withoutQuery(req)
	}
	return resp, err
}

func withoutQuery(req *http.Request) *http.Request {
	c := *req
	c.URL = &url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: req.URL.Path}
	return &c
}

// redirectError is a redirect that is not followed.
type redirectError struct{ reason string }

func (e *redirectError) Error() string { return e.reason }

// checkRedirect refuses to leave HTTPS and takes secrets away from every hop
// that is not the origin of the first request. net/http alone would send them
// to subdomains and to other ports.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return &redirectError{fmt.Sprintf("stopped after %d redirects", maxRedirects)}
	}
	last := via[len(via)-1]
	if last.URL.Scheme == "https" && req.URL.Scheme != "https" {
		return &redirectError{fmt.Sprintf("redirect from %s to %s leaves HTTPS: refused", last.URL.Host, req.URL.Host)}
	}
	for _, hop := range append(via[1:len(via):len(via)], req) {
		if hop.URL.Scheme != via[0].URL.Scheme || !strings.EqualFold(hop.URL.Host, via[0].URL.Host) {
			req.Header.Del("Authorization")
			req.Header.Del("Cookie")
		}
	}
	// A Referer holds the URL of the hop before, signature and all.
	req.Header.Del("Referer")
	return nil
}

func lookupResolve(resolve map[string]string, host, port string) (addr string, ok bool) {
	host = strings.ToLower(host)
	bare := host
	if strings.Contains(host, ":") {
		bare = "[" + host + "]"
	}
	to, ok := resolve[bare+":"+port]
	if !ok {
		to, ok = resolve[bare]
	}
	if !ok {
		return "", false
	}
	if ip, err := netip.ParseAddr(to); err == nil {
		return net.JoinHostPort(ip.String(), port), true
	}
	return to, true
}

func dialer(resolve map[string]string) func(context.Context, string, string) (net.Conn, error) {
	d := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf("dial %q: %w", addr, err)
		}
		if to, ok := lookupResolve(resolve, host, port); ok {
			addr = to
		}
		return d.DialContext(ctx, network, addr)
	}
}

// proxyUnless uses the environment's proxy, but not for a host whose address
// the operator gave.
func proxyUnless(resolve map[string]string) func(*http.Request) (*url.URL, error) {
	return func(req *http.Request) (*url.URL, error) {
		port := req.URL.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[req.URL.Scheme]
		}
		if _, ok := lookupResolve(resolve, req.URL.Hostname(), port); ok {
			return nil, nil
		}
		return http.ProxyFromEnvironment(req)
	}
}

// loadRoots returns the system's certificates and those of files, or nil,
// which means the system's, if there are no files; and the file that each
// certificate came from.
func loadRoots(files []string) (*x509.CertPool, map[string]string, error) {
	if len(files) == 0 {
		return nil, nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, nil, fmt.Errorf("load the system's CA certificates: %w", err)
	}
	from := map[string]string{}
	for _, name := range files {
		certs, err := readCertificates(name)
		if err != nil {
			return nil, nil, fmt.Errorf("read CA file %q: %w", name, err)
		}
		for _, c := range certs {
			pool.AddCert(c)
			from[string(c.Raw)] = name
		}
	}
	return pool, from, nil
}

func readCertificates(name string) ([]*x509.Certificate, error) {
	data, err := readLimited(name, maxPEM)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM certificate in it")
	}
	return certs, nil
}

// readLimited reads a whole file of at most limit bytes.
func readLimited(name string, limit int64) ([]byte, error) {
	data, err := regular.Read(name, limit)
	// The caller names the file.
	if e, ok := errors.AsType[*regular.TooLargeError](err); ok {
		return nil, fmt.Errorf("larger than %d bytes", e.Limit)
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, e.Err
	}
	return data, err
}
