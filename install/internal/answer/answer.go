// Package answer looks into decoded JSON: values by path, and checks over them
// that a checklist states as data.
package answer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/install/internal/web"
)

// At returns the value at a dotted path of names and list indexes; "" is doc
// itself. ok is false if there is none or it is null.
func At(doc any, path string) (v any, ok bool) {
	v = doc
	if path != "" {
		for name := range strings.SplitSeq(path, ".") {
			switch t := v.(type) {
			case map[string]any:
				v = t[name]
			case []any:
				i, err := strconv.Atoi(name)
				if err != nil || i < 0 || i >= len(t) {
					return nil, false
				}
				v = t[i]
			default:
				return nil, false
			}
		}
	}
	return v, v != nil
}

// Text is a scalar as text; ok is false for lists and objects.
func Text(v any) (s string, ok bool) {
	switch t := v.(type) {
	case string:
		return t, true
	case bool:
		return strconv.FormatBool(t), true
	case json.Number:
		return t.String(), true
	case float64:
		return strconv.FormatFloat(t, 'f', -1, 64), true
	case int64:
		return strconv.FormatInt(t, 10), true
	case int:
		return strconv.Itoa(t), true
	}
	return "", false
}

// Filter keeps the elements of a list whose fields have the values of where; a
// list in where means any of its values. What is no list or no object matches
// nothing.
func Filter(v any, where map[string]any) []any {
	list, ok := v.([]any)
	if !ok {
		if _, isMap := v.(map[string]any); !isMap {
			return nil
		}
		list = []any{v} // one object stands for a list of one
	}
	out := []any{}
	for _, e := range list {
		if matches(e, where) {
			out = append(out, e)
		}
	}
	return out
}

func matches(e any, where map[string]any) bool {
	for path, want := range where {
		v, ok := At(e, path)
		if !ok {
			return false
		}
		accepted := []any{want}
		if list, isList := want.([]any); isList {
			accepted = list
		}
		if !slices.ContainsFunc(accepted, func(w any) bool { return holds(v, w) }) {
			return false
		}
	}
	return true
}

// holds reports whether v is w, or a list with w in it.
func holds(v, w any) bool {
	if list, ok := v.([]any); ok {
		return slices.ContainsFunc(list, func(e any) bool { return equal(e, w) })
	}
	return equal(v, w)
}

func equal(a, b any) bool {
	x, okX := Text(a)
	y, okY := Text(b)
	return okX && okY && x == y
}

// Check states what a value has to be. With a path alone the value has to be
// there.
type Check struct {
	Path   string         `json:"path"`
	Where  map[string]any `json:"where"` // of a list: count only the elements with these values
	Equals any            `json:"equals"`
	In     []any          `json:"in"`  // one of these
	Has    any            `json:"has"` // a list with it, or text with it
	Min    *float64       `json:"min"` // of a number, or of the number of elements
	Max    *float64       `json:"max"`
	Code   string         `json:"code"`
}

// Judge compares what doc holds with the check. Got and want are for people,
// bounded and fit for a message.
func (c Check) Judge(doc any) (got, want string, ok bool) {
	v, present := At(doc, c.Path)
	if c.Where != nil && present {
		v = Filter(v, c.Where)
	}
	got = show(v)
	if !present {
		return got, c.want(), false
	}
	ok = (c.Equals == nil || equal(v, c.Equals)) &&
		(c.In == nil || slices.ContainsFunc(c.In, func(w any) bool { return equal(v, w) })) &&
		(c.Has == nil || has(v, c.Has)) && c.within(v)
	return got, c.want(), ok
}

func has(v, w any) bool {
	if s, isText := v.(string); isText {
		part, ok := Text(w)
		return ok && strings.Contains(s, part)
	}
	_, isList := v.([]any)
	return isList && holds(v, w)
}

func (c Check) within(v any) bool {
	if c.Min == nil && c.Max == nil {
		return true
	}
	n, ok := number(v)
	return ok && (c.Min == nil || n >= *c.Min) && (c.Max == nil || n <= *c.Max)
}

func number(v any) (float64, bool) {
	if list, ok := v.([]any); ok {
		return float64(len(list)), true
	}
	s, ok := Text(v)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}

func (c Check) want() string {
	var parts []string
	if c.Equals != nil {
		parts = append(parts, show(c.Equals))
	}
	if c.In != nil {
		var list []string
		for _, v := range c.In {
			list = append(list, show(v))
		}
		parts = append(parts, "one of "+strings.Join(list, ", "))
	}
	if c.Has != nil {
		parts = append(parts, show(c.Has)+" in it")
	}
	if c.Min != nil {
		parts = append(parts, fmt.Sprintf("at least %g", *c.Min))
	}
	if c.Max != nil {
		parts = append(parts, fmt.Sprintf("at most %g", *c.Max))
	}
	if len(parts) == 0 {
		return "a value"
	}
	return strings.Join(parts, ", ")
}

// show is a value for people: a list of scalars as it is, other lists by their
// length.
func show(v any) string {
	if v == nil {
		return "nothing"
	}
	if s, ok := Text(v); ok {
		return web.Quote(s)
	}
	list, ok := v.([]any)
	if !ok {
		return "an object"
	}
	var parts []string
	for _, e := range list {
		s, ok := Text(e)
		if !ok {
			return strconv.Itoa(len(list))
		}
		parts = append(parts, s)
	}
	if len(parts) == 0 {
		return "0"
	}
	return web.Quote(strings.Join(parts, ", "))
}
