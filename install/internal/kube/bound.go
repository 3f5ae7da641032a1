package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

const (
	// requestTime bounds a request that does not stream, its answer included.
	requestTime = 60 * time.Second
	// maxAnswer bounds an answer: 5,000 pods have some 60 MB.
	maxAnswer = 128 << 20
	// maxRetry, in seconds, is how late a server may want to be asked again; a
	// client asks at most ten times.
	maxRetry = 10
)

// bounded ends every request in time, also where a login plugin hangs, and every
// answer at a size. It follows no redirect: credentials are for one server.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, end := req.Context(), context.CancelFunc(func() {})
	left := int64(math.MaxInt64)
	if q := req.URL.Query(); q.Get("watch") != "true" && q.Get("watch") != "1" && q.Get("follow") != "true" {
		ctx, end = context.WithTimeout(ctx, requestTime)
		left = maxAnswer
	}
	resp, err := b.answer(req.WithContext(ctx))
	if err == nil {
		err = cmp.Or(elsewhere(resp), page(resp))
	}
	if err != nil {
		end()
		return nil, err
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || s > maxRetry {
		resp.Header.Del("Retry-After") // clients wait as long as they are told
	}
	resp.Body = &body{ReadCloser: resp.Body, left: left, end: end}
	return resp, nil
}

// answer is the next transport's, which knows no end while it waits for a plugin.
func (b bounded) answer(req *http.Request) (*http.Response, error) {
	type answered struct {
		resp *http.Response
		err  error
	}
	var sent atomic.Bool
	ctx := context.WithValue(req.Context(), sentKey{}, &sent)
	done := make(chan answered, 1)
	go func() {
		resp, err := b.next.RoundTrip(req.WithContext(ctx)) //nolint:bodyclose // whoever receives it does
		done <- answered{resp, err}
	}()
	select {
	case a := <-done:
		return a.resp, a.err
	case <-ctx.Done():
	}
	go func() {
		if a := <-done; a.err == nil {
			_ = a.resp.Body.Close() // nobody waits for it any more
		}
	}()
	if !sent.Load() && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, fmt.Errorf("getting credentials: it gave none within %s", requestTime)
	}
	return nil, ctx.Err()
}

// sentKey is the key under which a request says whether it was sent.
type sentKey struct{}

// sending notes that a request has its credentials.
type sending struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (s sending) RoundTrip(req *http.Request) (*http.Response, error) {
	if sent, ok := req.Context().Value(sentKey{}).(*atomic.Bool); ok {
		sent.Store(true)
	}
	return s.next.RoundTrip(req)
}

// elsewhere refuses a redirect: the transport would add the credentials for
// whatever host it names, and over plain HTTP too.
func elsewhere(resp *http.Response) error {
	to := resp.Header.Get("Location")
	if resp.StatusCode < 300 || resp.StatusCode > 399 || to == "" {
		return nil
	}
	_ = resp.Body.Close() // it is not read
	if u, err := url.Parse(to); err == nil && u.Host != "" {
		to = u.Scheme + "://" + u.Host
	}
	return fmt.Errorf("it redirects to %s, which is not followed with credentials: give the server's own address in the kubeconfig", clean(to))
}

// ready is a configuration whose transport has all that a connection needs and is
// bounded: whoever makes clients of it, such as Helm, gets the same. login may be
// nil.
func ready(cfg *rest.Config, login *plugin) (*rest.Config, error) {
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return sending{next} })
	if login != nil {
		cfg.ExecProvider = nil
		cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return withPlugin{login, next} })
	}
	tc, err := cfg.TransportConfig()
	if err != nil {
		return nil, err
	}
	if login != nil {
		tc.TLS.GetCertHolder = &transport.GetCertHolder{GetCert: login.cert}
	}
	next, err := transport.New(tc)
	if err != nil {
		return nil, err
	}
	out := rest.AnonymousClientConfig(cfg)
	out.TLSClientConfig, out.Proxy, out.Dial = rest.TLSClientConfig{}, nil, nil
	out.WarningHandlerWithContext = cfg.WarningHandlerWithContext
	out.Transport, out.WrapTransport = bounded{next}, nil
	return out, nil
}

// largeError is the end of an answer without end.
type largeError struct{}

func (*largeError) Error() string {
	return fmt.Sprintf("the answer is larger than %d bytes", maxAnswer)
}

// page refuses what a proxy or a login page answers in place of the server.
func page(resp *http.Response) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode > 299 || kind != "text/html" {
		return nil
	}
	_ = resp.Body.Close() // it is not read
	return errors.New("what answers is no API server: it answers with an HTML page, as a proxy or a login page does")
}

// body is an answer that ends at its limit with an error, not as if it were whole.
type body struct {
	io.ReadCloser
	left int64
	end  context.CancelFunc
}

func (b *body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, &largeError{}
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}
