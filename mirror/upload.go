package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry/remote/auth"
)

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
