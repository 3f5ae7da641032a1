package chart

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// walker visits every image reference of an object. visit gets the field and
// the reference; where it returns true, the reference is replaced in place by
// the one returned. It is called once per occurrence, in a fixed order.
type walker struct {
	visit func(field, image string) (string, bool)
}

func (w *walker) object(o Object) { w.tree("", o.Tree) }

// tree visits one object, or the objects of a list.
func (w *walker) tree(at string, m map[string]any) {
	kind, version := text(m["kind"]), text(m["apiVersion"])
	items, isList := m["items"].([]any)
	switch {
	case kind == "CustomResourceDefinition":
		w.defaults(at, m)
	case kind == "Secret" && version == "v1":
		w.secret(at, m)
	case isList && strings.HasSuffix(kind, "List"):
		for i, e := range items {
			if item, ok := e.(map[string]any); ok {
				w.tree(index(join(at, "items"), i), item)
			}
		}
	default:
		w.fields(at, m, anywhere)
	}
}

// defaults visits the default values in a custom resource's schema. The rest of
// a definition is prose and examples, which deploy nothing.
func (w *walker) defaults(at string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range sortedKeys(v) {
			if k == "default" {
				v[k] = w.value(join(at, k), anywhere, v[k])
				continue
			}
			w.defaults(join(at, k), v[k])
		}
	case []any:
		for i, e := range v {
			w.defaults(index(at, i), e)
		}
	}
}

// secret visits a Secret. Its data is seen without the base64 where it is text.
func (w *walker) secret(at string, m map[string]any) {
	data, _ := m["data"].(map[string]any)
	plain := map[string]any{}
	for k, v := range data {
		raw, err := base64.StdEncoding.DecodeString(text(v))
		if err == nil && utf8.Valid(raw) {
			plain[k] = string(raw)
		}
	}
	before := maps.Clone(plain)
	w.fields(join(at, "data"), plain, anywhere)
	for k, v := range plain {
		if v != before[k] {
			data[k] = base64.StdEncoding.EncodeToString([]byte(text(v)))
		}
	}
	rest := maps.Clone(m)
	delete(rest, "data")
	w.fields(at, rest, anywhere)
	maps.Copy(m, rest)
}

func (w *walker) value(at string, h hint, v any) any {
	switch v := v.(type) {
	case string:
		return w.text(at, h, v)
	case map[string]any:
		w.fields(at, v, h)
	case []any:
		w.list(at, h, v)
	}
	return v
}

// fields visits the fields of m, which lies in a field with hint h.
func (w *walker) fields(at string, m map[string]any, h hint) {
	done := w.parts(at, m)
	entry := hintOf(text(m["name"])) // an environment variable is named by a sibling
	for _, k := range sortedKeys(m) {
		if slices.Contains(done, k) {
			continue
		}
		inner := hintOf(k)
		switch {
		case k == "value" && entry != anywhere:
			inner = named
		case k == "reference" && h == exact: // core/v1 ImageVolumeSource
			inner = exact
		}
		if image, ok := m[k].(string); ok && k == "image" && image != "" && isContainer(at) {
			m[k] = w.container(join(at, k), image)
			continue
		}
		m[k] = w.value(join(at, k), inner, m[k])
	}
}

var containerField = regexp.MustCompile(`(?:^|\.)(?:containers|initContainers|ephemeralContainers)\[[0-9]+\]$`)

// isContainer says whether a field is a container of a pod (core/v1 Container).
func isContainer(at string) bool { return containerField.MatchString(at) }

// container visits the image of a container. It is an image whatever it looks
// like: a templated tag that came out empty must not stay unseen.
func (w *walker) container(at, image string) string {
	if to, ok := w.visit(at, image); ok {
		return to
	}
	return image
}

func isText(v any) bool { _, ok := v.(string); return ok }

func (w *walker) list(at string, h hint, list []any) {
	done := w.envPairs(at, list)
	for i, v := range list {
		if slices.Contains(done, i) {
			continue
		}
		eh := h
		// The value of a flag may be the next argument: --image busybox:1.36
		if i > 0 {
			if flag := text(list[i-1]); strings.HasPrefix(flag, "-") && !strings.Contains(flag, "=") {
				eh = max(eh, flagHint(flag))
			}
		}
		list[i] = w.value(index(at, i), eh, v)
	}
}

// text visits a string: the whole of it where its place promises an image,
// otherwise every word of it that is one (a flag's value, a line of a script or
// of an embedded document).
func (w *walker) text(at string, h hint, s string) string {
	if h != anywhere && h.accepts(s) {
		if image, ok := w.visit(at, s); ok {
			return image
		}
		return s
	}
	if !strings.ContainsAny(s, ":@") {
		return s
	}
	var out strings.Builder
	last, before := 0, ""
	for start := 0; start < len(s); {
		n := strings.IndexFunc(s[start:], isDelimiter)
		if n < 0 {
			n = len(s) - start
		}
		raw := s[start : start+n]
		word := strings.TrimRight(raw, ".:")
		if word != "" && wordHint(s, start, before).accepts(word) {
			if image, ok := w.visit(at, word); ok {
				out.WriteString(s[last:start])
				out.WriteString(image)
				last = start + len(word)
			}
		}
		if word != "" {
			before = raw
		} else {
			before += raw
		}
		if start += n; start < len(s) && s[start] == '\n' {
			before = ""
		}
		start++
	}
	out.WriteString(s[last:])
	return out.String()
}

// wordHint reads what stands before a word on its line: --image=, --image,
// image: or IMAGE= promise an image.
func wordHint(s string, start int, before string) hint {
	if strings.HasPrefix(before, "-") || strings.HasSuffix(before, ":") || start > 0 && s[start-1] == '=' {
		return flagHint(strings.TrimRight(before, ":"))
	}
	return anywhere
}

// isDelimiter bounds words by single bytes: all delimiters are ASCII.
func isDelimiter(r rune) bool {
	return r <= ' ' || strings.ContainsRune("\"'`,;=()<>{}[]|&\\", r)
}

func join(at, key string) string {
	if key == "" || strings.ContainsAny(key, `./[]" `) {
		return fmt.Sprintf("%s[%q]", at, key)
	}
	if at == "" {
		return key
	}
	return at + "." + key
}

func index(at string, i int) string { return fmt.Sprintf("%s[%d]", at, i) }

// scalar reads a tag, which YAML may take for a number (tag: 16).
func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}
