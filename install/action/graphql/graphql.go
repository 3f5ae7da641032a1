// Package graphql has the kinds of step that talk to a server's GraphQL API:
// the probe graphql.query, and the actions graphql.call, which makes something
// unless it is there, and graphql.wait, which waits for an end state. Which
// server, documents, fields and states is all in the checklist.
//
// The three share a package because they share a session: a key that becomes a
// token, renewed while a step runs and never shown.
package graphql

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/answer"
	"github.com/airlock-project/airlock/install/internal/gql"
	"github.com/airlock-project/airlock/install/internal/web"
)

// Codes, besides those of every GraphQL step (package gql).
const (
	codeWant = "GQL-04" // the answer is not as wanted
	codeLost = "GQL-06" // it is there, and the secret that came with it is not
	codeLate = "GQL-07" // no end state in time
	codeEnd  = "GQL-08" // the wrong end state
)

// document is one GraphQL document with its variables.
type document struct {
	Query     string         `json:"query"`
	Variables map[string]any `json:"variables"`
}

// take reads outputs out of data by path; what is not there is an error.
func take(data any, paths map[string]string, into map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		v, ok := answer.At(data, paths[name])
		if !ok {
			return fmt.Errorf("output %s: the answer has nothing at %q", name, paths[name])
		}
		if n, isNumber := v.(json.Number); isNumber {
			if i, err := n.Int64(); err == nil {
				v = i
			} else if v, err = n.Float64(); err != nil {
				return fmt.Errorf("output %s: %w", name, err)
			}
		}
		into[name] = v
	}
	return nil
}

// explain makes a finding of what the server did wrong, or gives the error back.
func explain(c *gql.Client, err error) (install.Result, error) {
	if f, ok := c.Finding(err); ok {
		return install.Result{Findings: []install.Finding{f}}, nil
	}
	return install.Result{}, err
}

func duration(name, s string, def time.Duration) (time.Duration, error) {
	if s == "" {
		return def, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s %q is not a duration such as 30s", name, s)
	}
	return d, nil
}

// own is the checklist's code for one of ours.
func own(c *gql.Client, code string) string {
	if mine := c.Codes[code]; mine != "" {
		return mine
	}
	return code
}

func quoted(c *gql.Client, s string) string { return web.Quote(s, c.KeySecret) }
