package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// repo is one repository of the target. It is safe for concurrent use.
type repo struct {
	*remote.Repository
	path string // without the host
	name string // host/path, for people
	base string // URL up to the repository

	api       *remote.Repository // asks the referrers API, never the fallback tag
	referrers atomic.Int32       // how referrers are listed

	mu       sync.Mutex
	pushed   map[digest.Digest]*promise
	subjects map[digest.Digest]*sync.Mutex
}

// newRepo opens a repository.
func newRepo(hosts Hosts, host, path string) (*repo, error) {
	name := host + "/" + path
	r, err := hosts.Repository(name)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", name, err)
	}
	api, err := hosts.Repository(name)
	if err == nil {
		err = api.SetReferrersCapability(true)
	}
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", name, err)
	}
	scheme := "https"
	if r.PlainHTTP {
		scheme = "http"
	}
	return &repo{
		Repository: r,
		path:       path,
		name:       name,
		base:       scheme + "://" + r.Reference.Host() + "/v2/" + r.Reference.Repository,
		api:        api,
		pushed:     map[digest.Digest]*promise{},
		subjects:   map[digest.Digest]*sync.Mutex{},
	}, nil
}

// acceptManifests lists every manifest type, because some registries convert
// what they are not told is welcome.
var acceptManifests = strings.Join([]string{
	ocispec.MediaTypeImageIndex,
	ocispec.MediaTypeImageManifest,
	"application/vnd.docker.distribution.manifest.list.v2+json",
	"application/vnd.docker.distribution.manifest.v2+json",
	"application/vnd.oci.artifact.manifest.v1+json",
}, ", ")

// request makes a request that may push to the repository.
func (r *repo) request(ctx context.Context, method, url string, body io.Reader) (*http.Request, error) {
	ctx = auth.AppendRepositoryScope(ctx, r.Reference, auth.ActionPull, auth.ActionPush)
	return http.NewRequestWithContext(ctx, method, url, body)
}

// head returns the digest of what a tag or digest names, if it exists.
func (r *repo) head(ctx context.Context, reference string) (digest.Digest, bool, error) {
	resp, err := r.manifest(ctx, http.MethodHead, reference)
	if err != nil {
		return "", false, err
	}
	defer drain(resp)
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return "", false, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		// An answer to HEAD has no body: why it was refused is in the one to GET.
		return r.digestOf(ctx, reference)
	default:
		return "", false, readError(resp)
	}
	if d, err := digest.Parse(resp.Header.Get("Docker-Content-Digest")); err == nil {
		return d, true, nil
	}
	return r.digestOf(ctx, reference)
}

// digestOf reads a manifest whose digest the registry did not say.
func (r *repo) digestOf(ctx context.Context, reference string) (digest.Digest, bool, error) {
	resp, err := r.manifest(ctx, http.MethodGet, reference)
	if err != nil {
		return "", false, err
	}
	defer drain(resp)
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return "", false, nil
	default:
		return "", false, readError(resp)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, archive.MaxManifest+1))
	if err != nil {
		return "", false, err
	}
	if len(raw) > archive.MaxManifest {
		return "", false, fmt.Errorf("manifest %s:%s is larger than %d bytes", r.name, reference, archive.MaxManifest)
	}
	return digest.FromBytes(raw), true, nil
}

func (r *repo) manifest(ctx context.Context, method, reference string) (*http.Response, error) {
	req, err := r.request(ctx, method, r.base+"/manifests/"+reference, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", acceptManifests)
	return r.Client.Do(req)
}

// once does a piece of work for a digest once for all that ask; where it
// failed, the next one to ask tries again.
func (r *repo) once(ctx context.Context, d digest.Digest, work func() error) error {
	r.mu.Lock()
	p, ok := r.pushed[d]
	if !ok {
		p = newPromise()
		r.pushed[d] = p
	}
	r.mu.Unlock()
	if ok {
		return p.wait(ctx)
	}
	err := work()
	if err != nil {
		r.mu.Lock()
		delete(r.pushed, d)
		r.mu.Unlock()
	}
	p.fulfil(err)
	return err
}

// put writes a manifest under a tag or its digest. That the registry lists it
// under its subject is relate's business.
func (r *repo) put(ctx context.Context, n *node, reference string) error {
	return r.write(ctx, n.desc.MediaType, n.raw, reference)
}

// write stores bytes as a manifest.
func (r *repo) write(ctx context.Context, mediaType string, raw []byte, reference string) error {
	req, err := r.request(ctx, http.MethodPut, r.base+"/manifests/"+reference, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := r.Client.Do(req)
	if err != nil {
		return err
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusCreated {
		return readError(resp)
	}
	want := digest.FromBytes(raw).String()
	if got := resp.Header.Get("Docker-Content-Digest"); got != "" && got != want {
		return &VerifyError{Object: r.name + "@" + want, Err: fmt.Errorf("the registry stored it as %q", got)}
	}
	return nil
}

// answerError is an error answer with the wait that the registry asks for.
type answerError struct {
	*errcode.ErrorResponse
	after time.Duration
}

func (e *answerError) Unwrap() error { return e.ErrorResponse }

// maxErrorBody bounds what is read of an error answer.
const maxErrorBody = 8 << 10

// readError makes an error of an answer. The URL loses its query: upload
// locations carry state that is as good as a credential.
func readError(resp *http.Response) error {
	e := &answerError{
		ErrorResponse: &errcode.ErrorResponse{Method: resp.Request.Method, StatusCode: resp.StatusCode, URL: resp.Request.URL},
		after:         retryAfter(resp.Header.Get("Retry-After"), time.Now()),
	}
	if u := resp.Request.URL; u != nil {
		e.URL = &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		return e // the status says enough
	}
	var body struct {
		Errors errcode.Errors `json:"errors"`
	}
	if json.Unmarshal(raw, &body) == nil {
		e.Errors = body.Errors
	}
	return e
}

// maxRetryAfter caps what a registry may ask us to wait.
const maxRetryAfter = 2 * time.Minute

// retryAfter reads Retry-After (RFC 9110 section 10.2.3): seconds or a date.
func retryAfter(v string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		return min(time.Duration(n)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// drain makes the connection usable again, at small cost.
func drain(resp *http.Response) {
	// A body that cannot be read costs a connection, nothing else.
	_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody)
	resp.Body.Close()
}
