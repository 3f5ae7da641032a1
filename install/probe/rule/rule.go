// Package rule is the probe rule.cross: rules over values that the checklist
// computes, and one value against a pattern. It touches nothing outside.
package rule

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
)

// codeBroken stands for a rule that names no code of its own.
const codeBroken = "RULE-01"

const (
	// maxRules bounds one step: the widest of a real checklist has some twenty.
	maxRules = 200
	// maxField bounds a field of a finding, in bytes. It is shown to a person.
	maxField = 1 << 10
)

// vocabulary are the fields that a rule may hand to its message. It is fixed so
// that messages are checked when a checklist is loaded.
func vocabulary() []string {
	return []string{"file", "have", "host", "kind", "name", "other", "path", "port", "reason", "url", "value", "version", "want"}
}

// Probe is rule.cross. Its zero value is ready and safe for concurrent use.
type Probe struct{}

// arguments are the step's with.
type arguments struct {
	Rules []crossRule `json:"rules"`

	// One value against a pattern.
	Value   *string           `json:"value"`
	Pattern string            `json:"pattern"` // RE2; it is not anchored
	Code    string            `json:"code"`
	Fields  map[string]string `json:"fields"`
}

// crossRule is one condition that must hold.
type crossRule struct {
	OK       *bool            `json:"ok"` // left out, because it refers to what is not set: it does not hold
	Code     string           `json:"code"`
	Severity install.Severity `json:"severity"`
	Detail   string           `json:"detail"`
	Fields   map[string]any   `json:"fields"` // text, numbers, bools and lists of them
}

// Codes implements install.Coder. Every rule may name another code.
func (Probe) Codes() map[string][]string {
	return map[string][]string{codeBroken: vocabulary()}
}

// Offline implements install.Offline.
func (Probe) Offline() {}

// Run evaluates every rule and reports each that does not hold. A value is held
// against the pattern as the empty text where it is not set.
func (Probe) Run(_ context.Context, in install.Input) (install.Result, error) {
	a := arguments{}
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if len(a.Rules) == 0 && a.Pattern == "" {
		return install.Result{}, errors.New("want rules, or a value and its pattern")
	}
	if len(a.Rules) > maxRules {
		return install.Result{}, fmt.Errorf("%d rules are more than %d", len(a.Rules), maxRules)
	}
	var res install.Result
	if a.Pattern != "" {
		f, err := match(a)
		if err != nil {
			return res, err
		}
		res.Findings = append(res.Findings, f...)
	}
	for i, r := range a.Rules {
		fields, err := texts(r.Fields)
		if err != nil {
			return res, fmt.Errorf("rule %d: %w", i+1, err)
		}
		if r.OK != nil && *r.OK {
			continue
		}
		res.Findings = append(res.Findings, broken(r, fields))
	}
	return res, nil
}

// match holds the one value against the pattern.
func match(a arguments) ([]install.Finding, error) {
	re, err := regexp.Compile(a.Pattern)
	if err != nil {
		return nil, fmt.Errorf("pattern %q is not a regular expression (RE2)", a.Pattern)
	}
	value := ""
	if a.Value != nil {
		value = *a.Value
	}
	fields := map[string]any{"value": value, "want": a.Pattern}
	for k, v := range a.Fields {
		fields[k] = v
	}
	shown, err := texts(fields)
	if err != nil || re.MatchString(value) {
		return nil, err
	}
	return []install.Finding{broken(crossRule{Code: a.Code, Detail: fmt.Sprintf("%q does not match %s", shown["value"], a.Pattern)}, shown)}, nil
}

// broken is the finding of a rule that does not hold.
func broken(r crossRule, fields map[string]string) install.Finding {
	code := r.Code
	if code == "" {
		code = codeBroken
	}
	detail := r.Detail
	if detail == "" {
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(fields)) {
			parts = append(parts, fmt.Sprintf("%s is %q", k, fields[k]))
		}
		detail = strings.Join(append([]string{"the rule does not hold"}, parts...), ", ")
	}
	return install.Finding{Code: code, Severity: r.Severity, Detail: detail, Fields: fields}
}

// texts turns fields into text and refuses names that no message may use.
func texts(fields map[string]any) (map[string]string, error) {
	out := make(map[string]string, len(fields))
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(vocabulary(), k) {
			return nil, fmt.Errorf("field %q is none of %s", k, strings.Join(vocabulary(), ", "))
		}
		s, err := text(fields[k])
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", k, err)
		}
		if len(s) > maxField {
			s = strings.ToValidUTF8(s[:maxField], "") + "…"
		}
		out[k] = s
	}
	return out, nil
}

// text writes a value as a person would: a list as its elements.
func text(v any) (string, error) {
	switch t := v.(type) {
	case nil:
		return "", nil
	case string:
		return t, nil
	case bool:
		return fmt.Sprint(t), nil
	case float64: // what encoding/json makes of any number
		return fmt.Sprint(t), nil
	case []any:
		parts := make([]string, len(t))
		for i, e := range t {
			if _, nested := e.([]any); nested {
				return "", errors.New("a list in a list cannot be shown")
			}
			s, err := text(e)
			if err != nil {
				return "", err
			}
			parts[i] = s
		}
		return strings.Join(parts, ", "), nil
	}
	return "", errors.New("want text, a number, a bool or a list of them")
}
