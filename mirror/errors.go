package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/opencontainers/go-digest"
)

// ConflictError says that a tag exists and names other content. Nothing was
// written for the item.
type ConflictError struct {
	Target   string // registry/repository:tag
	Existing digest.Digest
	Want     digest.Digest
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s exists with %s, the bundle has %s", e.Target, e.Existing, e.Want)
}

// PartialError says that some items arrived and others did not. It unwraps to
// the errors of the others, in the order of the plan; where one error stopped
// the run it comes first and stands for all items that were not reached.
type PartialError struct {
	Of          string // what is counted: items, or blobs of a shard; empty means items
	Done, Total int
	// Missing names what did not arrive, in order: registry/repository:tag of
	// items, registry/repository@digest of blobs and of referrers.
	Missing []string
	Errs    []error
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("%d of %d %s mirrored: %s; missing: %s", e.Done, e.Total, cmp.Or(e.Of, "items"), first(e.Errs), shorten(e.Missing))
}

// Unwrap returns the errors of the items that did not arrive.
func (e *PartialError) Unwrap() []error { return e.Errs }

// FailedError says that nothing arrived. It unwraps as PartialError does.
type FailedError struct {
	Of      string // as in PartialError
	Missing []string
	Errs    []error // at least one
}

func (e *FailedError) Error() string {
	return fmt.Sprintf("%s; none of %d %s arrived: %s", first(e.Errs), len(e.Missing), cmp.Or(e.Of, "items"), shorten(e.Missing))
}

// Unwrap returns the errors of the items.
func (e *FailedError) Unwrap() []error { return e.Errs }

// first writes one error and counts the others.
func first(errs []error) string {
	if len(errs) > 1 {
		return fmt.Sprintf("%v (and %d more)", errs[0], len(errs)-1)
	}
	return errs[0].Error()
}

// tally adds up what became of things that one error may have stopped.
type tally struct {
	of      string
	cause   error // what stopped the run, if anything
	total   int
	done    int
	missing []string
	errs    []error
}

func (t *tally) add(name string, err error) {
	t.total++
	if err == nil {
		t.done++
		return
	}
	t.missing = append(t.missing, name)
	if t.cause == nil || !errors.Is(err, t.cause) && !errors.Is(err, context.Canceled) {
		t.errs = append(t.errs, err)
	}
}

// lack notes what is not found beside something that arrived.
func (t *tally) lack(e *ReferrersError) {
	t.errs = append(t.errs, e)
	for _, d := range e.Missing {
		t.missing = append(t.missing, e.Repository+"@"+d.String())
	}
}

// err is nil if nothing is missing.
func (t *tally) err() error {
	if len(t.missing) == 0 {
		return nil
	}
	if t.cause != nil {
		t.errs = slices.Insert(t.errs, 0, t.cause)
	}
	if t.done == 0 {
		return &FailedError{Of: t.of, Missing: t.missing, Errs: t.errs}
	}
	return &PartialError{Of: t.of, Done: t.done, Total: t.total, Missing: t.missing, Errs: t.errs}
}

// shorten keeps an error on a screen; the whole list is in the field.
func shorten(list []string) string {
	const most = 10
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

// RefusedError says that the target would not take the bundle: nothing was sent.
type RefusedError struct {
	Target  string          // registry and prefix
	Notices []target.Notice // the fatal ones, at least one
}

func (e *RefusedError) Error() string {
	list := make([]string, len(e.Notices))
	for i, n := range e.Notices {
		list[i] = n.Text
		if n.Repository != "" {
			list[i] = n.Repository + ": " + n.Text
		}
	}
	return fmt.Sprintf("mirror to %s: %s", e.Target, strings.Join(list, "; "))
}

// NameError says that a name is none that the target takes.
type NameError struct {
	Kind, Ref  string // the reference of the bundle
	Repository string // what it was mapped to
	Err        error  // what is allowed
}

func (e *NameError) Error() string {
	return fmt.Sprintf("map %s %q to repository %q: %v", e.Kind, e.Ref, e.Repository, e.Err)
}

// Unwrap returns what is allowed.
func (e *NameError) Unwrap() error { return e.Err }

// OverrideError says that mappings were given for what the bundle does not have.
type OverrideError struct {
	Unused []string // references or names, sorted
}

func (e *OverrideError) Error() string {
	return fmt.Sprintf("map: the bundle has no %q", e.Unused)
}

// MovedError says that a saved plan does not fit any more. Nothing was sent.
type MovedError struct {
	Changes []string // what changed since the plan was made, sorted
}

func (e *MovedError) Error() string {
	const most = 5 // each names two digests
	if len(e.Changes) > most {
		return fmt.Sprintf("the plan is out of date: %s; and %d more", strings.Join(e.Changes[:most], "; "), len(e.Changes)-most)
	}
	return "the plan is out of date: " + strings.Join(e.Changes, "; ")
}

// BusyError says that another run mirrors the same bundle to the same target
// with the same record.
type BusyError struct {
	Record string // the file that is locked
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("record %s is in use by another run", e.Record)
}

// RecordError says that a file cannot be the record, or that the record ended
// before its run did.
type RecordError struct {
	Record string // the file
	Ended  bool   // the run went on without it, and the rest of the run is good
	Err    error
}

func (e *RecordError) Error() string {
	if e.Ended {
		return fmt.Sprintf("keep record %s, which ends before the run did: %v", e.Record, e.Err)
	}
	return fmt.Sprintf("open record %s: %v", e.Record, e.Err)
}

// Unwrap returns the cause.
func (e *RecordError) Unwrap() error { return e.Err }

// VerifyError says that what was pushed did not come back the same.
type VerifyError struct {
	Object string // registry/repository, with tag or digest
	Err    error
}

func (e *VerifyError) Error() string { return fmt.Sprintf("verify %s: %v", e.Object, e.Err) }

// Unwrap returns the cause.
func (e *VerifyError) Unwrap() error { return e.Err }

// errVanished is the cause where a registry took something and does not have it.
var errVanished = errors.New("the registry took it and does not have it")
