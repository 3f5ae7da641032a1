// Package git is the probe git.lsremote: can a repository be read over HTTPS,
// with the credentials and authorities that the site gives. It speaks the smart
// HTTP protocol itself (gitprotocol-http, gitprotocol-v2) and runs no program.
package git

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/dial"
	"github.com/airlock-project/airlock/install/internal/web"
)

// Codes. The checklist may report each under another, with codes:.
const (
	codeUnreachable = "GIT-01"
	codeCredentials = "GIT-02"
	codeTrust       = "GIT-03"
	codeOther       = "GIT-04"
	codeRef         = "GIT-05"
	codeMissing     = "GIT-06"
)

const (
	service = "git-upload-pack"
	// maxAnswer bounds an advertisement: a repository of 100,000 references has
	// some 7 MB.
	maxAnswer = 32 << 20
)

// Probe is git.lsremote. Its zero value is ready and safe for concurrent use.
type Probe struct{}

// arguments are the step's with.
type arguments struct {
	URL      string            `json:"url"`
	Username string            `json:"username"` // default git, where a password is given
	Password string            `json:"password"` // or a token
	Refs     []string          `json:"refs"`     // that must be there: refs/heads/main, or main for a branch or tag
	CA       string            `json:"ca"`       // PEM file; without it the system's authorities count
	Timeout  string            `json:"timeout"`
	Codes    map[string]string `json:"codes"` // code: the one to report instead
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{
		codeUnreachable: {"url", "host", "reason"},
		codeCredentials: {"url", "host", "reason"},
		codeTrust:       {"url", "host", "reason"},
		codeOther:       {"url", "host", "reason"},
		codeMissing:     {"url", "host", "reason"},
		codeRef:         {"url", "host", "ref", "reason"},
	}
}

// session is one look at a repository.
type session struct {
	arguments
	base   *url.URL
	shown  string // without user and password
	client *http.Client
}

// problem is what is wrong with a repository.
type problem struct {
	code   string
	reason string
}

func (p *problem) Error() string { return p.reason }

// Run lists the references. Its outputs are git.refs (how many there are) and
// git.head (the branch that HEAD names, "" if the server does not say).
func (Probe) Run(ctx context.Context, in install.Input) (install.Result, error) {
	s, err := prepare(in)
	if err != nil {
		return install.Result{}, err
	}
	defer s.client.CloseIdleConnections()
	list, err := s.list(ctx)
	if ctx.Err() != nil {
		return install.Result{}, ctx.Err()
	}
	if p, ok := errors.AsType[*problem](err); ok {
		return install.Result{Findings: []install.Finding{s.finding(p.code, p.reason, nil)}}, nil
	}
	if err != nil {
		return install.Result{}, err
	}
	var found []install.Finding
	for _, want := range s.Refs {
		if !list.has(want) {
			reason := fmt.Sprintf("it has no %s among its %d references", want, len(list.names))
			found = append(found, s.finding(codeRef, reason, map[string]string{"ref": want}))
		}
	}
	return install.Result{Findings: found, Outputs: map[string]any{"git.refs": len(list.names), "git.head": list.head}}, nil
}

func prepare(in install.Input) (*session, error) {
	s := &session{}
	err := in.Decode(&s.arguments)
	if err != nil {
		return nil, err
	}
	if s.base, err = web.URL(s.URL); err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	if s.base.User != nil {
		return nil, errors.New("url holds a user or a password: give them as username and password")
	}
	if s.Password != "" && s.base.Scheme != "https" {
		return nil, errors.New("a password is given, and the url is not https")
	}
	s.base.RawQuery, s.base.Fragment = "", ""
	s.shown = s.base.String()
	s.base.Path = strings.TrimSuffix(s.base.Path, "/")
	wait, err := dial.Timeout(s.Timeout)
	if err != nil {
		return nil, err
	}
	roots, err := dial.Pool(s.CA)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	s.client = web.Client(roots, wait)
	return s, nil
}

func (s *session) finding(code, reason string, more map[string]string) install.Finding {
	fields := map[string]string{"url": s.shown, "host": s.base.Host, "reason": reason}
	for k, v := range more {
		fields[k] = v
	}
	if own := s.Codes[code]; own != "" {
		code = own
	}
	return install.Finding{Code: code, Detail: s.shown + ": " + reason, Fields: fields}
}

// do sends a request of the protocol and wants an answer of type media.
func (s *session) do(ctx context.Context, method, path, query, media string, body []byte) ([]byte, error) {
	u := *s.base
	u.Path, u.RawQuery = s.base.Path+path, query
	req, err := http.NewRequestWithContext(ctx, method, u.String(), strings.NewReader(string(body)))
	if err != nil {
		return nil, errors.New("url: it is not a URL such as https://host/path")
	}
	req.Header.Set("Git-Protocol", "version=2")
	req.Header.Set("User-Agent", "git/2 (airlock)")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-"+service+"-request")
		req.Header.Set("Accept", media)
	}
	if s.Password != "" {
		user := s.Username
		if user == "" {
			user = "git"
		}
		req.SetBasicAuth(user, s.Password)
	}
	answer, err := web.Do(s.client, req, maxAnswer)
	if err != nil {
		if _, ok := errors.AsType[*web.TrustError](err); ok {
			return nil, &problem{codeTrust, err.Error()}
		}
		return nil, &problem{codeUnreachable, err.Error()}
	}
	return answer.Body, judge(answer, media)
}

func judge(resp web.Answer, media string) error {
	switch code := resp.Code; {
	case code == http.StatusUnauthorized:
		return &problem{codeCredentials, "it wants other credentials: " + resp.Status}
	case code == http.StatusForbidden:
		return &problem{codeCredentials, "the credentials do not allow it: " + resp.Status}
	case code == http.StatusNotFound:
		return &problem{codeMissing, "there is no such repository, or not for these credentials: " + resp.Status}
	case code != http.StatusOK:
		return &problem{codeOther, "it answers " + resp.Status}
	}
	if got := resp.Media; got != media {
		return &problem{codeOther, fmt.Sprintf("what answers is not a Git server: its content is %.60q", got)}
	}
	return nil
}

// refs are the references of a repository.
type refs struct {
	names []string
	head  string
}

// has accepts a full name, and a short one as Git does.
func (r refs) has(want string) bool {
	return slices.ContainsFunc([]string{want, "refs/heads/" + want, "refs/tags/" + want}, func(name string) bool {
		return slices.Contains(r.names, name)
	})
}
