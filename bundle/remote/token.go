package remote

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxToken bounds the answer of a token service, as oras-go does.
const maxToken = 128 << 10

// TokenError says that a token service answered a login with something that
// holds no token. It is the cause of an [AuthError].
type TokenError struct{ Host string }

func (e *TokenError) Error() string { return e.Host + " answered without a token" }

// tokenTransport looks into the answers of token services. Without it, one that
// holds no token would count as a broken connection to the registry.
type tokenTransport struct{ base http.RoundTripper }

func (t *tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK || !asksToken(req) {
		return resp, err
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxToken+1))
	resp.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("read the token of %s: %w", req.URL.Host, err)
	}
	// The Token Authentication Specification of distribution, and RFC 6749
	// section 5.1.
	var answer struct {
		Token  string `json:"token"`
		Access string `json:"access_token"`
	}
	if len(data) > maxToken || json.Unmarshal(data, &answer) != nil || answer.Token == "" && answer.Access == "" {
		return nil, &AuthError{Host: req.URL.Host, Err: &TokenError{Host: req.URL.Host}}
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	return resp, nil
}

// asksToken tells the requests that oras-go sends to a realm: those with a form
// of a grant, or with service or scope in the query.
func asksToken(req *http.Request) bool {
	if strings.HasPrefix(req.URL.Path, "/v2/") {
		return false
	}
	if req.Method == http.MethodPost {
		return req.Header.Get("Content-Type") == "application/x-www-form-urlencoded"
	}
	q := req.URL.Query()
	return req.Method == http.MethodGet && (q.Has("service") || q.Has("scope"))
}
