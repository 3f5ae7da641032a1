package chart

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// hidden is an error whose text shows no secret. What it wraps does: it is there
// to be told apart, not to be printed.
type hidden struct {
	error
	text string
}

func (h *hidden) Error() string { return h.text }
func (h *hidden) Unwrap() error { return h.error }

// maxError bounds an error of a template: one that includes itself has a line
// for every time.
const maxError = 2000

// hide takes secret values out of an error that a template or a parser made.
// They repeat what they were given: fail and required print it, YAML names the
// anchor that it takes a password for.
func hide(err error, files []ValuesFile) error {
	text := err.Error()
	if strings.Contains(text, "YAML") {
		text = unquoted(text)
	}
	if values, bad := MergeValues(files); bad == nil {
		text = Hide(text, values)
	}
	if n := len(text); n > maxError {
		text = strings.ToValidUTF8(text[:maxError/2]+" … "+text[n-maxError/2:], "")
	}
	return &hidden{err, text}
}

// Hide returns text without the values whose keys, or the keys of what they lie
// in, say that they are secret, and without the passwords of URLs.
func Hide(text string, values map[string]any) string {
	var found []string
	secrets(values, false, &found)
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, s := range slices.Compact(found) {
		quoted := strconv.Quote(s)
		for _, form := range []string{s, quoted[1 : len(quoted)-1], base64.StdEncoding.EncodeToString([]byte(s))} {
			pairs = append(pairs, form, notShown)
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

const notShown = "(not shown)"

// minSecret is the shortest value that is looked for: a shorter one is in every
// text.
const minSecret = 4

var (
	secretKey = regexp.MustCompile(`(?i)pass|pwd|secret|token|key|cred|private|licen[cs]e|auth|dsn|salt|cookie|cert|conn`)
	userInfo  = regexp.MustCompile(`://[^/@\s:]*:([^/@\s]+)@`)
)

// secrets collects what must not be seen. inside says that v lies below a key
// that says so.
func secrets(v any, inside bool, out *[]string) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			secrets(e, inside || secretKey.MatchString(k), out)
		}
	case []any:
		for _, e := range v {
			secrets(e, inside, out)
		}
	case string:
		if inside && len(v) >= minSecret {
			*out = append(*out, v)
		}
		for _, m := range userInfo.FindAllStringSubmatch(v, -1) {
			*out = append(*out, m[1])
		}
	}
}

// quotedText is what a parser of YAML repeats of a document.
var quotedText = regexp.MustCompile("`[^`]*`|unknown anchor '[^']*'")

func unquoted(text string) string {
	return quotedText.ReplaceAllStringFunc(text, func(s string) string {
		if strings.HasPrefix(s, "`") {
			return notShown
		}
		return "unknown anchor " + notShown
	})
}
