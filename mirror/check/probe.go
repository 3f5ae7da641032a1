package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// nothing is a digest that no content has.
var nothing = digest.NewDigestFromEncoded(digest.SHA256, strings.Repeat("0", 64))

// answer is a response whose body was read.
type answer struct {
	status int
	header http.Header
	body   []byte
	url    *url.URL
	method string
}

// send sends a request with the credentials of the repository.
func (c *checker) send(ctx context.Context, method, address string, header http.Header, body []byte) (*answer, error) {
	ctx = auth.AppendScopesForHost(ctx, c.ref.Host, auth.ScopeRepository(c.ref.Repository, actions(method)...))
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	resp, err := c.o.Hosts.AuthFor(c.ref).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxBody {
		return nil, fmt.Errorf("answer to %s %s: larger than %d bytes", method, req.URL.Path, maxBody)
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: data, url: req.URL, method: method}, nil
}

// actions are what a token has to allow.
func actions(method string) []string {
	switch method {
	case http.MethodGet, http.MethodHead:
		return []string{auth.ActionPull}
	case http.MethodDelete:
		return []string{auth.ActionPull, auth.ActionPush, auth.ActionDelete}
	}
	return []string{auth.ActionPull, auth.ActionPush}
}

// codes are the error codes of an answer (distribution-spec 1.1, "Error Codes").
func (a *answer) codes() errcode.Errors {
	var doc struct {
		Errors errcode.Errors `json:"errors"`
	}
	if json.Unmarshal(a.body, &doc) == nil {
		return doc.Errors
	}
	return nil // a proxy's page, or nothing: the status has to do
}

func (a *answer) has(code string) bool {
	for _, e := range a.codes() {
		if e.Code == code {
			return true
		}
	}
	return false
}

// status makes the error that adapters know how to read.
func (c *checker) status(a *answer) error {
	u := *a.url
	u.RawQuery = ""
	return &errcode.ErrorResponse{Method: a.method, URL: &u, StatusCode: a.status, Errors: a.codes()}
}

// read finds out what can be found out without writing.
func (c *checker) read(ctx context.Context) {
	resp, err := c.send(ctx, http.MethodGet, c.url(c.ref.Repository+"/tags/list?n=1"), nil, nil)
	switch {
	case err != nil:
		c.failed("pull", Fail, err)
		return
	case resp.status == http.StatusOK:
		c.row("pull", OK, fmt.Sprintf("may read %q", c.ref.Repository), "")
	case resp.status == http.StatusNotFound:
		c.row("pull", OK, fmt.Sprintf("%q is not there yet", c.ref.Repository), "")
	default:
		c.failed("pull", Warn, c.status(resp))
	}
	c.referrers(ctx)
}

// referrers asks for what refers to nothing (distribution-spec 1.1, "Listing
// Referrers"): a registry that has the API answers with an empty index.
func (c *checker) referrers(ctx context.Context) {
	const key = "referrers"
	resp, err := c.send(ctx, http.MethodGet, c.url(c.ref.Repository+"/referrers/"+nothing.String()), nil, nil)
	switch {
	case err != nil:
		c.failed(key, Warn, err)
	case resp.status == http.StatusOK && strings.HasPrefix(resp.header.Get("Content-Type"), ocispec.MediaTypeImageIndex):
		c.capability(key, true, "has the referrers API")
	case resp.status == http.StatusNotFound && resp.has(errcode.ErrorCodeNameUnknown):
		c.row(key, Unknown, "the repository is not there yet: name one that is with --repository", "")
	case resp.status == http.StatusNotFound, resp.status == http.StatusMethodNotAllowed, resp.status == http.StatusBadRequest, resp.status == http.StatusOK:
		c.capability(key, false, "has no referrers API: signatures are kept under fallback tags")
	default:
		c.failed(key, Warn, c.status(resp))
	}
}

// write opens uploads and gives them up. Nothing is stored.
func (c *checker) write(ctx context.Context) {
	if !c.push(ctx) {
		return
	}
	c.singlePost(ctx)
	c.chunked(ctx)
	c.selfMount(ctx)
	c.manifest(ctx)
	c.remove(ctx)
}

// open starts an upload (distribution-spec 1.1, "Pushing a blob in chunks").
func (c *checker) open(ctx context.Context) (location string, err error) {
	resp, err := c.send(ctx, http.MethodPost, c.url(c.ref.Repository+"/blobs/uploads/"), nil, nil)
	if err != nil {
		return "", err
	}
	if resp.status != http.StatusAccepted {
		return "", c.status(resp)
	}
	return c.location(resp)
}

// location is where an upload goes on. It must be where credentials may go.
func (c *checker) location(a *answer) (string, error) {
	u, err := a.url.Parse(a.header.Get("Location"))
	if err != nil || a.header.Get("Location") == "" {
		return "", errors.New("the upload has no usable Location")
	}
	if u.Scheme != a.url.Scheme {
		return "", fmt.Errorf("the upload's Location goes from %s to %q: look at the registry's external URL", a.url.Scheme, u.Scheme)
	}
	return u.String(), nil
}

// giveUp cancels an upload. Registries clear those that stay open by age, so
// that it does not work is no more than worth a word.
func (c *checker) giveUp(ctx context.Context, location string) string {
	resp, err := c.send(ctx, http.MethodDelete, location, nil, nil)
	if err != nil || resp.status >= 300 {
		return "; the upload could not be cancelled, the registry clears it by age"
	}
	return ""
}

func (c *checker) push(ctx context.Context) bool {
	location, err := c.open(ctx)
	if err != nil {
		c.failed("push", Fail, err)
		return false
	}
	c.row("push", OK, fmt.Sprintf("may push to %q", c.ref.Repository)+c.giveUp(ctx, location), "")
	return true
}

// singlePost sends a body under a digest it does not have: a registry that
// reads it must refuse it, one that does not answers with an upload.
func (c *checker) singlePost(ctx context.Context) {
	const key = "single-post"
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	resp, err := c.send(ctx, http.MethodPost, c.url(c.ref.Repository+"/blobs/uploads/?digest="+nothing.String()), header, []byte("airlock registry check"))
	switch {
	case err != nil:
		c.failed(key, Warn, err)
	case resp.status == http.StatusAccepted:
		c.capability(key, false, "takes a blob in two requests")
		if location, err := c.location(resp); err == nil {
			c.giveUp(ctx, location)
		}
	case resp.status == http.StatusBadRequest:
		c.capability(key, true, "takes a small blob in one request")
	case resp.status == http.StatusCreated:
		c.row(key, Fail, "the registry accepts content under a digest that it does not have", "do not use it: nothing in it can be relied on")
	default:
		c.row(key, Unknown, fmt.Sprintf("answered %d", resp.status), "")
	}
}

// chunked sends two chunks in order and looks whether both were counted: some
// registries accept the second and lose it.
func (c *checker) chunked(ctx context.Context) {
	const key = "chunked-upload"
	location, err := c.open(ctx)
	if err != nil {
		c.failed(key, Warn, err)
		return
	}
	const half = 16
	for i := range 2 {
		header := http.Header{"Content-Type": {"application/octet-stream"}, "Content-Range": {fmt.Sprintf("%d-%d", i*half, (i+1)*half-1)}}
		resp, err := c.send(ctx, http.MethodPatch, location, header, bytes.Repeat([]byte{'a'}, half))
		if err != nil {
			c.failed(key, Warn, err)
			break
		}
		if end, ok := rangeEnd(resp.header.Get("Range")); resp.status != http.StatusAccepted || !ok || end != (i+1)*half-1 {
			c.capability(key, false, fmt.Sprintf("chunk %d answered %d with Range %q: blobs are sent whole", i+1, resp.status, resp.header.Get("Range")))
			break
		}
		if next, err := c.location(resp); err == nil {
			location = next
		}
		if i == 1 {
			c.capability(key, true, "takes blobs in chunks")
		}
	}
	c.giveUp(ctx, location)
}

// rangeEnd reads "0-31" (distribution-spec 1.1 has no unit in it).
func rangeEnd(s string) (int, bool) {
	first, last, ok := strings.Cut(strings.TrimPrefix(s, "bytes="), "-")
	n, err := strconv.Atoi(last)
	return n, ok && err == nil && first == "0"
}

// selfMount mounts a blob that is there into the repository it is in.
func (c *checker) selfMount(ctx context.Context) {
	const key = "self-mount"
	d, err := c.present(ctx)
	if err != nil {
		c.row(key, Unknown, "needs a repository with an image in it: name one with --repository", "")
		return
	}
	q := url.Values{"mount": {d.String()}, "from": {c.ref.Repository}}
	resp, err := c.send(ctx, http.MethodPost, c.url(c.ref.Repository+"/blobs/uploads/?"+q.Encode()), nil, nil)
	switch {
	case err != nil:
		c.failed(key, Warn, err)
	case resp.status == http.StatusCreated:
		c.capability(key, true, "mounts blobs: one request for a blob that is there")
	case resp.status == http.StatusAccepted:
		c.capability(key, false, "does not mount blobs: each is asked for first")
		if location, err := c.location(resp); err == nil {
			c.giveUp(ctx, location)
		}
	default:
		c.row(key, Unknown, fmt.Sprintf("answered %d", resp.status), "")
	}
}

// present finds a blob of the repository: the config of an image of its first tag.
func (c *checker) present(ctx context.Context) (digest.Digest, error) {
	resp, err := c.send(ctx, http.MethodGet, c.url(c.ref.Repository+"/tags/list?n=1"), nil, nil)
	if err != nil {
		return "", err
	}
	var list struct {
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(resp.body, &list); err != nil || len(list.Tags) == 0 {
		return "", errors.New("no tags")
	}
	reference := list.Tags[0]
	if _, err := remote.ParseReference(c.ref.Name() + ":" + reference); err != nil {
		return "", err
	}
	// An index has to be followed once.
	for range 2 {
		var m struct {
			Config    ocispec.Descriptor   `json:"config"`
			Manifests []ocispec.Descriptor `json:"manifests"`
		}
		header := http.Header{"Accept": {
			ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest,
			"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
		}}
		resp, err := c.send(ctx, http.MethodGet, c.url(c.ref.Repository+"/manifests/"+reference), header, nil)
		if err != nil {
			return "", err
		}
		if err := json.Unmarshal(resp.body, &m); err != nil {
			return "", err
		}
		if m.Config.Digest.Validate() == nil {
			return m.Config.Digest, nil
		}
		if len(m.Manifests) == 0 || m.Manifests[0].Digest.Validate() != nil {
			break
		}
		reference = m.Manifests[0].Digest.String()
	}
	return "", errors.New("no image")
}

// manifest offers what is no manifest, in the size that a registry has to take,
// under a digest it does not have. The answer tells whether a proxy has a lower
// limit.
func (c *checker) manifest(ctx context.Context) {
	const key = "manifest-size"
	size := int64(4 << 20)
	if most := c.o.ManifestMax; most > 0 {
		size = min(size, most)
	}
	header := http.Header{"Content-Type": {ocispec.MediaTypeImageManifest}}
	resp, err := c.send(ctx, http.MethodPut, c.url(c.ref.Repository+"/manifests/"+nothing.String()), header, bytes.Repeat([]byte{' '}, int(size)))
	switch {
	case err != nil:
		c.failed(key, Warn, err)
	case resp.status == http.StatusRequestEntityTooLarge:
		c.row(key, Warn, fmt.Sprintf("a body of %d KiB is refused for its size", size>>10), "raise the upload size limit of the registry or of the proxy in front of it: manifests have up to 4 MiB, layers far more")
	case resp.status == http.StatusCreated:
		c.row(key, Fail, "the registry accepts a manifest under a digest that it does not have", "do not use it: nothing in it can be relied on")
	default:
		c.row(key, OK, fmt.Sprintf("a body of %d KiB is not refused for its size", size>>10), "")
	}
}

// remove asks to delete what is not there. Airlock deletes nothing; whoever
// cleans up will want to know.
func (c *checker) remove(ctx context.Context) {
	const key = "delete"
	resp, err := c.send(ctx, http.MethodDelete, c.url(c.ref.Repository+"/blobs/"+nothing.String()), nil, nil)
	switch {
	case err != nil:
		c.failed(key, Warn, err)
	case resp.status == http.StatusNotFound, resp.status == http.StatusAccepted:
		c.capability(key, true, "content can be deleted")
	case resp.status == http.StatusMethodNotAllowed, resp.status == http.StatusBadRequest:
		c.capability(key, false, "content cannot be deleted")
	default:
		c.row(key, Unknown, fmt.Sprintf("answered %d", resp.status), "")
	}
}
