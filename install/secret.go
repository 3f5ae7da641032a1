package install

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/airlock-project/airlock/bundle/regular"
)

// maxSecret bounds a secret: a key or a token, not a disk.
const maxSecret = 1 << 20

// errUnset is a secret in a variable of the environment that is not there.
var errUnset = errors.New("the variable is not set")

// SecretsFrom resolves secret references: env:NAME from the environment and
// file:PATH from a file of at most 1 MiB, relative to dir. Line ends at the end
// of a value are dropped. An error names the reference, never the value.
func SecretsFrom(dir string) func(ref string) ([]byte, error) {
	return func(ref string) ([]byte, error) {
		scheme, name, _ := strings.Cut(ref, ":")
		switch scheme {
		case "env":
			v, ok := os.LookupEnv(name)
			if !ok {
				return nil, fmt.Errorf("read secret %s: %w", ref, errUnset)
			}
			return []byte(strings.TrimRight(v, "\r\n")), nil
		case "file":
			data, err := regular.Read(sitePath(dir, name), maxSecret)
			if err != nil {
				return nil, fmt.Errorf("read secret %s: %w", ref, err)
			}
			return []byte(strings.TrimRight(string(data), "\r\n")), nil
		}
		return nil, fmt.Errorf("read secret: a reference starts with \"env:\" or \"file:\" and this one does not")
	}
}

// sitePath resolves a path of the site document.
func sitePath(dir, name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(dir, name)
}

// isReference reports whether s is a secret reference.
func isReference(s string) bool {
	rest, ok := strings.CutPrefix(s, "env:")
	if !ok {
		rest, ok = strings.CutPrefix(s, "file:")
	}
	return ok && rest != ""
}

// redactor removes secret values from text. It is safe for concurrent use; the
// zero value removes nothing.
type redactor struct {
	mu    sync.Mutex
	forms []string // what to remove, old and new in turns
	seen  map[string]bool
}

// minForm is the shortest part of a secret that is looked for by itself: a
// shorter one would black out half of every text.
const minForm = 12

// add learns a secret and the shapes in which libraries print it.
func (r *redactor) add(name, value string) {
	if value == "" {
		return
	}
	mark := "[secret " + name + "]"
	shapes := []string{value}
	// A long line of a key is as good as the key.
	for line := range strings.Lines(value) {
		if line = strings.TrimSpace(line); len(line) >= minForm && !strings.HasPrefix(line, "-----") {
			shapes = append(shapes, line)
		}
	}
	shapes = append(shapes, passwords(value)...)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = make(map[string]bool)
	}
	for _, s := range shapes {
		if len(s) < minSecret {
			continue // refused where it is the site's; its letters are those of every text
		}
		quoted := strconv.Quote(s)
		for _, form := range []string{
			s, quoted[1 : len(quoted)-1], jsonText(s), url.QueryEscape(s), url.PathEscape(s), url.UserPassword("", s).String()[1:],
			base64.StdEncoding.EncodeToString([]byte(s)), base64.RawStdEncoding.EncodeToString([]byte(s)),
			base64.URLEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)),
		} {
			if !r.seen[form] {
				r.seen[form] = true
				r.forms = append(r.forms, form, mark)
			}
		}
	}
}

// passwords returns the password of a URL as written and decoded, in the ways
// in which libraries read it.
func passwords(value string) []string {
	_, rest, ok := strings.Cut(value, "://")
	if !ok {
		return nil
	}
	authority, _, _ := strings.Cut(rest, "/")
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		at = strings.LastIndexByte(rest, '@') // a slash in the password that should have been encoded
	}
	if at < 0 {
		return nil
	}
	_, raw, ok := strings.Cut(rest[:at], ":")
	if !ok || raw == "" {
		return nil
	}
	out := []string{raw}
	for _, decode := range []func(string) (string, error){url.PathUnescape, url.QueryUnescape} {
		if s, err := decode(raw); err == nil && s != "" {
			out = append(out, s)
		}
	}
	return out
}

// text returns s without any secret learned so far.
func (r *redactor) text(s string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.forms) == 0 {
		return s
	}
	return strings.NewReplacer(r.longestFirst()...).Replace(s)
}

// longestFirst orders the forms so that a whole secret goes before its parts:
// at one position a Replacer takes the first that matches.
func (r *redactor) longestFirst() []string {
	pairs := make([][2]string, 0, len(r.forms)/2)
	for i := 0; i < len(r.forms); i += 2 {
		pairs = append(pairs, [2]string{r.forms[i], r.forms[i+1]})
	}
	sortPairs(pairs)
	out := make([]string, 0, len(r.forms))
	for _, p := range pairs {
		out = append(out, p[0], p[1])
	}
	return out
}

// value returns v, plain Go data, with every string in it redacted.
func (r *redactor) value(v any) any {
	switch t := v.(type) {
	case string:
		return r.text(t)
	case []any:
		out := make([]any, len(t))
		for i, e := range t {
			out[i] = r.value(e)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(t))
		for k, e := range t {
			out[r.text(k)] = r.value(e)
		}
		return out
	}
	return v
}
