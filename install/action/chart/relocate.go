package chart

import (
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
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

// find returns the place of an image: the entry it was mirrored from, or the
// entry it already points at.
func find(m *manifests.RelocationMap, image string) (manifests.Relocation, bool) {
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

// relocate points every image at the enclave's registry, by tag and digest. An
// image that was not mirrored is a finding, because it could never be pulled.
func relocate(objects []chart.Object, a arguments) ([]chart.Object, *install.Finding, error) {
	out, unknown, err := chart.Relocate(objects, func(image string) (string, bool, error) {
		if slices.Contains(a.Ignore, image) {
			return image, true, nil
		}
		e, ok := find(a.Map, image)
		if !ok {
			return "", false, nil
		}
		return e.Target + "@" + e.Digest, true, nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("relocate images of chart %s: %w", a.Chart, err)
	}
	if len(unknown) == 0 {
		return out, nil, nil
	}
	var images, places []string
	for _, u := range unknown {
		images = append(images, u.Image)
		places = append(places, fmt.Sprintf("%s in %s", u.Image, u.Where))
	}
	return nil, &install.Finding{
		Code: codeImages, Detail: "not mirrored: " + strings.Join(places, "; "),
		Fields: map[string]string{"chart": a.Chart, "images": strings.Join(slices.Compact(images), ", ")},
	}, nil
}
