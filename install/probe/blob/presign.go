package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/airlock-project/airlock/install"
	store "github.com/airlock-project/airlock/install/internal/blob"
)

// signedFor is how long a probe's URLs work.
const signedFor = 5 * time.Minute

// maxAnswer bounds what is read of an answer that is not content.
const maxAnswer = 16 << 10

// Presign is blob.presign. Its zero value is ready and safe for concurrent use.
type Presign struct{}

type presignArguments struct {
	Storage store.Config      `json:"storage"`
	Buckets []string          `json:"buckets"`
	Codes   map[string]string `json:"codes"` // code: the code to report instead
}

// Codes implements install.Coder.
func (Presign) Codes() map[string][]string {
	return store.Codes(append([]string{
		store.CodeMissing, store.CodeDenied, store.CodeSignedHost, store.CodeFailed, store.CodeTampered,
	}, store.General...)...)
}

// Run puts and gets an object in every bucket through signed URLs, by a client
// that has no credentials, and tries one whose signature was changed.
func (Presign) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a presignArguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if len(a.Buckets) == 0 {
		return install.Result{}, errors.New("want buckets, the names of buckets whose objects are handed out by signed URLs")
	}
	s, findings, err := open(ctx, a.Storage)
	if err != nil {
		return install.Result{}, err
	}
	if s == nil {
		return install.Result{Findings: store.Rename(findings, a.Codes)}, nil
	}
	defer s.Close()
	var res install.Result
	for _, bucket := range a.Buckets {
		if store.CheckName(a.Storage.Type, bucket) != nil {
			continue // blob.bucket says so
		}
		p := presign{Service: s, bucket: bucket}
		p.run(ctx)
		if ctx.Err() != nil {
			return res, ctx.Err()
		}
		if res.Findings = append(res.Findings, p.findings...); p.whole {
			break
		}
	}
	return finish(s, a.Storage, res, a.Codes), nil
}

// presign is one try with one bucket.
type presign struct {
	*store.Service
	bucket   string
	findings []install.Finding
	whole    bool
}

func (p *presign) took(err error, op string) bool {
	if err == nil {
		return true
	}
	f, whole := p.Finding(err, op, p.bucket, p.bucket, "")
	p.findings, p.whole = append(p.findings, f), p.whole || whole
	return false
}

func (p *presign) run(ctx context.Context) {
	key, data := newKey(), content()
	put, err := p.Signer.Sign(ctx, http.MethodPut, p.bucket, key, signedFor)
	if !p.took(err, store.OpSign) {
		return
	}
	get, err := p.Signer.Sign(ctx, http.MethodGet, p.bucket, key, signedFor)
	if !p.took(err, store.OpSign) {
		return
	}
	version := ""
	// What was put is removed, also where the answer got lost.
	defer func() { p.took(remove(ctx, p.Service, p.bucket, key, []string{version}), store.OpDelete) }()
	resp, _, err := p.do(ctx, put, data)
	if err != nil || !p.accepted(resp, put) {
		p.unreached(put, err)
		return
	}
	version = resp.version
	if p.tampered(ctx, get, data); p.whole {
		return
	}
	resp, got, err := p.do(ctx, get, nil)
	if err != nil || !p.accepted(resp, get) {
		p.unreached(get, err)
		return
	}
	if !bytes.Equal(got, data) {
		p.took(&store.Error{Op: "signed GET", Bucket: p.bucket, Text: fmt.Sprintf("%d bytes came back that are not the %d put", len(got), len(data))}, "")
	}
}

// answer is what matters of an HTTP answer.
type answer struct {
	status  int
	code    string // the service's own word for an error
	version string // of the object that was put
}

// do makes a signed request, without credentials. An error holds no URL.
func (p *presign) do(ctx context.Context, s *store.Signed, body []byte) (answer, []byte, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, s.Method, s.URL.String(), r)
	if err != nil {
		return answer{}, nil, errors.New("the signed URL is not one")
	}
	for name := range s.Header {
		req.Header.Set(name, s.Header.Get(name))
	}
	resp, err := p.Plain.Do(req)
	if err != nil {
		return answer{}, nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, nil, err
	}
	a := answer{status: resp.StatusCode}
	for _, name := range []string{"X-Amz-Version-Id", "X-Goog-Generation"} {
		if v := resp.Header.Get(name); v != "" && v != "null" {
			a.version = v
		}
	}
	if m := codeElement.FindSubmatch(got); a.status >= http.StatusBadRequest && m != nil {
		a.code = string(m[1])
	}
	return a, got, nil
}

// codeElement is how every service says its code; nothing else of the answer
// is shown, because some repeat what was signed.
var codeElement = regexp.MustCompile(`<Code>([A-Za-z0-9.]{1,64})</Code>`)

// accepted keeps a finding if an answer is not a success.
func (p *presign) accepted(a answer, s *store.Signed) bool {
	if a.status == http.StatusOK || a.status == http.StatusCreated || a.status == http.StatusNoContent {
		return true
	}
	e := &store.Error{Op: "signed " + s.Method, Bucket: p.bucket, Text: fmt.Sprintf("%s answers %d %s", s.URL.Host, a.status, a.code)}
	switch {
	case a.status == http.StatusNotFound && a.code == "NoSuchBucket", a.code == "ContainerNotFound":
		e.Op, e.Reason = store.OpLook, store.Missing
	case a.code == "RequestTimeTooSkewed":
		e.Reason = store.Skew
	case a.status == http.StatusForbidden || a.status == http.StatusUnauthorized:
		e.Reason = store.Denied
	case a.status >= http.StatusInternalServerError, a.status < http.StatusBadRequest:
		p.unreached(s, errors.New(e.Text))
		return false
	}
	p.took(e, e.Op)
	return false
}

// unreached says that the host of a signed URL does not answer.
func (p *presign) unreached(s *store.Signed, err error) {
	if err == nil {
		return // told by accepted
	}
	reason, code := store.Wire(err)
	f := install.Finding{Code: store.CodeSignedHost, Detail: reason, Fields: map[string]string{"bucket": p.bucket, "host": s.URL.Host, "reason": reason}}
	if code == store.Trust {
		f = install.Finding{Code: store.CodeTrust, Detail: reason, Fields: map[string]string{"host": s.URL.Host, "reason": reason}}
	}
	p.findings, p.whole = append(p.findings, f), true
}

// tampered makes the request with a changed signature, which must be refused.
func (p *presign) tampered(ctx context.Context, get *store.Signed, data []byte) {
	forged := *get
	forged.URL = tamper(get.URL, get.Signature)
	resp, got, err := p.do(ctx, &forged, nil)
	if err != nil || resp.status >= http.StatusBadRequest && resp.status < http.StatusInternalServerError {
		return // an answer that did not come is told by the true request
	}
	reason := fmt.Sprintf("it answers %d", resp.status)
	if bytes.Equal(got, data) {
		reason += " and hands out the object"
	}
	p.findings = append(p.findings, install.Finding{
		Code: store.CodeTampered, Detail: "a signed URL with a changed signature is not refused: " + reason,
		Fields: map[string]string{"bucket": p.bucket, "host": get.URL.Host, "reason": reason},
	})
}

// tamper changes the middle of a signature to another that is as well formed.
func tamper(u *url.URL, parameter string) *url.URL {
	forged, q := *u, u.Query()
	sig := []byte(q.Get(parameter))
	if i := len(sig) / 2; i > 0 {
		other := []byte("0123456789abcdef")
		at := slices.Index(other, sig[i])
		sig[i] = other[(at+1)%len(other)] // -1 becomes the first: an upper-case letter, say
	}
	q.Set(parameter, string(sig))
	forged.RawQuery = q.Encode()
	return &forged
}
