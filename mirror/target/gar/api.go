package gar

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/airlock-project/airlock/bundle/remote"
)

const (
	// maxAnswer bounds an answer of the API; a repository with its policies has
	// a few KiB.
	maxAnswer = 1 << 20
	// maxWords bounds how much of Google's own words goes into an error.
	maxWords = 300
)

// apiError is a refusal by a Google API (google.rpc.Status as JSON).
type apiError struct {
	Host    string
	HTTP    int
	Status  string // canonical name: NOT_FOUND, PERMISSION_DENIED, …
	Reason  string // of the ErrorInfo detail: SERVICE_DISABLED, …
	Message string
}

func (e *apiError) Error() string {
	s := fmt.Sprintf("%s answered %d", e.Host, e.HTTP)
	if e.Status != "" {
		s += fmt.Sprintf(" %q", e.Status)
	}
	if e.Message != "" {
		s += fmt.Sprintf(": %q", e.Message)
	}
	return s
}

// parseAPIError reads the body of a refusal. A body that is none, such as a
// proxy's HTML, leaves the status alone.
func parseAPIError(host string, status int, body []byte) *apiError {
	e := &apiError{Host: host, HTTP: status}
	var answer struct {
		Error struct {
			Status  string `json:"status"`
			Message string `json:"message"`
			Details []struct {
				Reason     string `json:"reason"`
				Violations []struct {
					Type string `json:"type"`
				} `json:"violations"`
			} `json:"details"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return e
	}
	e.Status, e.Message = cut(answer.Error.Status), cut(answer.Error.Message)
	for _, d := range answer.Error.Details {
		if d.Reason != "" && e.Reason == "" {
			e.Reason = cut(d.Reason)
		}
		for _, v := range d.Violations {
			// VPC Service Controls send a PreconditionFailure.
			if v.Type == "VPC_SERVICE_CONTROLS" {
				e.Reason = v.Type
			}
		}
	}
	return e
}

// cut shortens what came from outside.
func cut(s string) string {
	if len(s) <= maxWords {
		return s
	}
	return strings.ToValidUTF8(s[:maxWords], "") + "…"
}

// call asks the Artifact Registry API as the credential's principal. A refusal
// is an *apiError; in is sent and out read as JSON where they are not nil.
func (t *Target) call(ctx context.Context, method, path string, in, out any) error {
	cred, err := t.Credential(ctx)
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
	req, err := http.NewRequestWithContext(ctx, method, t.service.api+"/v1/"+path, body)
	if err != nil {
		return fmt.Errorf("ask for %q: %w", path, err)
	}
	req.Header.Set("Authorization", "Bearer "+cred.Password)
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := t.http.Do(req)
	if err != nil {
		return remote.Explain(err, req.URL.Host)
	}
	defer resp.Body.Close()
	data, err := readAll(resp.Body)
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", req.URL.Host, err)
	}
	if resp.StatusCode != http.StatusOK {
		return parseAPIError(req.URL.Host, resp.StatusCode, data)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("parse answer of %s: %w", req.URL.Host, err)
	}
	return nil
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
