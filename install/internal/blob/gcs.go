package blob

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

const (
	gcsEndpoint = "https://storage.googleapis.com"
	gcsScope    = "https://www.googleapis.com/auth/cloud-platform" // signing through IAM needs more than storage's own
	maxGCS      = 1 << 20                                          // bytes of an answer that is not content
	// gcsChunk is the unit that uploads in parts go in.
	gcsChunk = 256 << 10
)

// gcs is Google Cloud Storage through its JSON API. Google's own client would
// bring gRPC, OpenTelemetry and their exporters into a program that makes ten
// kinds of requests.
type gcs struct {
	client *http.Client // adds the token
	base   string
	signer gcsSigner
}

// openGCS takes credentials from where Google's libraries take them. As with
// those, STORAGE_EMULATOR_HOST names another server that asks for no token.
func openGCS(ctx context.Context, c Config) (*Service, error) {
	transport, err := newTransport(c.CA, false)
	if err != nil {
		return nil, err
	}
	base, emulator := gcsEndpoint, os.Getenv("STORAGE_EMULATOR_HOST")
	switch {
	case c.Endpoint != "":
		base = c.Endpoint
	case strings.Contains(emulator, "://"):
		base = emulator
	case emulator != "":
		base = "http://" + emulator
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return nil, &ConfigError{Field: "endpoint", Text: "not a URL such as https://storage.googleapis.com"}
	}
	g := &gcs{client: plain(transport), base: strings.TrimSuffix(base, "/")}
	creds, err := google.FindDefaultCredentials(context.WithValue(ctx, oauth2.HTTPClient, g.client), gcsScope)
	switch {
	case err == nil && emulator == "":
		g.client = plain(&oauth2.Transport{Source: creds.TokenSource, Base: transport})
	case err != nil && emulator == "":
		return nil, &ConfigError{Field: "credentials", Text: "no application default credentials are found: give a file in GOOGLE_APPLICATION_CREDENTIALS, or run where a service account is attached"}
	}
	if g.signer, err = newGCSSigner(creds, g.client, u); err != nil {
		return nil, err
	}
	return &Service{
		Type: c.Type, Host: u.Host, Objects: g, Rules: g, Signer: g, Clock: transport.clock, Plain: plain(transport), Permission: gcsPermission,
	}, nil
}

func gcsPermission(op string) string {
	if op == OpSign {
		return "roles/iam.serviceAccountTokenCreator for the service account itself, or a key of it,"
	}
	return map[string]string{
		OpLook: "storage.buckets.get", OpPut: "storage.objects.create", OpHead: "storage.objects.get", OpGet: "storage.objects.get",
		OpList: "storage.objects.list", OpDelete: "storage.objects.delete", OpParts: "storage.objects.create",
		OpVersions: "storage.buckets.get", OpLifecycle: "storage.buckets.get",
	}[op] + " (roles/storage.objectAdmin, and roles/storage.legacyBucketReader for storage.buckets.get)"
}

// do sends a request and returns the answer if its status is one of ok.
func (g *gcs) do(ctx context.Context, op, bucket, method, target string, header http.Header, body io.Reader, ok ...int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, &Error{Op: op, Bucket: bucket, Text: "the request makes no URL"}
	}
	for name := range header {
		req.Header.Set(name, header.Get(name))
	}
	resp, err := g.client.Do(req)
	if err != nil {
		if r, is := errors.AsType[*oauth2.RetrieveError](err); is { // its text may hold the answer with a token
			return nil, &Error{Op: op, Bucket: bucket, Reason: Unknown, Text: "no token is given for these credentials: " + clip(r.ErrorCode)}
		}
		if e, is := fromWire(op, bucket, err); is {
			return nil, e
		}
		return nil, &Error{Op: op, Bucket: bucket, Reason: Unreachable, Text: "no answer"}
	}
	if slices.Contains(append(ok, http.StatusOK, http.StatusNoContent), resp.StatusCode) {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, gcsError(op, bucket, resp)
}

func gcsError(op, bucket string, resp *http.Response) error {
	var said struct{ Error struct{ Message string } }
	e := &Error{Op: op, Bucket: bucket, Text: "answered " + strconv.Itoa(resp.StatusCode)}
	if json.NewDecoder(io.LimitReader(resp.Body, maxGCS)).Decode(&said) == nil && said.Error.Message != "" {
		e.Text = clip(fmt.Sprintf("%d: %s", resp.StatusCode, said.Error.Message))
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		e.Reason = Missing
	case http.StatusUnauthorized:
		e.Reason = Unknown
	case http.StatusForbidden:
		e.Reason = Denied
	case http.StatusNotImplemented, http.StatusMethodNotAllowed:
		e.Reason = Unsupported
	}
	return e
}

// ask decodes an answer of JSON into dst, if it is not nil.
func (g *gcs) ask(ctx context.Context, op, bucket, method, target string, dst any) error {
	resp, err := g.do(ctx, op, bucket, method, target, nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if dst == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxGCS)).Decode(dst); err != nil {
		return &Error{Op: op, Bucket: bucket, Reason: Unreachable, Text: "the answer is not one of Google Cloud Storage"}
	}
	return nil
}

func (g *gcs) bucketURL(bucket string) string {
	return g.base + "/storage/v1/b/" + url.PathEscape(bucket)
}

func (g *gcs) objectURL(bucket, key string, q url.Values) string {
	return g.bucketURL(bucket) + "/o/" + url.PathEscape(key) + "?" + q.Encode()
}

func (g *gcs) uploadURL(bucket, key, kind string) string {
	return g.base + "/upload/storage/v1/b/" + url.PathEscape(bucket) + "/o?" + url.Values{"uploadType": {kind}, "name": {key}}.Encode()
}

func (g *gcs) Put(ctx context.Context, bucket string, o Object) (string, error) {
	about, err := json.Marshal(map[string]any{"name": o.Key, "metadata": o.Meta})
	if err != nil {
		return "", err
	}
	var head bytes.Buffer
	w := multipart.NewWriter(&head)
	for i, typ := range []string{"application/json; charset=UTF-8", "application/octet-stream"} {
		part, err := w.CreatePart(textproto.MIMEHeader{"Content-Type": {typ}})
		if err != nil {
			return "", err
		}
		if i == 0 {
			_, _ = part.Write(about) // into memory
		}
	}
	body := io.MultiReader(&head, o.Body, strings.NewReader("\r\n--"+w.Boundary()+"--\r\n"))
	resp, err := g.do(ctx, OpPut, bucket, http.MethodPost, g.uploadURL(bucket, o.Key, "multipart"),
		http.Header{"Content-Type": {"multipart/related; boundary=" + w.Boundary()}}, body)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var made struct{ Generation string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxGCS)).Decode(&made); err != nil {
		return "", &Error{Op: OpPut, Bucket: bucket, Reason: Unreachable, Text: "the answer is not one of Google Cloud Storage"}
	}
	return made.Generation, nil
}

func (g *gcs) Head(ctx context.Context, bucket, key string) (Object, error) {
	var have struct {
		Size     string
		Metadata map[string]string
	}
	if err := g.ask(ctx, OpHead, bucket, http.MethodGet, g.objectURL(bucket, key, nil), &have); err != nil {
		return Object{}, err
	}
	size, err := strconv.ParseInt(have.Size, 10, 64)
	if err != nil {
		return Object{}, &Error{Op: OpHead, Bucket: bucket, Text: "the object has no size"}
	}
	o := Object{Key: key, Size: size, Meta: make(map[string]string)}
	for name, v := range have.Metadata {
		o.Meta[strings.ToLower(name)] = v
	}
	return o, nil
}

func (g *gcs) Get(ctx context.Context, bucket, key string) (io.ReadCloser, error) {
	resp, err := g.do(content(ctx), OpGet, bucket, http.MethodGet, g.objectURL(bucket, key, url.Values{"alt": {"media"}}), nil, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (g *gcs) Remove(ctx context.Context, bucket, key, version string) error {
	q := url.Values{}
	if version != "" {
		q.Set("generation", version)
	}
	if err := g.ask(ctx, OpDelete, bucket, http.MethodDelete, g.objectURL(bucket, key, q), nil); err != nil {
		return err
	}
	list, err := g.list(ctx, bucket, url.Values{"prefix": {key}, "versions": {"true"}, "maxResults": {strconv.Itoa(maxVersions)}})
	if err != nil {
		return nil //nolint:nilerr // who may not list versions has done what they can
	}
	for _, o := range list {
		if o.Name != key {
			continue
		}
		if err := g.ask(ctx, OpDelete, bucket, http.MethodDelete, g.objectURL(bucket, key, url.Values{"generation": {o.Generation}}), nil); err != nil && ReasonOf(err) != Missing {
			return err
		}
	}
	return nil
}

type gcsObject struct{ Name, Generation string }

func (g *gcs) list(ctx context.Context, bucket string, q url.Values) ([]gcsObject, error) {
	var have struct{ Items []gcsObject }
	err := g.ask(ctx, OpList, bucket, http.MethodGet, g.bucketURL(bucket)+"/o?"+q.Encode(), &have)
	return have.Items, err
}

func (g *gcs) List(ctx context.Context, bucket, prefix string, limit int) ([]string, error) {
	list, err := g.list(ctx, bucket, url.Values{"prefix": {prefix}, "maxResults": {strconv.Itoa(limit)}})
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, o := range list[:min(limit, len(list))] {
		keys = append(keys, o.Name)
	}
	return keys, nil
}

// Parts starts a resumable upload, sends a first chunk and gives the upload up.
func (g *gcs) Parts(ctx context.Context, bucket, key string, part []byte) error {
	resp, err := g.do(ctx, OpParts, bucket, http.MethodPost, g.uploadURL(bucket, key, "resumable"),
		http.Header{"Content-Type": {"application/json"}}, strings.NewReader("{}"), http.StatusCreated)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	session, err := url.Parse(resp.Header.Get("Location"))
	base, _ := url.Parse(g.base) // parsed before
	if err != nil || session.Host != base.Host {
		return &Error{Op: OpParts, Bucket: bucket, Text: "the upload goes on at another host"}
	}
	chunk := append(bytes.Clone(part), make([]byte, max(0, gcsChunk-len(part)))...)
	resp, sent := g.do(ctx, OpParts, bucket, http.MethodPut, session.String(),
		http.Header{"Content-Range": {fmt.Sprintf("bytes 0-%d/*", len(chunk)-1)}}, bytes.NewReader(chunk), http.StatusPermanentRedirect)
	if sent == nil {
		_ = resp.Body.Close()
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), CleanTime)
	defer cancel()
	const givenUp = 499 // "Client Closed Request", what Google answers
	resp, err = g.do(clean, OpParts, bucket, http.MethodDelete, session.String(), nil, nil, givenUp)
	if err == nil {
		_ = resp.Body.Close()
	}
	return errors.Join(sent, err)
}

func (g *gcs) Look(ctx context.Context, bucket string) error {
	_, err := g.bucket(ctx, OpLook, bucket)
	return err
}

// gcsBucket is what of a bucket matters.
type gcsBucket struct {
	Versioning struct{ Enabled bool }
	Lifecycle  struct{ Rule []gcsRule }
}

type gcsRule struct {
	Action    struct{ Type string }
	Condition struct {
		Age                     *int
		CreatedBefore           string
		CustomTimeBefore        string
		DaysSinceCustomTime     *int
		IsLive                  *bool
		NumNewerVersions        *int
		DaysSinceNoncurrentTime *int
		NoncurrentTimeBefore    string
		MatchesPrefix           []string
		MatchesSuffix           []string
		MatchesStorageClass     []string
	}
}

func (g *gcs) bucket(ctx context.Context, op, bucket string) (b gcsBucket, err error) {
	err = g.ask(ctx, op, bucket, http.MethodGet, g.bucketURL(bucket), &b)
	return b, err
}

func (g *gcs) Versioning(ctx context.Context, bucket string) (bool, error) {
	b, err := g.bucket(ctx, OpVersions, bucket)
	return b.Versioning.Enabled, err
}

func (g *gcs) Expiry(ctx context.Context, bucket string) ([]Rule, error) {
	b, err := g.bucket(ctx, OpLifecycle, bucket)
	if err != nil {
		return nil, err
	}
	var out []Rule
	for i, r := range b.Lifecycle.Rule {
		if r.Action.Type != "Delete" {
			continue
		}
		c := r.Condition
		rule := Rule{
			ID:      "number " + strconv.Itoa(i+1), // they have no names
			OldOnly: c.IsLive != nil && !*c.IsLive || c.NumNewerVersions != nil || c.DaysSinceNoncurrentTime != nil || c.NoncurrentTimeBefore != "",
		}
		if c.Age != nil {
			rule.Days = *c.Age
		}
		switch {
		case len(c.MatchesPrefix)+len(c.MatchesSuffix) > 0:
			rule.Part = "those of some names"
		case len(c.MatchesStorageClass) > 0:
			rule.Part = "those of some storage classes"
		case c.CustomTimeBefore != "" || c.DaysSinceCustomTime != nil:
			rule.Part = "those with a time of their own"
		}
		out = append(out, rule)
	}
	return out, nil
}

func (g *gcs) Sign(ctx context.Context, method, bucket, key string, valid time.Duration) (*Signed, error) {
	u, err := g.signer.sign(ctx, method, bucket, key, valid, time.Now())
	if err != nil {
		if _, ok := errors.AsType[*Error](err); ok {
			return nil, err
		}
		return nil, &Error{Op: OpSign, Bucket: bucket, Reason: Denied, Text: clip(err.Error())}
	}
	return &Signed{Method: method, URL: u, Signature: "X-Goog-Signature"}, nil
}
