package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Causes are what the end of a program means, by its log. The first that matches
// counts.
type Causes []meaning

// meaning names what a line of a log shows.
type meaning struct {
	Match string `json:"match"` // regular expression (RE2)
	Says  string `json:"says"`

	re *regexp.Regexp
}

// UnmarshalJSON refuses expressions that cannot be compiled.
func (c *meaning) UnmarshalJSON(data []byte) error {
	type plain meaning
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode((*plain)(c)); err != nil {
		return errors.New("classes are {match, says}")
	}
	re, err := regexp.Compile(c.Match)
	if err != nil {
		return fmt.Errorf("classes: %w", err)
	}
	c.re = re
	return nil
}

// Ended says what a container ended with: what its log says it is, and the line
// that says so, or else the last one. kind is "" where no cause matches.
func (c Causes) Ended(r Reason) (kind, text string) {
	for _, one := range c {
		for _, line := range slices.Backward(r.Log) {
			if one.re.MatchString(line) {
				return one.Says, one.Says + ": " + line
			}
		}
	}
	if len(r.Log) > 0 {
		return "", fmt.Sprintf("status %d: %s", r.Exit, r.Log[len(r.Log)-1])
	}
	return "", fmt.Sprintf("status %d, and it left no log", r.Exit)
}
