package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/airlock-project/airlock/verify"
)

// Probe looks and changes nothing that lasts. It is repeatable.
type Probe interface {
	// Run looks. What it finds wrong is in the result; an error means that it
	// could not look.
	Run(ctx context.Context, in Input) (Result, error)
}

// Action changes something. It is idempotent: done twice it finds its work
// done. Its item's probes prove it afterwards.
type Action interface {
	// Plan says what Apply would do, and changes nothing.
	Plan(ctx context.Context, in Input) (Change, error)
	// Apply does it. An error means that it is not done; findings may explain.
	Apply(ctx context.Context, in Input) (Result, error)
}

// Coder is a Probe or Action that lists the codes it can report with the
// fields each carries, so that messages are checked when a checklist is loaded.
type Coder interface {
	Codes() map[string][]string
}

// Grounder is a Probe or Action whose result rests on more than its arguments
// and the bundle, such as a registry that the site names. What Grounds returns
// goes into the hash of the item's inputs: when it changes, an earlier result
// does not hold. It must be fit for JSON and hold no secrets; the Input's With
// is the step's as the checklist has it, no ${…} replaced.
type Grounder interface {
	Grounds(in Input) any
}

// Input is what a step gets.
type Input struct {
	With   map[string]any // the step's with, every ${…} replaced; it may hold secrets
	Bundle *verify.Bundle
	Site   string // directory that relative paths in the site are relative to
	Render string // directory for rendered files; it may not exist yet
	// Secrets is a directory for secrets that steps make, such as a new private
	// key: files of mode 0600 in a directory of mode 0700, which may not exist
	// yet. A step hands on the path, not the secret. Empty in a dry run without
	// a state directory.
	Secrets string
	// Values are the values files that the site gives for charts, see Options.
	Values []ValuesFile
	// GitOps says that only something else may change the cluster, see Options: a
	// probe changes nothing in it and tries nothing, and says so with [Untried].
	GitOps bool
	// Preview says that this is for a plan only: what earlier items give may not be
	// there, or be the text "(known later)".
	Preview bool
	// Announce shows people what an action is about to change, before it begins.
	// It may be nil, and a step need not call it.
	Announce func(Change)
	// Keep writes down what an action is about to put into a cluster, before it
	// does: so it is known of also if the action never comes to its end. An action
	// goes on only without an error. It may be nil; actions call [Input.Keeps].
	Keep func([]Object) error
}

// Keeps calls Keep, if there is one.
func (in Input) Keeps(list ...Object) error {
	if in.Keep == nil || len(list) == 0 {
		return nil
	}
	return in.Keep(list)
}

// ValuesFile is a values file that the site gives beside its answers. It may
// hold secrets.
type ValuesFile struct {
	Chart string // the carried chart it is for; "" is the product's own
	Name  string // for messages
	Data  []byte
}

// Decode fills dst, a pointer to a struct with json tags, from With. Unknown
// keys and wrong types are errors.
func (in Input) Decode(dst any) error {
	raw, err := json.Marshal(in.With)
	if err != nil {
		return fmt.Errorf("encode step arguments: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(dst); err != nil {
		// A json type error can quote the value, which may be a secret.
		if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fmt.Errorf("step argument %q: want %s, got %s", t.Field, t.Type, kindOfJSON(t.Value))
		}
		return fmt.Errorf("step arguments: %w", err)
	}
	return nil
}

// kindOfJSON cuts a value out of what encoding/json says of it ("number 12").
func kindOfJSON(s string) string {
	for i, c := range s {
		if c == ' ' {
			return s[:i]
		}
	}
	return s
}

// Severity grades a finding.
type Severity string

// Severities. The zero value means SeverityFail.
const (
	SeverityFail Severity = "fail"
	SeverityWarn Severity = "warn"
	SeverityInfo Severity = "info"
)

// Finding is one fact that a person should know, under a code that the
// checklist explains.
type Finding struct {
	Code     string
	Severity Severity
	Fields   map[string]string // for the message's templates
	Detail   string            // what was seen, exactly
}

// Evidence is data that shows what a step saw. It is kept under its digest.
type Evidence struct {
	Name  string
	Media string
	Data  []byte // at most MaxEvidence bytes
}

// MaxEvidence bounds one piece of evidence: a log or a manifest, not a disk.
const MaxEvidence = 4 << 20

// Result is what a step saw or did.
type Result struct {
	Findings []Finding
	Outputs  map[string]any // by dotted name; the item declares which it hands on
	Evidence []Evidence
	Changed  bool // actions: something was not as wanted before
}

// Change is what an action would do, for people.
type Change struct {
	Summary string   `json:"summary"`
	Details []string `json:"details,omitempty"`
	Nothing bool     `json:"nothing,omitempty"` // all is as wanted
	// Unseen says that nobody can look whether it is done: then what an earlier run
	// did stands as long as everything it rests on is the same.
	Unseen bool `json:"unseen,omitempty"`
	// Outputs are those of Apply's that are certain beforehand, by dotted name. A
	// dry run plans later items with them, not with what an earlier run gave.
	Outputs map[string]any `json:"-"`
}
