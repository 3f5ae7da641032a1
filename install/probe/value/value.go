// Package value is the probe value.give: it hands on what the checklist works
// out of the site's inputs, so that it is worked out in one place.
package value

import (
	"context"
	"errors"

	"github.com/airlock-project/airlock/install"
)

// Probe is value.give. Its zero value is ready and safe for concurrent use.
type Probe struct{}

// arguments are the step's with.
type arguments struct {
	Values map[string]any `json:"values"` // output: value; the item declares the outputs
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string { return map[string][]string{} }

// Offline implements install.Offline.
func (Probe) Offline() {}

// Run returns the values as outputs. It finds nothing.
func (Probe) Run(_ context.Context, in install.Input) (install.Result, error) {
	var a arguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if len(a.Values) == 0 {
		return install.Result{}, errors.New("want values, by output")
	}
	return install.Result{Outputs: a.Values}, nil
}
