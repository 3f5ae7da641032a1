// Package blob holds the actions about object storage: blob.ensure makes the
// buckets of a table, blob.upload puts a file of the bundle into one.
package blob

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/airlock-project/airlock/install"
	store "github.com/airlock-project/airlock/install/internal/blob"
)

// ruleID names the one rule of a bucket that blob.ensure owns.
const ruleID = "airlock-expiry"

// Ensure is blob.ensure. Its zero value is ready and safe for concurrent use
// with different buckets.
//
// It makes what is missing and never takes away: no bucket and no foreign rule
// is changed, a retention is never shortened, a bucket that holds objects and
// has no expiry gets none, and the expiry of a bucket that is kept is not
// touched at all.
type Ensure struct{}

type ensureArguments struct {
	Storage store.Config      `json:"storage"`
	Buckets store.Table       `json:"buckets"`
	Codes   map[string]string `json:"codes"` // code: the code to report instead
}

// Codes implements install.Coder.
func (Ensure) Codes() map[string][]string {
	return store.Codes(append([]string{store.CodeMissing, store.CodeDenied, store.CodeName, store.CodeFailed, store.CodeUnread}, store.General...)...)
}

// Plan says which buckets would be made and what would be set.
func (Ensure) Plan(ctx context.Context, in install.Input) (install.Change, error) {
	a, s, findings, err := openEnsure(ctx, in)
	if err != nil {
		return install.Change{}, err
	}
	if len(findings) > 0 {
		return install.Change{}, errors.New(findings[0].Detail)
	}
	defer s.Close()
	work, _, err := plan(ctx, s, a.Buckets)
	if err != nil {
		return install.Change{}, err
	}
	c := install.Change{Nothing: len(work) == 0, Summary: fmt.Sprintf("%d buckets at %s are as wanted", len(a.Buckets), s.Host)}
	if len(work) > 0 {
		c.Summary = fmt.Sprintf("make or configure buckets at %s, %d changes", s.Host, len(work))
	}
	for _, w := range work {
		c.Details = append(c.Details, w.text)
	}
	return c, nil
}

// Apply makes and configures, and looks again.
func (Ensure) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	a, s, findings, err := openEnsure(ctx, in)
	if err != nil {
		return install.Result{}, err
	}
	if len(findings) > 0 {
		return install.Result{Findings: store.Rename(findings, a.Codes)}, nil
	}
	defer s.Close()
	res, err := ensure(ctx, s, a)
	if ctx.Err() != nil {
		return res, ctx.Err()
	}
	res.Findings = store.Rename(res.Findings, a.Codes)
	return res, err
}

func ensure(ctx context.Context, s *store.Service, a ensureArguments) (install.Result, error) {
	var res install.Result
	fail := func(err error, bucket, purpose string) (install.Result, error) {
		f, _ := s.Finding(err, store.OpConfigure, bucket, purpose, a.Buckets[purpose].Env)
		res.Findings = append(res.Findings, f)
		return res, nil
	}
	work, notes, err := plan(ctx, s, a.Buckets)
	if err != nil {
		return located(err, fail)
	}
	res.Findings = notes
	for _, w := range work {
		if err := w.do(ctx); err != nil {
			return fail(err, w.bucket, w.purpose)
		}
		res.Changed = true
	}
	if len(work) == 0 {
		return res, nil
	}
	left, notes, err := plan(ctx, s, a.Buckets)
	if err != nil {
		return located(err, fail)
	}
	res.Findings = notes
	if len(left) > 0 {
		return fail(&store.Error{Op: store.OpConfigure, Bucket: left[0].bucket, Text: "done without complaint, and still to do: " + left[0].text}, left[0].bucket, left[0].purpose)
	}
	return res, nil
}

// rowError is an error about one row of the table.
type rowError struct {
	bucket, purpose string
	error
}

func (r *rowError) Unwrap() error { return r.error }

func located(err error, fail func(error, string, string) (install.Result, error)) (install.Result, error) {
	r, ok := errors.AsType[*rowError](err)
	if !ok {
		return install.Result{}, err
	}
	return fail(r.error, r.bucket, r.purpose)
}

func openEnsure(ctx context.Context, in install.Input) (a ensureArguments, s *store.Service, findings []install.Finding, err error) {
	if err := in.Decode(&a); err != nil {
		return a, nil, nil, err
	}
	if err := a.Buckets.Check(); err != nil {
		return a, nil, nil, err
	}
	if findings, _ = a.Buckets.BadNames(a.Storage.Type); len(findings) > 0 {
		return a, nil, findings, nil
	}
	s, err = store.Open(ctx, a.Storage.Admin())
	if err != nil {
		f, err := store.OpenFinding(err)
		return a, nil, []install.Finding{f}, err
	}
	if s.Maker == nil {
		s.Close()
		return a, nil, nil, fmt.Errorf("buckets of type %s are not made by this action: make them with the cloud's own tools", a.Storage.Type)
	}
	return a, s, nil, nil
}

// change is one thing to do.
type change struct {
	bucket, purpose string
	text            string
	do              func(context.Context) error
}

// plan compares the table with what is there. Findings tell what is left alone
// though it is not as the table has it.
func plan(ctx context.Context, s *store.Service, t store.Table) (work []change, notes []install.Finding, err error) {
	for _, p := range t.Purposes() {
		r := row{Service: s, Bucket: t[p], purpose: p}
		if err := r.plan(ctx); err != nil {
			return nil, nil, &rowError{bucket: r.Name, purpose: p, error: err}
		}
		work, notes = append(work, r.work...), append(notes, r.notes...)
	}
	return work, notes, nil
}

// row is one bucket under comparison.
type row struct {
	*store.Service
	store.Bucket
	purpose string
	work    []change
	notes   []install.Finding
}

func (r *row) add(text string, do func(context.Context) error) {
	r.work = append(r.work, change{bucket: r.Name, purpose: r.purpose, text: text, do: do})
}

func (r *row) note(what, reason string) {
	r.notes = append(r.notes, install.Finding{
		Code: store.CodeUnread, Severity: install.SeverityWarn, Detail: reason,
		Fields: map[string]string{"bucket": r.Name, "purpose": r.purpose, "what": what, "reason": reason},
	})
}

func (r *row) wantsVersions() bool {
	return r.Bucket.Versioning == store.VersioningRequired || r.Bucket.Versioning == store.VersioningSuggested
}

func (r *row) plan(ctx context.Context) error {
	err := r.Service.Rules.Look(ctx, r.Name)
	if store.ReasonOf(err) == store.Missing {
		r.create()
		return nil
	}
	if err != nil {
		return err
	}
	if r.wantsVersions() {
		on, err := r.Service.Rules.Versioning(ctx, r.Name)
		switch {
		case store.ReasonOf(err) == store.Unsupported:
			r.note("versioning", err.Error())
		case err != nil:
			return err
		case !on:
			r.add("enable versioning of bucket "+r.Name, func(ctx context.Context) error { return r.Maker.EnableVersioning(ctx, r.Name) })
		}
	}
	return r.expiry(ctx)
}

func (r *row) create() {
	text := []string{"create bucket " + r.Name}
	if r.wantsVersions() {
		text = append(text, "with versions")
	}
	if r.ExpireDays > 0 {
		text = append(text, fmt.Sprintf("objects deleted after %d days", r.ExpireDays))
	}
	r.add(strings.Join(text, ", "), func(ctx context.Context) error {
		if err := r.Maker.Create(ctx, r.Name); err != nil {
			return err
		}
		if r.wantsVersions() {
			if err := r.Maker.EnableVersioning(ctx, r.Name); err != nil && store.ReasonOf(err) != store.Unsupported {
				return err
			}
		}
		if r.ExpireDays == 0 {
			return nil
		}
		err := r.Maker.SetExpiry(ctx, r.Name, ruleID, r.ExpireDays)
		if store.ReasonOf(err) == store.Unsupported {
			return nil // the second look tells
		}
		return err
	})
}

// expiry plans the rule that deletes objects, where none is shortened by it.
func (r *row) expiry(ctx context.Context) error {
	if r.Keep || r.ExpireDays == 0 {
		return nil
	}
	rules, err := r.Service.Rules.Expiry(ctx, r.Name)
	switch {
	case store.ReasonOf(err) == store.Unsupported:
		r.note("the rules that delete objects", err.Error())
		return nil
	case err != nil:
		return err
	}
	set := func(ctx context.Context) error { return r.Maker.SetExpiry(ctx, r.Name, ruleID, r.ExpireDays) }
	covered := false
	for _, rule := range rules {
		if rule.OldOnly {
			continue
		}
		covered = true
		if rule.ID == ruleID && rule.Days < r.ExpireDays {
			r.add(fmt.Sprintf("keep objects of bucket %s for %d days, not %d", r.Name, r.ExpireDays, rule.Days), set)
		}
	}
	if covered {
		return nil
	}
	// For objects that are there, "for ever" is the retention that holds.
	keys, err := r.Objects.List(ctx, r.Name, "", 1)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		r.add(fmt.Sprintf("delete objects of bucket %s after %d days", r.Name, r.ExpireDays), set)
		return nil
	}
	r.notes = append(r.notes, install.Finding{
		Severity: install.SeverityInfo,
		Detail:   fmt.Sprintf("bucket %s holds objects and deletes none; the table has %d days: nothing was set", r.Name, r.ExpireDays),
	})
	return nil
}
