// Package usage is the action usage.export: data that a server hands out by
// time, in contiguous batches, as files that can cross an air gap. Each run
// goes on where the one before ended. What each file is stands in a manifest
// and in SHA256SUMS, which stock tools check.
package usage

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/gql"
	"github.com/airlock-project/airlock/install/internal/place"
	"github.com/airlock-project/airlock/install/internal/web"
)

// Codes, besides those of the login (package gql). The checklist may give its
// own to each, with codes:.
const (
	codeAnswer    = "EXP-01"
	codeForbidden = "EXP-02"
	codeGap       = "EXP-03"
	codeChanged   = "EXP-04"
)

const (
	defaultDays = 7
	maxDays     = 366
	// maxBatches bounds a run: ten years in weeks.
	maxBatches = 522
	// maxBatch bounds one answer.
	maxBatch = 64 << 20
)

// Action is usage.export. Now is the clock; nil means time.Now.
type Action struct {
	Now func() time.Time
}

// arguments are the step's with. URL, of gql.Config, is where a key becomes a
// token.
type arguments struct {
	gql.Config
	Export string `json:"export"` // where the data is
	Start  string `json:"start"`  // query parameters, Unix seconds; the end is exclusive
	End    string `json:"end"`
	From   string `json:"from"`  // of the first export: a date, or RFC 3339
	Until  string `json:"until"` // default: the last midnight, UTC
	Days   int    `json:"days"`  // of one batch
	To     string `json:"to"`    // directory below the render directory
	Name   string `json:"name"`  // of the files: NAME_START_END.json
	Output string `json:"output"`
}

// span is one batch: from start up to, not including, end.
type span struct{ start, end time.Time }

// Codes implements install.Coder.
func (Action) Codes() map[string][]string {
	return gql.AllCodes(map[string][]string{
		codeAnswer: {"url", "status", "reason"}, codeForbidden: {"url", "key", "status"},
		codeGap: {"dir", "after", "next"}, codeChanged: {"file", "want", "got"},
	})
}

// Grounds implements install.Grounder: files in one directory say nothing of
// another.
func (Action) Grounds(in install.Input) any { return map[string]any{"render": in.Render} }

// Plan says which batches are missing.
func (k Action) Plan(_ context.Context, in install.Input) (install.Change, error) {
	a, err := k.decode(in)
	if err != nil {
		return install.Change{}, err
	}
	m, err := readManifest(in.Render, a.To)
	if err != nil {
		return install.Change{}, err
	}
	if f := m.finding(a); f != nil {
		return install.Change{}, errors.New(f.Detail)
	}
	todo, err := k.todo(a, m)
	if err != nil {
		return install.Change{}, err
	}
	c := install.Change{Summary: fmt.Sprintf("export %d batches from %s", len(todo), a.Export), Nothing: len(todo) == 0}
	for _, s := range todo {
		c.Details = append(c.Details, s.start.Format(time.DateOnly)+" to "+s.end.Format(time.DateOnly))
	}
	return c, nil
}

// Apply fetches the missing batches, each on disk before the next is asked for.
func (k Action) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	a, err := k.decode(in)
	if err != nil {
		return install.Result{}, err
	}
	m, err := readManifest(in.Render, a.To)
	if err != nil {
		return install.Result{}, err
	}
	if f := m.finding(a); f != nil {
		return install.Result{Findings: []install.Finding{*f}}, nil
	}
	todo, err := k.todo(a, m)
	if err != nil {
		return install.Result{}, err
	}
	if f := m.gap(a, todo); f != nil {
		return install.Result{Findings: []install.Finding{*f}}, nil
	}
	c, err := gql.New(a.Config)
	if err != nil {
		return install.Result{}, err
	}
	defer c.HTTP.CloseIdleConnections()
	res := install.Result{}
	for _, s := range todo {
		finding, err := a.fetch(ctx, c, in.Render, m, s)
		if f, ok := c.Finding(err); ok {
			finding, err = &f, nil
		}
		if err != nil {
			return res, err
		}
		if finding != nil {
			res.Findings = []install.Finding{*finding}
			return res, nil
		}
		res.Changed = true
	}
	return a.done(in.Render, m, res)
}

// done hands on where the files are, and the manifest as evidence.
func (a *arguments) done(dir string, m *manifest, res install.Result) (install.Result, error) {
	raw, full, err := m.save(dir, a.To)
	if err != nil {
		return res, err
	}
	res.Evidence = []install.Evidence{{Name: "manifest", Media: "application/json", Data: raw}}
	if a.Output != "" {
		res.Outputs = map[string]any{a.Output: full}
	}
	res.Findings = append(res.Findings, install.Finding{
		Severity: install.SeverityInfo, Detail: fmt.Sprintf("%d batches beside %s", len(m.Batches), full),
	})
	return res, nil
}

func (k Action) now() time.Time {
	if k.Now != nil {
		return k.Now()
	}
	return time.Now()
}

func (Action) decode(in install.Input) (*arguments, error) {
	a := &arguments{Start: "start", End: "end", Days: defaultDays, To: "export", Name: "data"}
	if err := in.Decode(a); err != nil {
		return nil, err
	}
	if err := web.Address(a.Export, true); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	if a.Login == nil {
		return nil, errors.New("want login, key_id and key_secret")
	}
	if a.Days < 1 || a.Days > maxDays {
		return nil, fmt.Errorf("days %d is not 1 to %d", a.Days, maxDays)
	}
	if err := place.Path(a.To + "/" + a.Name); err != nil {
		return nil, err
	}
	return a, nil
}

// todo lists the batches from the end of the last export.
func (k Action) todo(a *arguments, m *manifest) ([]span, error) {
	from, err := instant("from", a.From)
	if err != nil {
		return nil, err
	}
	until := k.now().UTC().Truncate(24 * time.Hour)
	if a.Until != "" {
		if until, err = instant("until", a.Until); err != nil {
			return nil, err
		}
	}
	if n := len(m.Batches); n > 0 && !from.After(m.Batches[n-1].endTime()) {
		from = m.Batches[n-1].endTime()
	}
	var out []span
	for step := time.Duration(a.Days) * 24 * time.Hour; from.Before(until); from = from.Add(step) {
		if len(out) == maxBatches {
			return nil, fmt.Errorf("from %s to %s are more than %d batches of %d days: correct from, or export in parts with until", a.From, until.Format(time.DateOnly), maxBatches, a.Days)
		}
		end := from.Add(step)
		if end.After(until) {
			end = until
		}
		out = append(out, span{from, end})
	}
	return out, nil
}

func instant(name, s string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC().Truncate(time.Second), nil
		}
	}
	return time.Time{}, fmt.Errorf("%s %q is not a date such as 2026-01-31 or a time such as 2026-01-31T00:00:00Z", name, s)
}

// address is the export's URL for a batch.
func (a *arguments) address(s span) (string, error) {
	u, err := url.Parse(a.Export)
	if err != nil {
		return "", errors.New("export: want a url with https")
	}
	q := u.Query()
	q.Set(a.Start, strconv.FormatInt(s.start.Unix(), 10))
	q.Set(a.End, strconv.FormatInt(s.end.Unix(), 10))
	u.RawQuery = q.Encode()
	return u.String(), nil
}

func (a *arguments) own(code string) string {
	if mine := a.Codes[code]; mine != "" {
		return mine
	}
	return code
}
