package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry/remote/auth"
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
	switch x := remote.Explain(err, "").(type) {
	case *remote.TLSError, *remote.PlainHTTPError, *remote.AuthError:
		return true
	default:
		_, dns := errors.AsType[*net.DNSError](x)
		return dns
	}
}

// errProtocol marks answers that no registry should give.
var errProtocol = errors.New("unexpected answer")

// open starts an upload by asking for a mount, from another repository or, in
// place of a HEAD request, from the repository itself. A nil location means the
// blob is there.
func (e *engine) open(ctx context.Context, r, from *repo, d digest.Digest) (*url.URL, error) {
	q := url.Values{}
	if e.noMount.Load() {
		if found, err := r.hasBlob(ctx, d); err != nil || found {
			return nil, err
		}
	} else {
		src := r
		if from != nil {
			src = from
			ctx = auth.AppendRepositoryScope(ctx, from.Reference, auth.ActionPull)
		}
		q.Set("mount", d.String())
		q.Set("from", src.Reference.Repository)
	}
	loc, err := r.post(ctx, q)
	if s := status(err); s/100 == 4 && len(q) > 0 && s != http.StatusTooManyRequests && s != http.StatusRequestTimeout {
		// Not every registry lets one mount, and rights differ by repository.
		// A plain upload shows what is really wrong.
		if loc, err = r.post(ctx, nil); err == nil && (s == http.StatusMethodNotAllowed || s == http.StatusBadRequest) {
			e.noMount.Store(true)
		}
	}
	if err != nil {
		return nil, &openError{err}
	}
	return loc, nil
}

// hasBlob asks for a blob where mount requests do not.
func (r *repo) hasBlob(ctx context.Context, d digest.Digest) (bool, error) {
	req, err := r.request(ctx, http.MethodHead, r.base+"/blobs/"+d.String(), http.NoBody)
	if err != nil {
		return false, err
	}
	resp, err := r.Client.Do(req)
	if err != nil {
		return false, &openError{err}
	}
	defer drain(resp)
	switch resp.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusNotFound:
		return false, nil
	}
	return false, &openError{readError(resp)}
}

func (r *repo) post(ctx context.Context, q url.Values) (*url.URL, error) {
	u := r.base + "/blobs/uploads/"
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := r.request(ctx, http.MethodPost, u, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := r.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer drain(resp)
	switch resp.StatusCode {
	case http.StatusCreated:
		if len(q) == 0 {
			return nil, fmt.Errorf("%w: 201 for an upload without content", errProtocol)
		}
		return nil, nil
	case http.StatusAccepted:
		return location(req.URL, resp)
	}
	return nil, readError(resp)
}

// location resolves where to send a body. It may be relative or on another
// host, whose credentials then apply, but never with less protection.
func location(from *url.URL, resp *http.Response) (*url.URL, error) {
	loc := resp.Header.Get("Location")
	if loc == "" {
		return nil, fmt.Errorf("%w: an upload without a location", errProtocol)
	}
	u, err := from.Parse(loc)
	if err != nil {
		// The location may carry state that is as good as a credential.
		return nil, fmt.Errorf("%w: an upload location that is no URL", errProtocol)
	}
	if u.Scheme != from.Scheme && (from.Scheme != "http" || u.Scheme != "https") {
		return nil, fmt.Errorf("%w: the upload location at %q leaves %s", errProtocol, u.Host, from.Scheme)
	}
	u.User = nil
	// Some registries drop the port they were asked on when it is the default:
	// the credentials are kept under the name with the port.
	if u.Host != from.Host && u.Port() == "" && strings.EqualFold(u.Hostname(), from.Hostname()) &&
		from.Port() == map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		u.Host = from.Host
	}
	return u, nil
}

// closing returns the location with the digest that ends the upload. What the
// registry put into the query stays.
func closing(loc *url.URL, d digest.Digest) string {
	u := *loc
	q := u.Query()
	q.Set("digest", d.String())
	u.RawQuery = q.Encode()
	return u.String()
}

// sendPut sends the blob with the request that ends the upload.
func (e *engine) sendPut(ctx context.Context, r *repo, loc *url.URL, desc bundle.Descriptor, p *progress) error {
	resp, err := e.send(ctx, r, http.MethodPut, closing(loc, desc.Digest), desc, p)
	if err != nil {
		return err
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusCreated {
		return readError(resp)
	}
	return nil
}

// sendPatch sends the blob in one piece and ends the upload after it. Pieces
// are never cut: some registries lose all but the first.
func (e *engine) sendPatch(ctx context.Context, r *repo, loc *url.URL, desc bundle.Descriptor, p *progress) error {
	resp, err := e.send(ctx, r, http.MethodPatch, loc.String(), desc, p)
	if err != nil {
		return err
	}
	defer drain(resp)
	switch resp.StatusCode {
	case http.StatusAccepted, http.StatusCreated, http.StatusNoContent:
	default:
		return readError(resp)
	}
	if resp.Header.Get("Location") != "" {
		if loc, err = location(loc, resp); err != nil {
			return err
		}
	}
	req, err := r.request(ctx, http.MethodPut, closing(loc, desc.Digest), http.NoBody)
	if err != nil {
		return err
	}
	end, err := r.Client.Do(req)
	if err != nil {
		return err
	}
	defer drain(end)
	if end.StatusCode != http.StatusCreated {
		return readError(end)
	}
	return nil
}

// send sends a blob's bytes. The request cannot be rewound on purpose: a
// transport that repeats it would send to an upload that may be spoilt.
func (e *engine) send(ctx context.Context, r *repo, method, to string, desc bundle.Descriptor, p *progress) (*http.Response, error) {
	p.start()
	src, err := e.src.Fetch(ctx, desc)
	if err != nil {
		return nil, &sourceError{err}
	}
	b := &body{src: src, left: desc.Size, progress: p}
	var content io.Reader = b
	if desc.Size == 0 {
		src.Close()
		content = http.NoBody
	}
	req, err := r.request(ctx, method, to, content)
	if err != nil {
		src.Close()
		return nil, err
	}
	req.ContentLength = desc.Size
	req.Header.Set("Content-Type", "application/octet-stream")
	if desc.Size >= expectFrom {
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := r.Client.Do(req)
	if bad := b.failure(); bad != nil {
		if err == nil {
			drain(resp)
		}
		return nil, bad
	}
	return resp, err
}

// abandon tells the registry that an upload will not be finished.
func (r *repo) abandon(ctx context.Context, loc *url.URL) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	req, err := r.request(ctx, http.MethodDelete, loc.String(), http.NoBody)
	if err != nil {
		return
	}
	// Registries drop unfinished uploads by themselves: this is a courtesy.
	if resp, err := r.Client.Do(req); err == nil {
		drain(resp)
	}
}

// sourceError is an error of the bundle, not of the registry.
type sourceError struct{ error }

func (e *sourceError) Unwrap() error { return e.error }

// body is a blob on its way out. The transport reads it in a goroutine of its
// own and may go on after the answer came.
type body struct {
	src      io.ReadCloser
	progress *progress

	mu   sync.Mutex
	left int64
	err  error
}

// Read implements io.Reader. An error of the source cuts the connection short
// of the announced length, so that the registry cannot take what came.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.src.Read(p)
	b.mu.Lock()
	b.left -= int64(n)
	if err == io.EOF && b.left > 0 { //nolint:errorlint // io.Reader's contract is the bare io.EOF
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF { //nolint:errorlint // see above
		b.err = &sourceError{err}
		err = b.err
	}
	b.mu.Unlock()
	b.progress.moved(int64(n))
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error { return b.src.Close() }

func (b *body) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// progress reports a blob's bytes. What an attempt sends again is not reported
// again.
type progress struct {
	engine *engine
	object string
	size   int64

	mu       sync.Mutex
	at, most int64 // of this attempt; of any attempt, as reported
}

func (p *progress) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = 0
}

func (p *progress) moved(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at += n
	if p.at-p.most >= eventEvery {
		p.engine.opts.Listener.Send(bundle.Event{Op: "push", Object: p.object, Bytes: p.at - p.most})
		p.most = p.at
	}
}

// finish reports the rest. A blob that was there counts with its size, so that
// what is reported adds up to the total.
func (p *progress) finish(reused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.engine.opts.Listener.Send(bundle.Event{
		Op: "push", Object: p.object, Bytes: p.size - p.most, Done: true, Reused: reused,
	})
}
