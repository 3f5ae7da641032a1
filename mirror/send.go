package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/airlock-project/airlock/bundle"
)

// sendPut sends the blob with the request that ends the upload.
func (e *engine) sendPut(ctx context.Context, r *repo, loc *url.URL, desc bundle.Descriptor, p *progress) error {
	b, err := e.body(ctx, desc, p)
	if err != nil {
		return err
	}
	defer b.Close()
	resp, err := r.send(ctx, http.MethodPut, closing(loc, desc.Digest), piece{body: b, size: desc.Size})
	if err != nil {
		return err
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusCreated {
		return readError(resp)
	}
	return nil
}

// maxChunk bounds what a registry may ask a piece to be at least.
const maxChunk = 1 << 30

// sendPatch sends the blob in pieces of the given size, or in one if that is
// the blob's, and ends the upload after them (distribution-spec 1.1, "Pushing a
// blob in chunks").
func (e *engine) sendPatch(ctx context.Context, r *repo, loc *url.URL, desc bundle.Descriptor, p *progress, size int64) error {
	b, err := e.body(ctx, desc, p)
	if err != nil {
		return err
	}
	defer b.Close()
	for at := int64(0); at < desc.Size; {
		part := piece{body: b, size: min(size, desc.Size-at)}
		if part.size < desc.Size {
			part.span = fmt.Sprintf("%d-%d", at, at+part.size-1)
		}
		next, least, err := r.patch(ctx, loc, part)
		if err != nil {
			return err
		}
		at += part.size
		loc, size = next, max(size, least)
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

// patch sends one piece. It returns where the next one goes and how large the
// registry wants it to be at least.
func (r *repo) patch(ctx context.Context, loc *url.URL, part piece) (next *url.URL, least int64, err error) {
	resp, err := r.send(ctx, http.MethodPatch, loc.String(), part)
	if err != nil {
		return nil, 0, err
	}
	defer drain(resp)
	switch resp.StatusCode {
	case http.StatusAccepted, http.StatusCreated, http.StatusNoContent:
	default:
		return nil, 0, readError(resp)
	}
	if n, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil {
		least = min(n, maxChunk)
	}
	if resp.Header.Get("Location") == "" {
		return loc, least, nil
	}
	next, err = location(loc, resp)
	return next, least, err
}

// piece is a part of a blob, or all of it.
type piece struct {
	body *body
	size int64
	span string // Content-Range of a part
}

// Read implements io.Reader over the piece; send bounds it.
func (p piece) Read(b []byte) (int, error) { return p.body.Read(b) }

// send sends a piece. The request cannot be rewound on purpose: a transport
// that repeats it would send to an upload that may be spoilt.
func (r *repo) send(ctx context.Context, method, to string, part piece) (*http.Response, error) {
	content := io.Reader(http.NoBody)
	if part.size > 0 {
		content = io.NopCloser(io.LimitReader(part, part.size))
	}
	req, err := r.request(ctx, method, to, content)
	if err != nil {
		return nil, err
	}
	req.ContentLength = part.size
	if part.size > 0 {
		req.GetBody = func() (io.ReadCloser, error) { return nil, errLogin }
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if part.span != "" {
		req.Header.Set("Content-Range", part.span)
	}
	if part.size >= expectFrom {
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := r.Client.Do(req)
	if bad := part.body.failure(); bad != nil {
		if err == nil {
			drain(resp)
		}
		return nil, bad
	}
	if errors.Is(err, errLogin) {
		return nil, errLogin // what the client says around it holds the URL
	}
	return resp, err
}

// body opens a blob for sending.
func (e *engine) body(ctx context.Context, desc bundle.Descriptor, p *progress) (*body, error) {
	p.start()
	src, err := e.src.Fetch(ctx, desc)
	if err != nil {
		return nil, &sourceError{err}
	}
	return &body{src: src, left: desc.Size, progress: p}, nil
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
