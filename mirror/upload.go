package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// errProtocol marks answers that no registry should give.
var errProtocol = errors.New("unexpected answer")

// errLogin says that credentials were asked for when a body was under way that
// cannot be sent twice.
var errLogin = errors.New("the registry asked for credentials in the middle of an upload")

// open starts an upload by asking for a mount, from another repository or, in
// place of a HEAD request, from the repository itself. A nil location means the
// blob is there.
func (e *engine) open(ctx context.Context, r, from *repo, d digest.Digest) (*url.URL, error) {
	q := url.Values{}
	if !e.mountable(r, from) {
		from = nil
	}
	// Not every registry that mounts says of a repository's own blob that it is
	// there: the closing run, which expects to find blobs, asks outright.
	switch {
	case e.mending.Load(): // whatever the registry says of it, it did not come back
	case e.noMount.Load() || e.opts.Closing && from == nil:
		if found, err := r.hasBlob(ctx, d); err != nil || found {
			return nil, err
		}
	default:
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

// mountable reports whether it makes sense to ask for a mount.
func (e *engine) mountable(r, from *repo) bool {
	if from == nil {
		return false
	}
	if e.state.CrossMount != target.MountProject {
		return true
	}
	a, _, _ := strings.Cut(r.path, "/")
	b, _, _ := strings.Cut(from.path, "/")
	return a == b
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
