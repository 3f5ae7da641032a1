package harbor

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
)

const (
	// maxAnswer bounds an answer: a page of 100 rules has about 60 KiB.
	maxAnswer = 1 << 20
	// maxWords bounds how much of Harbor's own words goes into an error.
	maxWords = 300
	apiBase  = "/api/v2.0/"
)

// apiError is a refusal by Harbor's API.
type apiError struct {
	Host    string
	HTTP    int
	Code    string // FORBIDDEN, CONFLICT, …
	Message string
}

func (e *apiError) Error() string {
	s := fmt.Sprintf("%s answered %d", e.Host, e.HTTP)
	if e.Code != "" {
		s += fmt.Sprintf(" %q", e.Code)
	}
	if e.Message != "" {
		s += fmt.Sprintf(": %q", e.Message)
	}
	return s
}

// status returns the HTTP status of a refusal, or 0.
func status(err error) int {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e.HTTP
	}
	return 0
}

func cut(s string) string {
	if len(s) <= maxWords {
		return s
	}
	return strings.ToValidUTF8(s[:maxWords], "") + "…"
}

// call sends a request with the credential. A status of 400 and more, or a
// redirect, is an *apiError; in is sent and out read as JSON where they are not nil.
func (t *Target) call(ctx context.Context, method, path string, in, out any) error {
	cred, err := t.loginFor(ctx)
	if err != nil {
		return err
	}
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request for %s: %w", path, err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, t.base+path, body)
	if err != nil {
		return fmt.Errorf("ask for %q: %w", path, err)
	}
	req.SetBasicAuth(cred.Username, cred.Password)
	req.Header.Set("Accept", "application/json")
	// A project named "123" is one, not the project with that number.
	req.Header.Set("X-Is-Resource-Name", "true")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := t.http.Do(req)
	if err != nil {
		return remote.Explain(err, t.opts.Host)
	}
	defer resp.Body.Close()
	data, err := readAll(resp.Body)
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", t.opts.Host, err)
	}
	if resp.StatusCode >= 300 {
		return parseError(t.opts.Host, resp.StatusCode, data)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("parse answer of %s: %w", t.opts.Host, err)
	}
	return nil
}

func parseError(host string, status int, data []byte) *apiError {
	e := &apiError{Host: host, HTTP: status}
	var answer struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(data, &answer) == nil && len(answer.Errors) > 0 {
		e.Code, e.Message = cut(answer.Errors[0].Code), cut(answer.Errors[0].Message)
	}
	return e
}

// readAll reads a whole answer of at most maxAnswer bytes.
func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxAnswer {
		return nil, errors.New("larger than 1 MiB")
	}
	return data, nil
}

// checkLogin asks the registry's root as Basic, the one question whose answer
// tells a right password from a wrong one for users and robots alike: the token
// service answers 200 to both, and users/current refuses every robot.
func (t *Target) checkLogin(ctx context.Context) error {
	err := t.call(ctx, http.MethodGet, "/v2/", nil, nil)
	switch status(err) {
	case 0:
		if err == nil {
			t.setLogin(loginAccepted)
			return nil
		}
	case http.StatusUnauthorized:
		t.setLogin(loginRefused)
		return &target.Problem{
			Code: target.LoginRefused, Remedy: t.loginRemedy(),
			Err: &remote.AuthError{Host: t.opts.Host, Err: err},
		}
	}
	return fmt.Errorf("log in to Harbor %s: %w", t.opts.Host, err)
}

// account names who is logged in, for messages.
func (t *Target) account() string {
	switch name := t.user(); {
	case name == "":
		return "nobody"
	case strings.Contains(name, "$"):
		return fmt.Sprintf("robot %q", cut(name))
	default:
		return fmt.Sprintf("user %q", cut(name))
	}
}

// loginRemedy knows what shells do to the names of robots: "robot$p+ci" in
// double quotes arrives as "robot+ci".
func (t *Target) loginRemedy() string {
	name := t.user()
	if name == "robot" || strings.HasPrefix(name, "robot+") || strings.HasPrefix(name, "+") {
		return fmt.Sprintf("write the robot's name in single quotes: %q looks as if the shell took the part after '$' for a variable", cut(name))
	}
	if strings.Contains(name, "$") {
		return fmt.Sprintf("check robot %q in Harbor: secret wrong, robot disabled or expired", cut(name))
	}
	if name == "" {
		return "give the name and secret of a user or robot account for " + t.opts.Host
	}
	return fmt.Sprintf("check user %q: password wrong or account disabled; a user of a single sign-on shows the CLI secret of his profile", cut(name))
}

// mayPush asks the token service for the right to push and reports what the
// token grants. An answer that cannot be read accuses nobody.
func (t *Target) mayPush(ctx context.Context, repository string) (bool, error) {
	var answer struct {
		Token string `json:"token"`
	}
	query := url.Values{"service": {"harbor-registry"}, "scope": {"repository:" + repository + ":pull,push"}}
	if err := t.call(ctx, http.MethodGet, "/service/token?"+query.Encode(), nil, &answer); err != nil {
		return true, stops(ctx, err)
	}
	parts := strings.Split(answer.Token, ".")
	if len(parts) != 3 {
		return true, nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return true, nil //nolint:nilerr // a token of another form says nothing about rights
	}
	var claims struct {
		Access []struct {
			Type    string   `json:"type"`
			Name    string   `json:"name"`
			Actions []string `json:"actions"`
		} `json:"access"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return true, nil //nolint:nilerr // as above
	}
	for _, a := range claims.Access {
		if a.Type == "repository" && a.Name == repository && slices.Contains(a.Actions, "push") {
			return true, nil
		}
	}
	return false, nil
}

// stops returns the error that ends an inspection, or nil: the context's end,
// and an answer that did not come.
func stops(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, ok := errors.AsType[*remote.UnreachableError](err); ok {
		return err
	}
	return nil
}
