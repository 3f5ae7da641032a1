package mirror

import (
	"errors"
	"fmt"
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
	Done, Total int
	Missing     []string // registry/repository:tag of every item that did not arrive, sorted
	Errs        []error
}

func (e *PartialError) Error() string {
	more := ""
	if len(e.Errs) > 1 {
		more = fmt.Sprintf(" (and %d more)", len(e.Errs)-1)
	}
	return fmt.Sprintf("%d of %d items mirrored: %v%s; missing: %s", e.Done, e.Total, e.Errs[0], more, shorten(e.Missing))
}

// Unwrap returns the errors of the items that did not arrive.
func (e *PartialError) Unwrap() []error { return e.Errs }

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
