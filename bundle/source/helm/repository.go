package helm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/bundle/remote"
)

// resolveHTTP pins a chart of an HTTP repository.
func (s *Source) resolveHTTP(ctx context.Context, locked *bundle.Pin) (bundle.Pin, string, error) {
	base, err := url.Parse(s.chart.Repository)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return bundle.Pin{}, "", errors.New("repository is not an http(s):// or oci:// URL")
	}
	want := s.chart.Version
	if locked != nil {
		want = strings.ReplaceAll(locked.Ref[strings.LastIndex(locked.Ref, ":")+1:], "_", "+")
	}
	e, err := s.findEntry(ctx, base, want)
	if err != nil {
		return bundle.Pin{}, "", err
	}
	at, err := chartURL(base, e)
	if err != nil {
		return bundle.Pin{}, "", err
	}
	if at.Scheme == "oci" {
		return s.pull(ctx, at.Host+at.Path, "", locked)
	}
	raw, err := s.get(ctx, at, chart.MaxArchive)
	if err != nil {
		return bundle.Pin{}, "", err
	}
	sum := sha256.Sum256(raw)
	if d := strings.TrimPrefix(e.Digest, "sha256:"); d != "" && !strings.EqualFold(d, hex.EncodeToString(sum[:])) {
		return bundle.Pin{}, "", fmt.Errorf("fetch %s: digest mismatch: index.yaml says sha256:%s, got sha256:%x", name(at), d, sum)
	}
	return s.pack(raw, name(at))
}

func (s *Source) findEntry(ctx context.Context, base *url.URL, want string) (*indexEntry, error) {
	at := base.JoinPath("index.yaml")
	raw, err := s.get(ctx, at, maxIndex)
	if err != nil {
		return nil, err
	}
	all, err := parseIndex(raw, s.chart.Chart)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name(at), err)
	}
	var versions []string
	var entries []*indexEntry
	for _, e := range all {
		if e != nil && len(e.URLs) > 0 {
			versions, entries = append(versions, e.Version), append(entries, e)
		}
	}
	i, err := choose(s.chart.Chart, versions, want)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", name(base), err)
	}
	return entries[i], nil
}

// chartURL is where an entry's archive lies: absolute, or relative to the
// repository, whose query (a token, say) goes along as in Helm.
func chartURL(base *url.URL, e *indexEntry) (*url.URL, error) {
	u, err := url.Parse(e.URLs[0])
	if err != nil {
		return nil, fmt.Errorf("version %q has URL %q that cannot be read", e.Version, e.URLs[0])
	}
	if !u.IsAbs() {
		dir := *base
		dir.Path = strings.TrimSuffix(dir.Path, "/") + "/"
		dir.RawPath = ""
		u = dir.ResolveReference(u)
		u.RawQuery = base.RawQuery
		if u.Host == base.Host {
			u.User = base.User
		}
	}
	if u.Host == "" || u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "oci" {
		return nil, fmt.Errorf("version %q lies at %q: only https, http and oci are known", e.Version, name(u))
	}
	if base.Scheme == "https" && u.Scheme == "http" {
		return nil, fmt.Errorf("version %q lies at %s: an https repository may not lead to plain http", e.Version, name(u))
	}
	return u, nil
}

// get fetches a small file whole.
func (s *Source) get(ctx context.Context, u *url.URL, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: not a URL", name(u))
	}
	resp, err := s.hosts.Auth().Do(req)
	if err != nil {
		err = remote.Explain(err, name(u))
		// net/http puts the whole URL, after redirects with their signatures,
		// into its error.
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, fmt.Errorf("fetch %s: %w", name(u), err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, &remote.NotFoundError{Ref: name(u)}
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, &remote.AuthError{Host: u.Host, Err: fmt.Errorf("fetch %s: %s", name(u), resp.Status)}
	default:
		return nil, fmt.Errorf("fetch %s: %s", name(u), resp.Status)
	}
	b, err := readAll(resp.Body, limit, name(u))
	if err == nil {
		s.listen.Send(bundle.Event{Op: "resolve", Object: s.Origin(), Bytes: int64(len(b))})
	}
	return b, err
}

// name is a URL for people: without user, query and fragment, where secrets go.
func name(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
