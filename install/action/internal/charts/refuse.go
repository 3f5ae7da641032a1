package charts

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
)

// Refusal is what no object of a chart may be or hold, whoever set it: values of
// a site can undo what a checklist sets.
type Refusal struct {
	When       *bool            `json:"when"`       // false: it does not apply
	Kind       string           `json:"kind"`       // of the objects it is about; "" is every kind
	Name       string           `json:"name"`       // "" is every name
	Annotation string           `json:"annotation"` // only this annotation's value is looked at
	Match      string           `json:"match"`      // regular expression (RE2) that a text anywhere in the object matches; without it the object itself is refused
	Not        []string         `json:"not"`        // texts that are all right although they match
	Severity   install.Severity `json:"severity"`   // default: it fails
	Says       string           `json:"says"`       // what is wrong with it
	Fix        string           `json:"fix"`        // what to do

	re *regexp.Regexp
}

// UnmarshalJSON refuses what would refuse nothing, or everything.
func (r *Refusal) UnmarshalJSON(data []byte) error {
	type plain Refusal
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode((*plain)(r)); err != nil {
		return errors.New("refuse is a list of {when, kind, name, annotation, match, not, severity, says, fix}")
	}
	if r.Says == "" || r.Match == "" && (r.Kind == "" || r.Name == "" || r.Annotation != "") {
		return errors.New("refuse wants says, and match or the kind and name of an object")
	}
	if r.Match == "" {
		return nil
	}
	re, err := regexp.Compile(r.Match)
	if err != nil {
		return fmt.Errorf("refuse: %w", err)
	}
	r.re = re
	return nil
}

// maxValue bounds what is shown of a text, in bytes.
const maxValue = 200

// Refused is an object that is refused.
type Refused struct {
	*Refusal
	Object string // Ingress/server-v4
	Value  string // what matched, at most 200 bytes; "" if the object itself is refused
}

// Refuse holds objects against what is refused. Of each refusal an object is
// told once.
func Refuse(objects []chart.Object, list []Refusal) []Refused {
	var out []Refused
	for i := range list {
		r := &list[i]
		if r.When != nil && !*r.When {
			continue
		}
		for _, o := range objects {
			if r.Kind != "" && r.Kind != o.Kind() || r.Name != "" && r.Name != o.Name() {
				continue
			}
			if value, found := r.in(o); found {
				out = append(out, Refused{r, o.Kind() + "/" + o.Name(), value})
			}
		}
	}
	return out
}

// in looks for the text in an object.
func (r *Refusal) in(o chart.Object) (string, bool) {
	if r.re == nil {
		return "", true
	}
	if r.Annotation == "" {
		return r.text(o.Tree)
	}
	meta, _ := o.Tree["metadata"].(map[string]any)
	all, _ := meta["annotations"].(map[string]any)
	return r.text(all[r.Annotation])
}

func (r *Refusal) text(v any) (string, bool) {
	switch t := v.(type) {
	case string:
		found := r.re.FindStringIndex(t)
		if found == nil || slices.Contains(r.Not, t) {
			return "", false
		}
		return strings.ToValidUTF8(t[found[0]:min(found[1], found[0]+maxValue)], ""), true
	case []any:
		for _, e := range t {
			if s, found := r.text(e); found {
				return s, true
			}
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(t)) {
			if s, found := r.text(t[k]); found {
				return s, true
			}
		}
	}
	return "", false
}
