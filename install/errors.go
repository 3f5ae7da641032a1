package install

import (
	"fmt"
	"strings"
)

// Problem is something wrong with a document, and where.
type Problem struct {
	Where string // "item deploy-helm-chart: steps[0] render: with.values"
	Text  string
}

func (p Problem) String() string { return p.Where + ": " + p.Text }

func lines(what string, ps []Problem) string {
	var b strings.Builder
	noun := "problems"
	if len(ps) == 1 {
		noun = "problem"
	}
	fmt.Fprintf(&b, "%s has %d %s:", what, len(ps), noun)
	for _, p := range ps {
		b.WriteString("\n  ")
		b.WriteString(p.String())
	}
	return b.String()
}

// ChecklistError lists everything wrong with a checklist. Whoever made the
// bundle has to correct it.
type ChecklistError struct {
	Product  string
	Problems []Problem
}

func (e *ChecklistError) Error() string {
	return lines("checklist of "+e.Product, e.Problems)
}

// NoChecklistError is a bundle that has nothing to install by.
type NoChecklistError struct {
	Product string
}

func (e *NoChecklistError) Error() string {
	return fmt.Sprintf("the bundle of %s carries no checklist", e.Product)
}

// InputError lists everything wrong with a site's inputs. Values of secrets are
// never part of it.
type InputError struct {
	Site     string
	Problems []Problem
}

func (e *InputError) Error() string {
	return lines("site "+e.Site, e.Problems)
}

// maxHave is how many names an error lists.
const maxHave = 12

// SelectionError is a phase or item that the checklist does not have.
type SelectionError struct {
	What string // "phase" or "item"
	Name string
	Have []string
}

func (e *SelectionError) Error() string {
	text := fmt.Sprintf("no %s %q in the checklist", e.What, e.Name)
	if len(e.Have) <= maxHave {
		return text + "; it has " + strings.Join(e.Have, ", ")
	}
	if near := closest(e.Name, e.Have); near != "" {
		return text + "; did you mean " + near + "?"
	}
	return text
}

// MismatchError is a bundle, a checklist and a site that do not belong
// together.
type MismatchError struct {
	What string // "product", "platform", "site"
	Have string
	Want []string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s %q does not fit: want %s", e.What, e.Have, strings.Join(e.Want, " or "))
}

// InterruptedError is a run that was stopped from outside. It wraps both the
// context's error, so that errors.Is finds [context.Canceled], and its cause.
type InterruptedError struct {
	Product string
	Item    string // what was being done; "" between two items
	Err     error
	Cause   error
}

func (e *InterruptedError) Error() string {
	if e.Item == "" {
		return fmt.Sprintf("install %s: interrupted: %s", e.Product, e.Cause)
	}
	return fmt.Sprintf("install %s: interrupted while %s was running: %s", e.Product, e.Item, e.Cause)
}

func (e *InterruptedError) Unwrap() []error { return []error{e.Err, e.Cause} }

// ArtifactError is a file of a record that is not there, or not as it was written.
type ArtifactError struct {
	SHA256 string // what it is kept under
	Gone   bool
}

func (e *ArtifactError) Error() string {
	if e.Gone {
		return "artifact " + e.SHA256 + " is gone"
	}
	return "artifact " + e.SHA256 + " was changed"
}

// LockedError is a state directory that another run uses.
type LockedError struct {
	Dir  string
	PID  int // 0 if the holder left none
	Host string
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("state directory %s is in use by another run", e.Dir)
	}
	return fmt.Sprintf("state directory %s is in use by process %d on %s", e.Dir, e.PID, e.Host)
}

// LedgerError is a ledger that is not what was written: an entry edited,
// removed, added or moved, or the end cut off.
type LedgerError struct {
	Line int // 0 if it is about the whole
	Text string
	Torn bool // the last line does not end, as a kill or a full disk leaves it: a run that goes on cuts it off
}

func (e *LedgerError) Error() string {
	if e.Line == 0 {
		return "ledger: " + e.Text
	}
	return fmt.Sprintf("ledger line %d: %s", e.Line, e.Text)
}
