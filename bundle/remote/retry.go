package remote

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// How often and how long a request is tried.
const (
	defaultAttempts = 8
	// fewAttempts is for what seldom passes: nobody listens, and failures that
	// net/http has no exported name for.
	fewAttempts  = 3
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 30 * time.Second
	// maxRetryAfter caps what a host may ask us to wait.
	maxRetryAfter = 2 * time.Minute
	// maxElapsed is when no further attempt is started.
	maxElapsed = 10 * time.Minute
)

// retryTransport sends a request again after a transient failure: one where
// the connection broke or the host said it could not now. Only requests that
// may be repeated are, and only with a body that can be read again.
type retryTransport struct {
	base     http.RoundTripper
	attempts int
}

func (t *retryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	start := time.Now()
	for attempt := 1; ; attempt++ {
		resp, err := t.base.RoundTrip(req)
		if attempt >= t.attempts || ctx.Err() != nil || !repeatable(req, resp, err, attempt) {
			return resp, err
		}
		wait := backoff(attempt)
		if resp != nil {
			wait = max(wait, retryAfter(resp.Header.Get("Retry-After"), time.Now()))
		}
		if time.Since(start)+wait > maxElapsed {
			return resp, err
		}
		next, ok := rewind(req)
		if !ok {
			return resp, err
		}
		if resp != nil {
			drain(resp.Body)
		}
		if err := sleep(ctx, wait); err != nil {
			if next.Body != nil {
				next.Body.Close()
			}
			return nil, err
		}
		req = next
	}
}

// repeatable reports whether this outcome of this request may be tried again.
func repeatable(req *http.Request, resp *http.Response, err error, attempt int) bool {
	if err != nil {
		if unsent, again := dialFailure(err); unsent {
			return again && attempt < fewAttempts
		}
		return idempotent(req.Method) && mayPass(err, attempt)
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests: // said before anything was done, whatever the method
		return true
	case http.StatusRequestTimeout, http.StatusTooEarly, 499,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable,
		http.StatusGatewayTimeout, 522:
		return idempotent(req.Method)
	}
	return false
}

func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions:
		return true
	}
	return false
}

// dialFailure reports whether the request was never sent because no connection
// came about, and whether that may change.
func dialFailure(err error) (unsent, again bool) {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return true, dns.IsTemporary && !dns.IsNotFound
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial", true
}

// mayPass reports whether a connection that failed may fare better next time.
func mayPass(err error, attempt int) bool {
	if isTLS(err) || isHTTPAnswer(err) {
		return false
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return true
	}
	broke := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	return broke || attempt < fewAttempts
}

// rewind returns req with its body at the beginning again.
func rewind(req *http.Request) (*http.Request, bool) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, false
	}
	c := *req
	c.Body = body
	return &c, true
}

// backoff is exponential with full jitter, so that many clients do not come
// back at once.
func backoff(attempt int) time.Duration {
	limit := maxBackoff
	if attempt < 8 {
		limit = min(limit, firstBackoff<<(attempt-1))
	}
	return rand.N(limit) + time.Millisecond
}

// retryAfter reads Retry-After (RFC 9110 section 10.2.3), seconds or a date,
// capped at two minutes; what is malformed or past is no wait.
func retryAfter(v string, now time.Time) time.Duration {
	if v == "" {
		return 0
	}
	if n, err := strconv.ParseUint(v, 10, 64); err == nil {
		if n > uint64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// drain makes the connection of a refused request usable again, at small cost.
func drain(body io.ReadCloser) {
	// A body that cannot be read costs a connection, nothing else.
	_, _ = io.CopyN(io.Discard, body, 8<<10)
	body.Close()
}
