// Package gql is a small GraphQL client for steps: a bearer token by a login
// mutation that the checklist gives as data, renewed when it expires, answers
// bounded, errors quoted without secrets.
package gql

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/answer"
	"github.com/airlock-project/airlock/install/internal/web"
)

const (
	// MaxAnswer bounds one answer: a list of a few thousand objects.
	MaxAnswer = 8 << 20
	// early is how long before its end a token is renewed.
	early          = time.Minute
	defaultTimeout = 30 * time.Second
	maxMessages    = 3 // of one answer's errors, quoted
)

// Codes of what a server can do wrong. A checklist may report the statuses of
// CodeAnswer, and each code, under its own: codes: {"502": UI-01, GQL-02: KEY-01}.
const (
	CodeAnswer  = "GQL-01" // no answer, or one that is not GraphQL's
	CodeLogin   = "GQL-02" // the key is refused
	CodeRefused = "GQL-03" // the query is refused
	CodeTrust   = "GQL-05" // the certificate is not trusted
)

// Codes lists the codes with their fields.
func Codes() map[string][]string {
	return map[string][]string{
		CodeAnswer: {"url", "reason", "status"}, CodeLogin: {"url", "key", "reason"},
		CodeRefused: {"url", "reason"}, CodeTrust: {"url", "reason"},
	}
}

// Login says how a key becomes a token: a mutation with the variables id and
// secret, and where in its answer the token and its end (Unix seconds) are.
type Login struct {
	Query   string `json:"query"`
	Token   string `json:"token"`
	Expires string `json:"expires"`
}

// Config is the part of a step's with that says where to ask and as whom.
type Config struct {
	URL       string            `json:"url"`
	CA        string            `json:"ca"`
	Login     *Login            `json:"login"` // nil: without a token
	KeyID     string            `json:"key_id"`
	KeySecret string            `json:"key_secret"`
	Timeout   string            `json:"timeout"` // of one request
	Codes     map[string]string `json:"codes"`
}

// Client asks one server. It is not for concurrent use.
type Client struct {
	Config
	HTTP  *http.Client
	wait  time.Duration
	token string
	until time.Time
	now   func() time.Time
}

// New checks c and makes a client. Close the HTTP client's idle connections
// when done.
func New(c Config) (*Client, error) {
	if err := web.Address(c.URL, c.Login != nil); err != nil {
		return nil, err
	}
	cl := &Client{Config: c, wait: defaultTimeout, now: time.Now}
	if c.Timeout != "" {
		var err error
		if cl.wait, err = time.ParseDuration(c.Timeout); err != nil || cl.wait <= 0 {
			return nil, fmt.Errorf("timeout %q is not a duration such as 30s", c.Timeout)
		}
	}
	if l := c.Login; l != nil {
		switch {
		case l.Query == "" || l.Token == "":
			return nil, errors.New("login: want query and token, the path of the token in its answer")
		case c.KeyID == "" || c.KeySecret == "":
			return nil, errors.New("want key_id and key_secret, an API key of the server")
		}
	}
	var err error
	if cl.HTTP, err = web.Trusting(c.CA, true); err != nil {
		return nil, err
	}
	// A redirected POST would carry the key to whoever is named.
	cl.HTTP.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return cl, nil
}

// Problem is what a server did wrong, under a code of this package.
type Problem struct {
	Code   string
	Status int
	Reason string
}

func (p *Problem) Error() string { return p.Reason }

// Finding turns an error of this package into a finding. ok is false for other
// errors, such as a context that ended.
func (c *Client) Finding(err error) (f install.Finding, ok bool) {
	p, ok := errors.AsType[*Problem](err)
	if !ok {
		return f, false
	}
	fields := map[string]string{"url": c.URL, "reason": p.Reason}
	switch p.Code {
	case CodeAnswer:
		fields["status"] = "none"
		if p.Status != 0 {
			fields["status"] = strconv.Itoa(p.Status)
		}
	case CodeLogin:
		fields["key"] = c.KeyID
	}
	code := p.Code
	for _, name := range []string{p.Code, strconv.Itoa(p.Status)} {
		if own := c.Config.Codes[name]; own != "" {
			code = own
		}
	}
	return install.Finding{Code: code, Detail: p.Reason, Fields: fields}, true
}

// Do sends one document and returns the data of its answer. A token is got
// first where there is a login, and once more if the server does not take it.
func (c *Client) Do(ctx context.Context, query string, vars map[string]any) (map[string]any, error) {
	if query == "" {
		return nil, errors.New("want query, a GraphQL document")
	}
	if c.Login == nil {
		return c.post(ctx, query, vars, "")
	}
	fresh := c.token == ""
	token, err := c.Token(ctx)
	if err != nil {
		return nil, err
	}
	data, err := c.post(ctx, query, vars, token)
	if p, ok := errors.AsType[*Problem](err); ok && p.Status == http.StatusUnauthorized && !fresh {
		c.token = ""
		if token, err = c.Token(ctx); err != nil {
			return nil, err
		}
		return c.post(ctx, query, vars, token)
	}
	return data, err
}

// Token returns a bearer token that holds for a minute more at least.
func (c *Client) Token(ctx context.Context) (string, error) {
	if c.token != "" && (c.until.IsZero() || c.now().Add(early).Before(c.until)) {
		return c.token, nil
	}
	c.token = ""
	data, err := c.post(ctx, c.Login.Query, map[string]any{"id": c.KeyID, "secret": c.KeySecret}, "")
	if p, ok := errors.AsType[*Problem](err); ok && (p.Code == CodeRefused || p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden) {
		return "", &Problem{Code: CodeLogin, Reason: p.Reason}
	}
	if err != nil {
		return "", err
	}
	v, _ := answer.At(data, c.Login.Token)
	token, ok := v.(string)
	if !ok || token == "" || strings.ContainsAny(token, "\r\n") {
		return "", &Problem{Code: CodeLogin, Reason: "the answer holds no token: the server does not know this key"}
	}
	c.until = time.Time{}
	if v, ok := answer.At(data, c.Login.Expires); ok && c.Login.Expires != "" {
		if s, ok := answer.Text(v); ok {
			if sec, err := strconv.ParseInt(s, 10, 64); err == nil {
				c.until = time.Unix(sec, 0)
			}
		}
	}
	c.token = token
	return token, nil
}

// Forget drops the token, so that the next is a new one.
func (c *Client) Forget() { c.token = "" }

func (c *Client) post(ctx context.Context, query string, vars map[string]any, token string) (map[string]any, error) {
	body := map[string]any{"query": query}
	if len(vars) > 0 {
		body["variables"] = vars
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode query: %w", err)
	}
	asking, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	req, err := http.NewRequestWithContext(asking, http.MethodPost, c.URL, bytes.NewReader(raw))
	if err != nil {
		return nil, errors.New("want a url with http or https")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, c.unanswered(ctx, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer+1))
	if err != nil {
		return nil, c.unanswered(ctx, err)
	}
	return c.read(resp, data, token)
}

func (c *Client) unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	reason, untrusted := web.Why(err)
	code := CodeAnswer
	if untrusted {
		code = CodeTrust
	}
	return &Problem{Code: code, Reason: web.Quote(reason, c.KeySecret, c.token)}
}

// read takes an answer apart. The body of what is not GraphQL's is not quoted:
// it is a page of whatever stands in between.
func (c *Client) read(resp *http.Response, raw []byte, token string) (map[string]any, error) {
	bad := func(format string, args ...any) error {
		return &Problem{Code: CodeAnswer, Status: resp.StatusCode, Reason: fmt.Sprintf(format, args...)}
	}
	if len(raw) > MaxAnswer {
		return nil, bad("the answer is larger than %d bytes", MaxAnswer)
	}
	var doc struct {
		Data   map[string]any `json:"data"`
		Errors []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
		return nil, bad("status %d with %s in place of JSON: something else answers", resp.StatusCode, web.Quote(kind))
	}
	if len(doc.Errors) > 0 {
		var parts []string
		for i, e := range doc.Errors {
			if i == maxMessages {
				parts = append(parts, fmt.Sprintf("and %d more", len(doc.Errors)-i))
				break
			}
			parts = append(parts, web.Quote(e.Message, token, c.KeySecret))
		}
		return nil, &Problem{Code: CodeRefused, Status: resp.StatusCode, Reason: strings.Join(parts, "; ")}
	}
	if resp.StatusCode != http.StatusOK {
		return nil, bad("status %d", resp.StatusCode)
	}
	if doc.Data == nil {
		return nil, bad("JSON without data: this is not a GraphQL endpoint")
	}
	return doc.Data, nil
}

// AllCodes returns the codes of this package together with more.
func AllCodes(more map[string][]string) map[string][]string {
	out := Codes()
	maps.Copy(out, more)
	return out
}
