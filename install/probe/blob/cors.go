package blob

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
	store "github.com/airlock-project/airlock/install/internal/blob"
)

// foreign is an origin that no site has: the name cannot exist (RFC 6761).
const foreign = "https://airlock-foreign-origin.invalid"

// CORS is blob.cors. Its zero value is ready and safe for concurrent use.
type CORS struct{}

type corsArguments struct {
	Storage store.Config      `json:"storage"`
	Bucket  string            `json:"bucket"`
	Origin  string            `json:"origin"`  // of the application's pages
	Methods []string          `json:"methods"` // default PUT
	URL     string            `json:"url"`     // what the application tells browsers of the bucket; "" is not compared
	Codes   map[string]string `json:"codes"`   // code: the code to report instead
}

// Codes implements install.Coder.
func (CORS) Codes() map[string][]string {
	return store.Codes(append([]string{
		store.CodeDenied, store.CodeMissing, store.CodeFailed, store.CodeSignedHost, store.CodeCORS, store.CodeUploadsURL, store.CodeAnyOrigin,
	}, store.General...)...)
}

// Run asks as a browser does before it uploads (Fetch, section 3.2.2: a
// preflight). It judges what is answered, not what is configured: MinIO has one
// setting for all buckets and no API for it. Its output storage.uploads_url is
// the scheme and host that signed URLs of the bucket have.
func (CORS) Run(ctx context.Context, in install.Input) (install.Result, error) {
	a := corsArguments{Methods: []string{http.MethodPut}}
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if o, err := url.Parse(a.Origin); err != nil || o.Host == "" || a.Origin != o.Scheme+"://"+o.Host {
		return install.Result{}, errors.New("want origin, such as https://host")
	}
	s, findings, err := open(ctx, a.Storage)
	if err != nil {
		return install.Result{}, err
	}
	if s == nil {
		return install.Result{Findings: store.Rename(findings, a.Codes)}, nil
	}
	defer s.Close()
	if store.CheckName(a.Storage.Type, a.Bucket) != nil {
		return install.Result{}, nil // blob.bucket says so
	}
	signed, err := s.Signer.Sign(ctx, http.MethodPut, a.Bucket, newKey(), signedFor)
	if err != nil {
		if ctx.Err() != nil {
			return install.Result{}, ctx.Err()
		}
		f, _ := s.Finding(err, store.OpSign, a.Bucket, a.Bucket, "")
		return finish(s, a.Storage, install.Result{Findings: []install.Finding{f}}, a.Codes), nil
	}
	res := install.Result{Outputs: map[string]any{"storage.uploads_url": signed.Origin()}}
	if f := sameOrigin(a.URL, signed); f != nil {
		res.Findings = append(res.Findings, *f)
	}
	c := preflight{client: s.Plain, bucket: a.Bucket, signed: signed}
	res.Findings = append(res.Findings, c.run(ctx, a.Origin, a.Methods)...)
	if ctx.Err() != nil {
		return res, ctx.Err()
	}
	return finish(s, a.Storage, res, a.Codes), nil
}

// sameOrigin holds the URL that browsers are told of against the one that
// uploads go to: pages may only talk to the first (Content-Security-Policy).
func sameOrigin(told string, signed *store.Signed) *install.Finding {
	u, err := url.Parse(told)
	if told == "" || err == nil && strings.EqualFold(u.Scheme, signed.URL.Scheme) && strings.EqualFold(hostPort(u), hostPort(signed.URL)) {
		return nil
	}
	shown := told
	if err == nil {
		shown = u.Scheme + "://" + u.Host
	}
	return &install.Finding{
		Code: store.CodeUploadsURL, Detail: fmt.Sprintf("%s is told, signed URLs have %s", shown, signed.Origin()),
		Fields: map[string]string{"url": shown, "want": signed.Origin()},
	}
}

func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return u.Host + map[string]string{"http": ":80", "https": ":443"}[strings.ToLower(u.Scheme)]
}

// preflight asks a bucket whether pages may use it.
type preflight struct {
	client *http.Client
	bucket string
	signed *store.Signed
}

func (p preflight) run(ctx context.Context, origin string, methods []string) []install.Finding {
	var out []install.Finding
	for _, method := range methods {
		h, status, err := p.ask(ctx, origin, method)
		if err != nil {
			reason, code := store.Wire(err)
			if code == store.Trust {
				return []install.Finding{{Code: store.CodeTrust, Detail: reason, Fields: map[string]string{"host": p.signed.URL.Host, "reason": reason}}}
			}
			return []install.Finding{{Code: store.CodeSignedHost, Detail: reason, Fields: map[string]string{"bucket": p.bucket, "host": p.signed.URL.Host, "reason": reason}}}
		}
		if why := refused(h, status, origin, method); why != "" {
			out = append(out, install.Finding{
				Code: store.CodeCORS, Detail: fmt.Sprintf("preflight of %s from %s: %s", method, origin, why),
				Fields: map[string]string{"bucket": p.bucket, "host": p.signed.URL.Host, "origin": origin, "method": method, "reason": why},
			})
		}
	}
	h, status, err := p.ask(ctx, foreign, methods[0])
	if err == nil && refused(h, status, foreign, methods[0]) == "" {
		out = append(out, install.Finding{
			Code: store.CodeAnyOrigin, Severity: install.SeverityWarn, Detail: "pages of any origin are allowed: " + h.Get("Access-Control-Allow-Origin"),
			Fields: map[string]string{"bucket": p.bucket, "host": p.signed.URL.Host, "origin": origin},
		})
	}
	return out
}

func (p preflight) ask(ctx context.Context, origin, method string) (http.Header, int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodOptions, p.signed.Bare().String(), nil)
	if err != nil {
		return nil, 0, errors.New("the signed URL is not one")
	}
	req.Header.Set("Origin", origin)
	req.Header.Set("Access-Control-Request-Method", method)
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	return resp.Header, resp.StatusCode, resp.Body.Close()
}

// refused says why a browser would not go on; "" if it would.
func refused(h http.Header, status int, origin, method string) string {
	allow := h.Get("Access-Control-Allow-Origin")
	var methods []string
	for _, line := range h.Values("Access-Control-Allow-Methods") {
		for m := range strings.SplitSeq(line, ",") {
			methods = append(methods, strings.TrimSpace(m))
		}
	}
	switch {
	case status < http.StatusOK || status >= http.StatusMultipleChoices:
		return fmt.Sprintf("it is answered %d", status)
	case allow == "":
		return "no origin is allowed"
	case allow != "*" && allow != origin:
		return fmt.Sprintf("the origin allowed is %.100q", allow)
	case !slices.Contains(methods, method) && !slices.Contains(methods, "*"):
		return fmt.Sprintf("the methods allowed are %.100q", strings.Join(methods, ", "))
	}
	return ""
}
