package manifests

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Encode writes the map as indented JSON with a newline at the end, entries
// sorted by source, then target. The bytes depend on nothing but the map.
func (m *RelocationMap) Encode() ([]byte, error) {
	sorted := *m
	sorted.Entries = slices.Clone(m.Entries)
	slices.SortStableFunc(sorted.Entries, func(a, b Relocation) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Target, b.Target), cmp.Compare(a.Digest, b.Digest))
	})
	if sorted.Entries == nil {
		sorted.Entries = []Relocation{}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(&sorted); err != nil {
		return nil, fmt.Errorf("encode relocation map: %w", err)
	}
	return b.Bytes(), nil
}

// ParseRelocationMap decodes a relocation map strictly: unknown keys, keys in
// another case, duplicate keys and trailing data are findings, all of which are
// reported at once. name stands for the document in findings.
func ParseRelocationMap(name string, data []byte) (*RelocationMap, error) {
	d := &document{name: name, types: map[reflect.Type]*structType{}, patterns: map[string]*regexp.Regexp{}}
	m := new(RelocationMap)
	switch {
	case len(data) > MaxDocument:
		d.whole("document has %d bytes, at most %d are allowed", len(data), MaxDocument)
	case !utf8.Valid(data):
		d.whole("document is not UTF-8 text")
	default:
		// A document of another kind would only give a page of unknown keys.
		var head struct{ Kind string }
		if json.Unmarshal(data, &head) == nil && head.Kind != "" && head.Kind != KindRelocationMap {
			d.whole("kind: got %s, want %s", quoted(head.Kind), KindRelocationMap)
			break
		}
		j := &jsonReader{d: d, data: data, dec: json.NewDecoder(bytes.NewReader(data))}
		j.dec.UseNumber()
		if j.document(m) {
			m.check(d)
		}
	}
	if len(d.findings) > 0 {
		return nil, d.findings.sorted(name)
	}
	return m, nil
}

func (m *RelocationMap) check(d *document) {
	if m.APIVersion != APIVersion {
		d.whole("apiVersion: got %s, want %s", quoted(m.APIVersion), APIVersion)
	}
	if m.Kind != KindRelocationMap {
		d.whole("kind: got %s, want %s", quoted(m.Kind), KindRelocationMap)
	}
	digests := func(p path, list ...string) {
		for _, s := range list {
			if !d.matches(`^sha256:[0-9a-f]{64}$`, s) {
				d.addAt(0, 0, p, "got %s, want sha256: and 64 lower-case hex digits", quoted(s))
			}
		}
	}
	digests(path{"bundle"}, m.Bundle)
	for i, e := range m.Entries {
		p := path{"entries", i}
		digests(p.with("sourceDigest"), e.SourceDigest)
		digests(p.with("digest"), e.Digest)
		digests(p.with("referrers"), e.Referrers...)
		if e.Source == "" || e.Target == "" {
			d.addAt(0, 0, p, "source and target must not be empty")
		}
	}
}

// jsonReader decodes JSON into structs, slices, strings and booleans and collects
// findings. encoding/json alone keeps the last of duplicate keys and matches
// names without case.
type jsonReader struct {
	d    *document
	data []byte
	dec  *json.Decoder
	line int // of offset
	col  int
	off  int
}

func (j *jsonReader) document(v any) bool {
	if err := j.value(reflect.ValueOf(v).Elem(), nil); err != nil {
		j.add(nil, "not JSON: %s", jsonReason(err))
		return false
	}
	if _, err := j.dec.Token(); !errors.Is(err, io.EOF) {
		j.add(nil, "data after the end of the document")
	}
	return len(j.d.findings) == 0
}

// jsonReason leaves out what the decoder quotes of the document.
func jsonReason(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	return "syntax"
}

// value reads the next value into rv. The error is the decoder's; what does
// not fit rv's type is a finding.
func (j *jsonReader) value(rv reflect.Value, p path) error {
	t, err := j.dec.Token()
	if err != nil {
		return err
	}
	switch {
	case t == json.Delim('{') && rv.Kind() == reflect.Struct:
		return j.object(rv, p)
	case t == json.Delim('[') && rv.Kind() == reflect.Slice:
		return j.array(rv, p)
	case rv.Kind() == reflect.String:
		if s, ok := t.(string); ok {
			rv.SetString(s)
			return nil
		}
	case rv.Kind() == reflect.Bool:
		if b, ok := t.(bool); ok {
			rv.SetBool(b)
			return nil
		}
	}
	want := map[reflect.Kind]string{reflect.Struct: "an object", reflect.Slice: "a list", reflect.String: "a string", reflect.Bool: "true or false"}
	j.add(p, "want %s", want[rv.Kind()])
	return j.rest(t)
}

// rest reads to the end of a value that began with t. Nesting is bounded by
// the decoder, and nothing is kept.
func (j *jsonReader) rest(t json.Token) error {
	for depth := 0; ; {
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
		var err error
		if t, err = j.dec.Token(); err != nil {
			return err
		}
	}
}

func (j *jsonReader) object(rv reflect.Value, p path) error {
	fields := map[string]int{}
	required := map[string]bool{}
	for i := range rv.NumField() {
		name, options, _ := strings.Cut(rv.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = i
		required[name] = options != "omitempty"
	}
	present := map[string]bool{}
	for j.dec.More() {
		t, err := j.dec.Token()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok {
			return errors.New("key is not a string")
		}
		i, known := fields[key]
		if !known || present[key] {
			message := "unknown key"
			if known {
				message = "duplicate key"
			}
			j.add(p.with(key), "%s", message)
			t, err := j.dec.Token()
			if err == nil {
				err = j.rest(t)
			}
			if err != nil {
				return err
			}
			continue
		}
		present[key] = true
		if err := j.value(rv.Field(i), p.with(key)); err != nil {
			return err
		}
	}
	for i := range rv.NumField() {
		name, _, _ := strings.Cut(rv.Type().Field(i).Tag.Get("json"), ",")
		if required[name] && !present[name] {
			j.add(p.with(name), "missing")
		}
	}
	_, err := j.dec.Token() // the closing brace
	return err
}

func (j *jsonReader) array(rv reflect.Value, p path) error {
	rv.Set(reflect.MakeSlice(rv.Type(), 0, 0))
	for i := 0; j.dec.More(); i++ {
		v := reflect.New(rv.Type().Elem()).Elem()
		if err := j.value(v, p.with(i)); err != nil {
			return err
		}
		rv.Set(reflect.Append(rv, v))
	}
	_, err := j.dec.Token() // the closing bracket
	return err
}

// add reports a finding where the decoder stands: at the last character of the
// token that is wrong.
func (j *jsonReader) add(p path, format string, args ...any) {
	off := int(min(j.dec.InputOffset(), int64(len(j.data))))
	before := j.data[j.off:off]
	if j.line == 0 {
		j.line = 1
	}
	if n := bytes.Count(before, []byte("\n")); n > 0 {
		j.line += n
		j.col = 0
		before = before[bytes.LastIndexByte(before, '\n')+1:]
	}
	j.col += utf8.RuneCount(before)
	j.off = off
	j.d.addAt(j.line, max(j.col, 1), p, format, args...)
}
