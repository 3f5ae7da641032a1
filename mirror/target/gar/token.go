package gar

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"golang.org/x/oauth2/google"
)

// maxSkew is how far off a clock may be for what it signs to be taken.
const maxSkew = 5 * time.Minute

// exchange is what became of one request for a token.
type exchange struct {
	host   string
	err    error     // no answer came
	status int       // 0: nothing was asked
	code   string    // the OAuth error code (RFC 6749 section 5.2), or the API's status
	words  string    // what the host said about it
	date   time.Time // of the answer
}

// recorder notes how the last token request ended. The library turns most
// failures into text, and text is nothing to decide on.
type recorder struct {
	base http.RoundTripper

	mu   sync.Mutex
	seen exchange
}

func (r *recorder) last() exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// RoundTrip passes the request on. The body of a success, which holds a
// secret, is not looked at.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	base := r.base
	if base == nil {
		base = http.DefaultTransport
	}
	seen := exchange{host: req.URL.Host}
	resp, err := base.RoundTrip(req)
	switch {
	case err != nil:
		seen.err = err
	default:
		seen.status = resp.StatusCode
		if d, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			seen.date = d
		}
		if resp.StatusCode >= 300 {
			var data []byte
			if data, err = readAll(resp.Body); err == nil {
				seen.code, seen.words = parseRefusal(data)
			}
			resp.Body.Close()
			resp.Body = io.NopCloser(bytes.NewReader(data))
			err = nil // a refusal that cannot be read is still a refusal
		}
	}
	r.mu.Lock()
	r.seen = seen
	r.mu.Unlock()
	return resp, err
}

// parseRefusal reads an OAuth error, or the error of a Google API.
func parseRefusal(data []byte) (code, words string) {
	var oauth struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(data, &oauth) == nil && oauth.Error != "" {
		return cut(oauth.Error), cut(oauth.Description)
	}
	e := parseAPIError("", 0, data)
	return e.Status, e.Message
}

// explainToken says why no token was had with a credential.
func (t *Target) explainToken(ctx context.Context, x exchange, kind google.CredentialsType, source string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if x.err != nil {
		return fmt.Errorf("get Google access token with %s: %w", source, remote.Explain(x.err, x.host))
	}
	if x.status < 300 {
		return &target.Problem{
			Code:   target.NoCredentials,
			Remedy: "check what the credentials file names: keys, token files, commands",
			Err:    fmt.Errorf("get Google access token with %s: %s", source, cut(err.Error())),
		}
	}
	p := &target.Problem{Err: fmt.Errorf("get Google access token with %s: %w", source, &apiError{Host: x.host, HTTP: x.status, Status: x.code, Message: x.words})}
	p.Code, p.Remedy = t.refusal(x, kind)
	return p
}

// refusal tells the causes of a refused token apart. Google answers
// invalid_grant for a clock that is wrong as for a key that was deleted; its
// Date header tells which.
func (t *Target) refusal(x exchange, kind google.CredentialsType) (target.Code, string) {
	skew := t.opts.Now().Sub(x.date)
	switch {
	case x.status == http.StatusTooManyRequests:
		return target.Throttled, "run again later: the token endpoint refuses more requests now"
	case x.status >= 500:
		return target.ServerFault, "run again later: " + x.host + " is broken now"
	case !x.date.IsZero() && skew.Abs() > maxSkew:
		return target.ClockSkew, fmt.Sprintf("set this machine's clock: it is %s %s %s, and what it signs is refused beyond %s",
			skew.Abs().Round(time.Second), aheadOrBehind(skew), x.host, maxSkew)
	case x.status == http.StatusForbidden:
		return target.Denied, "let the identity act as the service account: roles/iam.workloadIdentityUser for federation, roles/iam.serviceAccountTokenCreator for impersonation"
	}
	switch kind {
	case google.ServiceAccount:
		return target.LoginRefused, "make a new key: this one or its service account is disabled, deleted or expired"
	case google.AuthorizedUser, google.ExternalAccountAuthorizedUser:
		return target.LoginRefused, "log in again: gcloud auth application-default login"
	}
	return target.LoginRefused, "check the subject token (expired, wrong audience) and the attribute condition of the workload identity provider"
}

func aheadOrBehind(skew time.Duration) string {
	if skew > 0 {
		return "ahead of"
	}
	return "behind"
}
