package manifests

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Encode writes the lock as YAML that ParseLock reads back to the same value.
// The bytes depend on nothing but the lock: one line for each descriptor, keys
// in the order of the types, so that two locks compare well line by line. A
// text that is not UTF-8 or holds control characters is an error, as is a lock
// of more than MaxDocument bytes.
func (l *Lock) Encode() ([]byte, error) {
	w := &yamlWriter{plain: regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._/@+:-]*[A-Za-z0-9]$`)}
	w.line("", "apiVersion", l.APIVersion)
	w.line("", "kind", l.Kind)
	w.line("", "definition", l.Definition)
	w.line("", "created", l.Created)
	if len(l.Items) == 0 {
		w.b.WriteString("items: []\n")
	} else {
		w.b.WriteString("items:\n")
	}
	for _, item := range l.Items {
		w.line("- ", "entry", item.Entry)
		w.optional("  ", "spec", item.Spec)
		w.line("  ", "kind", item.Kind)
		w.line("  ", "name", item.Name)
		w.optional("  ", "ref", item.Ref)
		w.optional("  ", "source", item.Source)
		w.descriptors("manifests", item.Manifests, true)
		w.descriptors("blobs", item.Blobs, false)
	}
	if w.err != nil {
		return nil, fmt.Errorf("encode lock: %w", w.err)
	}
	if w.b.Len() > MaxDocument {
		return nil, fmt.Errorf("encode lock: it has %d bytes, at most %d are allowed", w.b.Len(), MaxDocument)
	}
	return w.b.Bytes(), nil
}

// yamlWriter writes the subset of YAML that a lock needs. A general encoder's
// output may change between releases; a lock's bytes are hashed.
type yamlWriter struct {
	b     bytes.Buffer
	plain *regexp.Regexp
	err   error
}

func (w *yamlWriter) line(indent, key, value string) {
	fmt.Fprintf(&w.b, "%s%s: %s\n", indent, key, w.scalar(value))
}

func (w *yamlWriter) optional(indent, key, value string) {
	if value != "" {
		w.line(indent, key, value)
	}
}

func (w *yamlWriter) descriptors(key string, list []LockedDescriptor, required bool) {
	if len(list) == 0 {
		if required {
			fmt.Fprintf(&w.b, "  %s: []\n", key)
		}
		return
	}
	fmt.Fprintf(&w.b, "  %s:\n", key)
	for _, d := range list {
		fmt.Fprintf(&w.b, "  - {mediaType: %s, digest: %s, size: %d", w.scalar(d.MediaType), w.scalar(d.Digest), d.Size)
		w.flow(", ", "artifactType", d.ArtifactType)
		if d.Platform != nil {
			w.platform(*d.Platform)
		}
		w.flow(", ", "role", d.Role)
		w.flow(", ", "ref", d.Ref)
		w.b.WriteString("}\n")
	}
}

// flow writes an optional key of a mapping in braces. It reports whether there
// was something to write.
func (w *yamlWriter) flow(before, key, value string) bool {
	if value == "" {
		return false
	}
	fmt.Fprintf(&w.b, "%s%s: %s", before, key, w.scalar(value))
	return true
}

func (w *yamlWriter) platform(p LockedPlatform) {
	w.b.WriteString(", platform: {")
	before := ""
	for _, f := range [][2]string{{"os", p.OS}, {"architecture", p.Architecture}, {"variant", p.Variant}, {"osVersion", p.OSVersion}} {
		if w.flow(before, f[0], f[1]) {
			before = ", "
		}
	}
	if len(p.OSFeatures) > 0 {
		features := make([]string, len(p.OSFeatures))
		for i, s := range p.OSFeatures {
			features[i] = w.scalar(s)
		}
		fmt.Fprintf(&w.b, "%sosFeatures: [%s]", before, strings.Join(features, ", "))
	}
	w.b.WriteString("}")
}

// scalar returns s plain where every YAML reader takes it for the same string,
// in double quotes elsewhere.
func (w *yamlWriter) scalar(s string) string {
	if !utf8.ValidString(s) {
		w.err = fmt.Errorf("text %q is not UTF-8", s)
		return `""`
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfeff }) {
		w.err = fmt.Errorf("text %q holds control characters", s)
		return `""`
	}
	words := []string{"true", "false", "yes", "no", "on", "off", "null", "nan", "inf"}
	if w.plain.MatchString(s) && !slices.Contains(words, strings.ToLower(s)) {
		return s
	}
	return quoteYAML(s)
}

// quoteYAML quotes in the way YAML and JSON share. Non-ASCII characters that do
// not print are escaped, others stand as they are.
func quoteYAML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x80 || strconv.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
