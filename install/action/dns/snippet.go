package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/place"
)

// Snippet is dns.snippet. Its zero value is ready and safe for concurrent use
// with different files.
type Snippet struct{}

// snippetArguments are the step's with.
type snippetArguments struct {
	Records []record `json:"records"`
	TTL     uint32   `json:"ttl"`
	To      string   `json:"to"` // file below the render directory
}

// Codes implements install.Coder.
func (Snippet) Codes() map[string][]string { return map[string][]string{codeNone: {}} }

// Grounds implements install.Grounder: a file in one render directory says
// nothing of another.
func (Snippet) Grounds(in install.Input) any {
	return map[string]any{"render": place.Absolute(in.Render)}
}

// Plan says which records would be written.
func (Snippet) Plan(_ context.Context, in install.Input) (install.Change, error) {
	a, list, err := snippet(in)
	if err != nil {
		return install.Change{}, err
	}
	c := install.Change{Summary: fmt.Sprintf("write %d names into %s", len(list), a.To)}
	for _, e := range list {
		for _, rr := range e.rrs {
			c.Details = append(c.Details, text(rr))
		}
	}
	if in.Render != "" {
		c.Nothing = place.Holds(filepath.Join(in.Render, a.To), zoneFile(list))
	}
	return c, nil
}

// Apply writes the file. Its outputs are dns.snippet (an absolute path) and
// dns.records (the lines in it).
func (Snippet) Apply(_ context.Context, in install.Input) (install.Result, error) {
	a, list, err := snippet(in)
	if err != nil {
		return install.Result{}, err
	}
	if in.Render == "" {
		return install.Result{}, errors.New("no render directory is given")
	}
	var res install.Result
	if len(list) == 0 {
		res.Findings = append(res.Findings, install.Finding{Code: codeNone, Detail: "no name has an address or a target"})
		return res, nil
	}
	if res.Changed, err = place.File(in.Render, a.To, zoneFile(list)); err != nil {
		return res, fmt.Errorf("write %s: %w", a.To, err)
	}
	lines := []any{}
	for _, e := range list {
		for _, rr := range e.rrs {
			lines = append(lines, text(rr))
		}
	}
	path := filepath.Join(place.Absolute(in.Render), a.To)
	res.Outputs = map[string]any{"dns.snippet": path, "dns.records": lines}
	res.Findings = append(res.Findings, install.Finding{Severity: install.SeverityInfo, Detail: "the records for the zone are in " + path})
	return res, nil
}

func snippet(in install.Input) (snippetArguments, []entry, error) {
	a := snippetArguments{TTL: defaultTTL}
	if err := in.Decode(&a); err != nil {
		return a, nil, err
	}
	if err := place.Name(a.To); err != nil {
		return a, nil, err
	}
	list, err := entries(a.Records, a.TTL)
	return a, list, err
}

func zoneFile(list []entry) []byte {
	var b bytes.Buffer
	for _, e := range list {
		for _, rr := range e.rrs {
			b.WriteString(text(rr) + "\n")
		}
	}
	return b.Bytes()
}
