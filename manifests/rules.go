package manifests

import (
	"iter"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
)

// Patterns that checks use; the fields' tags repeat them, because a tag cannot
// name a constant.
const (
	namePattern     = `^[a-z0-9][a-z0-9._-]*$`
	platformPattern = `^[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?$`
	inputPattern    = `^[a-z][a-z0-9_]*([.][a-z0-9_]+)*$`
	codePattern     = `^[A-Z][A-Z0-9]*(-[A-Z0-9]+)+$`
)

// structType is what the tags of a struct say. The same tags make the JSON
// Schema, so the decoder and the schema agree by construction.
type structType struct {
	fields []field
	groups []group
}

type field struct {
	name     string
	index    []int
	required bool
	rules    fieldRules
}

// group is a set of keys that belong together; exactly one group of a struct
// is wanted.
type group struct {
	name    string
	members []string
}

type fieldRules struct {
	enum      []string
	pattern   string
	minimum   *int64
	maximum   *int64
	minLength int
	maxLength int
	minItems  int
}

// structType reads the tags of t once per document.
func (d *document) structType(t reflect.Type) *structType {
	if st, ok := d.types[t]; ok {
		return st
	}
	st := new(structType)
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if f.Anonymous || name == "-" {
			continue
		}
		fi := field{name: name, index: f.Index, required: options != "omitempty"}
		for tag := range strings.SplitSeq(f.Tag.Get("jsonschema"), ",") {
			key, value, _ := strings.Cut(tag, "=")
			if key == "oneof_required" {
				st.join(value, name)
				continue
			}
			fi.rules.set(key, value)
		}
		st.fields = append(st.fields, fi)
	}
	d.types[t] = st
	return st
}

func (st *structType) join(name, member string) {
	i := slices.IndexFunc(st.groups, func(g group) bool { return g.name == name })
	if i < 0 {
		st.groups = append(st.groups, group{name: name})
		i = len(st.groups) - 1
	}
	st.groups[i].members = append(st.groups[i].members, member)
}

func (r *fieldRules) set(key, value string) {
	number := func() int64 {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			panic("manifests: tag " + key + "=" + value + " is not a number")
		}
		return n
	}
	switch key {
	case "":
	case "enum":
		r.enum = append(r.enum, value)
	case "pattern":
		r.pattern = value
	case "minimum":
		r.minimum = new(number())
	case "maximum":
		r.maximum = new(number())
	case "minLength":
		r.minLength = int(number())
	case "maxLength":
		r.maxLength = int(number())
	case "minItems":
		r.minItems = int(number())
	default:
		panic("manifests: tag " + key + " is not known")
	}
}

// checkField checks a decoded value against the rules of its field.
func (d *document) checkField(n ast.Node, rv reflect.Value, p path, f field) {
	switch rv.Kind() {
	case reflect.String:
		d.checkString(n, rv.String(), p, f.rules, f.required)
	case reflect.Int, reflect.Int64:
		i, r := rv.Int(), f.rules
		if r.minimum != nil && i < *r.minimum {
			d.add(n, p, "want at least %d, got %d", *r.minimum, i)
		}
		if r.maximum != nil && i > *r.maximum {
			d.add(n, p, "want at most %d, got %d", *r.maximum, i)
		}
	case reflect.Slice:
		d.checkList(n, rv, p, f.rules)
	}
}

func (d *document) checkList(n ast.Node, rv reflect.Value, p path, r fieldRules) {
	if rv.Len() < r.minItems {
		d.add(n, p, "list is empty")
	}
	if rv.Type().Elem().Kind() != reflect.String {
		return
	}
	for i := range rv.Len() {
		step := p.with(i)
		d.checkString(locate(n, path{i}), rv.Index(i).String(), step, r, true)
	}
}

func (d *document) checkString(n ast.Node, s string, p path, r fieldRules, required bool) {
	switch {
	case s == "" && (required || r.minLength > 0):
		d.add(n, p, "is empty")
	case r.maxLength > 0 && utf8.RuneCountInString(s) > r.maxLength:
		d.add(n, p, "is longer than %d characters", r.maxLength)
	case len(r.enum) > 0 && !slices.Contains(r.enum, s):
		hint := ""
		if best := nearest(s, r.enum); best != "" {
			hint = ", did you mean " + best + "?"
		}
		d.add(n, p, "got %s, want one of %s%s", quoted(s), strings.Join(r.enum, ", "), hint)
	case r.pattern != "" && !d.matches(r.pattern, s):
		d.add(n, p, "got %s, want %s", quoted(s), patternWords(r.pattern))
	}
}

// matches reports whether all of s fits pattern. Patterns are the constants of
// this package, so compiling cannot fail.
func (d *document) matches(pattern, s string) bool {
	re, ok := d.patterns[pattern]
	if !ok {
		re = regexp.MustCompile(pattern)
		d.patterns[pattern] = re
	}
	return re.MatchString(s)
}

// patternWords says a pattern in words where that is easier to read.
func patternWords(pattern string) string {
	switch pattern {
	case namePattern:
		return "lower-case letters, digits, '.', '_' and '-', beginning with a letter or digit"
	case platformPattern:
		return "os/arch or os/arch/variant, as in linux/amd64"
	case inputPattern:
		return "lower-case words joined by dots, as in db.url"
	case codePattern:
		return "an upper-case code, as in PG-01"
	case `^[a-z0-9]+_[a-z0-9]+$`:
		return "os_arch, as in linux_amd64"
	case `^[a-z0-9]+(-[a-z0-9]+)*$`:
		return "kebab-case, as in create-account"
	case `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`:
		return "a date, as in 2027-06-30"
	case `^sha256:[0-9a-f]{64}$`:
		return "sha256: and 64 lower-case hex digits"
	case `^([0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})$`:
		return "a full fingerprint of 40 or 64 hex digits"
	case `^([0-9]+(ns|us|ms|s|m|h))+$`:
		return "a duration, as in 30s or 24h"
	}
	return "what matches " + pattern
}

// didYouMean returns ", did you mean NAME?" for a likely misspelling, or "".
func didYouMean(key string, names iter.Seq[string]) string {
	if s := nearest(key, slices.Sorted(names)); s != "" {
		return ", did you mean " + s + "?"
	}
	return ""
}
