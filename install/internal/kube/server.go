package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxVersion bounds the answers of /version and /readyz.
const maxVersion = 64 << 10

// Version is what an API server says of itself.
type Version struct {
	Git  string        // v1.37.2, or v1.33.1-eks-1234
	Skew time.Duration // how far its clock is ahead of ours, to a second; 0 if it does not say
}

// Version asks for /version.
func (c *Client) Version(ctx context.Context) (Version, error) {
	before := time.Now()
	got, err := c.ask(ctx, "/version")
	if err != nil {
		return Version{}, err
	}
	if got.code != http.StatusOK {
		return Version{}, &UnreachableError{c.server, "asked for its version, it answers " + clean(got.status)}
	}
	var doc struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := json.Unmarshal(got.body, &doc); err != nil || doc.GitVersion == "" {
		return Version{}, &UnreachableError{c.server, "what answers is no API server: it has no version"}
	}
	v := Version{Git: clean(doc.GitVersion)}
	if at, err := http.ParseTime(got.header.Get("Date")); err == nil {
		v.Skew = skew(before, time.Now(), at)
	}
	return v, nil
}

// skew is how far at, which has whole seconds, lies outside the time in which it
// was asked for.
func skew(before, after, at time.Time) time.Duration {
	switch {
	case at.Before(before.Add(-time.Second)):
		return at.Sub(before).Round(time.Second)
	case at.After(after):
		return at.Sub(after).Round(time.Second)
	}
	return 0
}

// Unready asks for /readyz and returns the checks that fail; none if the server
// is ready, or keeps the answer from this user.
func (c *Client) Unready(ctx context.Context) ([]string, error) {
	got, err := c.ask(ctx, "/readyz?verbose")
	if err != nil {
		return nil, err
	}
	switch got.code {
	case http.StatusOK, http.StatusForbidden, http.StatusNotFound:
		return nil, nil
	}
	var out []string
	for line := range strings.Lines(string(got.body)) {
		if rest, ok := strings.CutPrefix(line, "[-]"); ok {
			out = append(out, clean(strings.TrimSpace(rest)))
		}
	}
	if len(out) == 0 {
		out = []string{clean(got.status)}
	}
	return out[:min(len(out), maxReasons)], nil
}

// said is an answer, read and closed.
type said struct {
	code   int
	status string
	header http.Header
	body   []byte
}

// ask gets a path of the server.
func (c *Client) ask(ctx context.Context, path string) (said, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.rest.Host, "/")+path, nil)
	if err != nil {
		return said{}, fmt.Errorf("ask %s: %w", c.server, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return said{}, c.Explain(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxVersion))
	if err != nil {
		return said{}, c.Explain(err)
	}
	if resp.StatusCode == http.StatusUnauthorized {
		return said{}, &UnauthorizedError{c.server}
	}
	return said{resp.StatusCode, resp.Status, resp.Header, body}, nil
}
