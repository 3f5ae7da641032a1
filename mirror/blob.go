package mirror

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/remote"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

const (
	// maxAttempts bounds how often one blob is sent to one repository.
	maxAttempts  = 8
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 30 * time.Second
	// expectFrom is the size from which the registry is asked before the body
	// is sent: refusals (quota, rights, read-only) then cost no bytes.
	expectFrom = 1 << 20
	// eventEvery is how many bytes go by between two progress events.
	eventEvery = 256 << 10
)

// backoff is the wait before the next attempt: exponential with full jitter,
// but at least as long as the registry asked for.
func backoff(attempt int, err error) time.Duration {
	wait := rand.N(min(maxBackoff, firstBackoff<<(attempt-1))) + time.Millisecond
	if a, ok := errors.AsType[*answerError](err); ok {
		wait = max(wait, a.after)
	}
	return wait
}

func pause(ctx context.Context, attempt int, err error) error {
	t := time.NewTimer(backoff(attempt, err))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// bring sees to it that r has the blob: it is there, it is mounted from another
// repository, or it is sent. The unit of retry is the whole upload, because
// many registries lose a partial one.
func (e *engine) bring(ctx context.Context, r, from *repo, desc bundle.Descriptor) error {
	p := &progress{engine: e, object: desc.Digest.String(), size: desc.Size}
	resent := false
	for attempt := 1; ; attempt++ {
		sent, err := e.attempt(ctx, r, from, desc, p)
		if err == nil {
			e.count(desc, sent)
			p.finish(!sent)
			return nil
		}
		if _, ok := errors.AsType[*stepDown](err); ok {
			e.patch.Store(true)
			attempt-- // another way, not another try
			continue
		}
		again := retryable(err)
		if hasCode(err, errcode.ErrorCodeDigestInvalid) {
			// The source is verified while it streams, so it was damaged on its
			// way. Twice is no accident.
			again, resent = !resent, true
		}
		if !again || attempt == maxAttempts || ctx.Err() != nil {
			return err
		}
		if err := e.pause(ctx, attempt, err); err != nil {
			return err
		}
	}
}

func (e *engine) count(desc bundle.Descriptor, sent bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !sent {
		e.result.Reused++
		return
	}
	e.result.Sent++
	e.result.Bytes += desc.Size
}

// attempt opens an upload and, unless that found the blob, sends it.
func (e *engine) attempt(ctx context.Context, r, from *repo, desc bundle.Descriptor, p *progress) (sent bool, err error) {
	loc, err := e.open(ctx, r, from, desc.Digest)
	if err != nil || loc == nil {
		return false, err
	}
	patched := e.patch.Load()
	if patched {
		err = e.sendPatch(ctx, r, loc, desc, p)
	} else {
		err = e.sendPut(ctx, r, loc, desc, p)
	}
	if err == nil {
		return true, nil
	}
	r.abandon(ctx, loc)
	if !patched && wantsPatch(err) {
		err = &stepDown{err}
	}
	return false, err
}

// stepDown says that the registry, or a proxy before it, refused the way the
// body was sent and not the blob.
type stepDown struct{ error }

func (e *stepDown) Unwrap() error { return e.error }

func wantsPatch(err error) bool {
	s := status(err)
	return s == http.StatusMethodNotAllowed || s == http.StatusRequestEntityTooLarge ||
		s == http.StatusBadRequest && (hasCode(err, errcode.ErrorCodeSizeInvalid) || hasCode(err, "CONTENT_LENGTH_INVALID"))
}

func status(err error) int {
	if resp, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		return resp.StatusCode
	}
	return 0
}

func hasCode(err error, code string) bool {
	resp, ok := errors.AsType[*errcode.ErrorResponse](err)
	return ok && slices.ContainsFunc(resp.Errors, func(e errcode.Error) bool { return e.Code == code })
}

// openError marks an error from opening an upload, which the transport has
// retried where it could tell that this is safe.
type openError struct{ error }

func (e *openError) Unwrap() error { return e.error }

// retryable reports whether another upload may succeed.
func retryable(err error) bool {
	if _, ok := errors.AsType[*sourceError](err); ok {
		return false
	}
	if errors.Is(err, errProtocol) || errors.Is(err, context.Canceled) {
		return false
	}
	_, opening := errors.AsType[*openError](err)
	switch s := status(err); s {
	case 0:
		return !opening || !settled(err)
	case http.StatusTooManyRequests:
		return !opening
	case http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable:
		return !opening // the upload is lost, a new one may live
	case http.StatusRequestTimeout, http.StatusTooEarly, 499, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, 522:
		return true
	}
	return hasCode(err, errcode.ErrorCodeBlobUploadInvalid) || hasCode(err, errcode.ErrorCodeBlobUploadUnknown)
}

// settled reports whether an error below HTTP has been retried already or
// never passes.
func settled(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true
	}
	switch x := remote.Explain(err, "").(type) { //nolint:errorlint // Explain returns its type outermost
	case *remote.TLSError, *remote.PlainHTTPError, *remote.AuthError:
		return true
	default:
		_, dns := errors.AsType[*net.DNSError](x)
		return dns
	}
}
