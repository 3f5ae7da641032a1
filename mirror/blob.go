package mirror

import (
	"cmp"
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
	// maxAttempts bounds how often one blob is sent to one repository, and how
	// often one other request is. fewAttempts is for what seldom passes.
	maxAttempts = 8
	fewAttempts = 3
	// maxElapsed is when no further attempt is started.
	maxElapsed   = 10 * time.Minute
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 30 * time.Second
	// expectFrom is the size from which the registry is asked before the body
	// is sent: refusals (quota, rights, read-only) then cost no bytes.
	expectFrom = 1 << 20
	// chunkSize is the size of the pieces of a blob that is too large for a proxy.
	chunkSize = 16 << 20
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
// many registries lose a partial one. f bounds how many are under way.
func (e *engine) bring(ctx context.Context, f *flow, r, from *repo, desc bundle.Descriptor) error {
	p := &progress{engine: e, object: desc.Digest.String(), size: desc.Size}
	start := time.Now()
	var odd oddities
	for attempt := 1; ; {
		if err := f.acquire(ctx); err != nil {
			return err
		}
		done := e.begin()
		sent, err := e.attempt(ctx, r, from, desc, p)
		done(err)
		f.release()
		if err == nil {
			e.count(r, desc, sent)
			p.finish(!sent)
			return nil
		}
		if down, ok := errors.AsType[*stepDown](err); ok {
			e.way.CompareAndSwap(down.from, down.from+1)
			continue // another way, not another try
		}
		again, wait := odd.judge(err)
		if !wait && again {
			continue
		}
		again = again || retryable(err, attempt) || e.away(err)
		if !again || attempt == maxAttempts || time.Since(start) > maxElapsed || ctx.Err() != nil {
			return err
		}
		if err := e.pause(ctx, attempt, err); err != nil {
			return err
		}
		attempt++
	}
}

// oddities are answers that are believed the second time only.
type oddities struct {
	damaged, login bool
}

// judge reports whether to try again in spite of an answer that is final
// otherwise, and whether to wait first.
func (o *oddities) judge(err error) (again, wait bool) {
	switch {
	case hasCode(err, errcode.ErrorCodeDigestInvalid) && !o.damaged:
		// The source is verified while it streams, so it was damaged on its way.
		// Twice is no accident.
		o.damaged = true
		return true, true
	case (errors.Is(err, errLogin) || status(err) == http.StatusUnauthorized) && !o.login:
		// A token ran out in the middle: the next upload begins with a fresh one.
		o.login = true
		return true, false
	}
	return false, true
}

// count notes what became of a blob.
func (e *engine) count(r *repo, desc bundle.Descriptor, sent bool) {
	how := "found"
	if sent {
		how = "sent"
	}
	e.rec.add(fact{Kind: factBlob, Repository: r.path, Digest: desc.Digest, How: how})
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
	way := e.way.Load()
	switch way {
	case wayPut:
		err = e.sendPut(ctx, r, loc, desc, p)
	case wayPatch:
		err = e.sendPatch(ctx, r, loc, desc, p, desc.Size)
	default:
		err = e.sendPatch(ctx, r, loc, desc, p, e.chunk())
	}
	if err == nil {
		return true, nil
	}
	r.abandon(ctx, loc)
	if way < e.lastWay() && tooMuch(err) {
		err = &stepDown{err, way}
	}
	return false, err
}

// Ways to send a body, the cheapest first.
const (
	wayPut    int32 = iota // with the request that ends the upload
	wayPatch               // in one piece before it
	wayChunks              // in pieces, where the registry is known to keep them
)

func (e *engine) lastWay() int32 {
	if e.target.Limits().Chunks {
		return wayChunks
	}
	return wayPatch
}

// chunk is the size of a piece.
func (e *engine) chunk() int64 {
	return cmp.Or(e.target.Limits().ChunkSize, chunkSize)
}

// stepDown says that the registry, or a proxy before it, refused the way the
// body was sent and not the blob.
type stepDown struct {
	error
	from int32
}

func (e *stepDown) Unwrap() error { return e.error }

func tooMuch(err error) bool {
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

// openError marks an error from opening an upload, when no byte of a body was
// sent.
type openError struct{ error }

func (e *openError) Unwrap() error { return e.error }

// retryable reports whether another upload may succeed after so many attempts.
func retryable(err error, attempt int) bool {
	if _, ok := errors.AsType[*sourceError](err); ok {
		return false
	}
	if passing(err, attempt) {
		return true
	}
	if _, opening := errors.AsType[*openError](err); opening {
		return false
	}
	switch status(err) {
	case http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable:
		return true // the upload is lost, a new one may live
	}
	return hasCode(err, errcode.ErrorCodeBlobUploadInvalid) || hasCode(err, errcode.ErrorCodeBlobUploadUnknown)
}

// passing reports whether a failure may be over after so many attempts.
func passing(err error, attempt int) bool {
	if errors.Is(err, errProtocol) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	switch status(err) {
	case 0:
		return broken(err, attempt)
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, 499,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, 522:
		return true
	}
	return false
}

// broken reports whether an error below HTTP may be over after so many
// attempts: nobody listening seldom is, a certificate never.
func broken(err error, attempt int) bool {
	if errors.Is(err, errLogin) {
		return true
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsTemporary && !dns.IsNotFound && attempt < fewAttempts
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return attempt < fewAttempts
	}
	switch remote.Explain(err, "").(type) { //nolint:errorlint // Explain returns these bare
	case *remote.UnreachableError:
		return true
	}
	return false
}
