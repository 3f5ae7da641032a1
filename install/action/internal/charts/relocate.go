package charts

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/manifests"
)

// reference is an image reference in parts, with what Docker adds to a short
// one: docker.io, library and latest.
type reference struct {
	name   string // host/path
	tag    string
	digest string
}

func parse(s string) reference {
	var r reference
	s, r.digest, _ = strings.Cut(s, "@")
	r.name = s
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		r.name, r.tag = s[:i], s[i+1:]
	}
	host, rest, ok := strings.Cut(r.name, "/")
	switch {
	case !ok:
		r.name = "docker.io/library/" + r.name
	case !strings.ContainsAny(host, ".:") && host != "localhost":
		r.name = "docker.io/" + r.name
	case host == "index.docker.io":
		r.name = "docker.io/" + rest
	}
	if rest, ok := strings.CutPrefix(r.name, "docker.io/"); ok && !strings.Contains(rest, "/") {
		r.name = "docker.io/library/" + rest
	}
	if r.tag == "" && r.digest == "" {
		r.tag = "latest"
	}
	return r
}

// Find returns the place of an image: the entry it was mirrored from, or the
// entry it already points at.
func Find(m *manifests.RelocationMap, image string) (manifests.Relocation, bool) {
	want := parse(image)
	i := slices.IndexFunc(m.Entries, func(e manifests.Relocation) bool {
		return e.Kind == bundle.KindImage && (want.is(parse(e.Source), e) || want.is(parse(e.Target), e))
	})
	if i < 0 {
		return manifests.Relocation{}, false
	}
	return m.Entries[i], true
}

// is reports whether r names what e holds under the name have. A digest decides
// alone; it may be that of the whole index where the entry holds a part of it.
func (r reference) is(have reference, e manifests.Relocation) bool {
	if r.name != have.name {
		return false
	}
	if r.digest != "" {
		return r.digest == e.Digest || r.digest == e.SourceDigest
	}
	return r.tag == have.tag
}

// UnknownError says that objects name images which were not mirrored and could
// never be pulled.
type UnknownError struct {
	References []chart.Reference // sorted
}

func (e *UnknownError) Error() string {
	var places []string
	for _, u := range e.References {
		places = append(places, u.Image+" in "+u.Where)
	}
	return "not mirrored: " + strings.Join(places, "; ")
}

// Images lists the images, each once.
func (e *UnknownError) Images() string {
	var images []string
	for _, u := range e.References {
		images = append(images, u.Image)
	}
	return strings.Join(slices.Compact(images), ", ")
}

// Relocate returns copies of the objects with every image at the enclave's
// registry, by tag and digest: what [chart.Images] finds, and arguments and
// environment variables that equal a carried reference, however short. Images of
// ignore stay. One that the map lacks gives an *UnknownError; only all of them
// together tell a person what to add. Relocating twice changes nothing.
func Relocate(objects []chart.Object, m *manifests.RelocationMap, ignore []string) ([]chart.Object, error) {
	out, unknown, err := chart.Relocate(objects, func(image string) (string, bool, error) {
		if slices.Contains(ignore, image) {
			return image, true, nil
		}
		e, ok := Find(m, image)
		if !ok {
			return "", false, nil
		}
		return e.Target + "@" + e.Digest, true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("relocate images: %w", err)
	}
	if len(unknown) > 0 {
		return nil, &UnknownError{unknown}
	}
	sources := make(map[string]string)
	for _, e := range m.Entries {
		if e.Kind == bundle.KindImage && strings.ContainsAny(e.Source, ":@") && !slices.Contains(ignore, e.Source) {
			sources[e.Source] = e.Target + "@" + e.Digest
		}
	}
	for _, o := range out { // they are copies
		equal(o.Tree, sources)
	}
	return out, nil
}

// equal rewrites arguments, commands and values of environment variables that
// are a carried reference and nothing else.
func equal(v any, sources map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range []string{"args", "command"} {
			list, _ := v[key].([]any)
			for i := range list {
				list[i] = swap(list[i], sources)
			}
		}
		env, _ := v["env"].([]any)
		for _, e := range env {
			if pair, ok := e.(map[string]any); ok && pair["value"] != nil {
				pair["value"] = swap(pair["value"], sources)
			}
		}
		for _, inner := range v {
			equal(inner, sources)
		}
	case []any:
		for _, inner := range v {
			equal(inner, sources)
		}
	}
}

// swap replaces a text that is a carried reference: alone, or as the value of a
// flag (--helper=busybox:1).
func swap(v any, sources map[string]string) any {
	s, ok := v.(string)
	if !ok {
		return v
	}
	if to, ok := sources[s]; ok {
		return to
	}
	flag, value, ok := strings.Cut(s, "=")
	if to, known := sources[value]; ok && known && strings.HasPrefix(flag, "-") {
		return flag + "=" + to
	}
	return v
}

// Stream relocates a stream of YAML documents, such as the manifest of a release.
// Without an image in it, it stays byte for byte.
func Stream(stream string, m *manifests.RelocationMap, ignore []string) (string, error) {
	objects, err := chart.Parse(stream)
	if err != nil {
		return "", err
	}
	moved, err := Relocate(objects, m, ignore)
	if err != nil {
		return "", err
	}
	if !slices.EqualFunc(objects, moved, func(a, b chart.Object) bool { return reflect.DeepEqual(a.Tree, b.Tree) }) {
		return Join(moved)
	}
	return stream, nil
}

// Join is the reverse of [chart.Parse].
func Join(objects []chart.Object) (string, error) {
	var b strings.Builder
	for _, o := range objects {
		data, err := o.YAML()
		if err != nil {
			return "", err
		}
		b.WriteString("---\n")
		if o.Source != "" {
			b.WriteString("# Source: " + o.Source + "\n")
		}
		b.Write(data)
	}
	return b.String(), nil
}
