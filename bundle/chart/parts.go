package chart

import (
	"path"
	"strings"
)

// References are often written in parts: a repository here, a tag there. The
// forms known are
//
//	{registry, repository, tag, digest}   values-like maps in custom resources
//	{registry, image, tag, digest}        the same with another name
//	{repository, image, version}          NVIDIA's operators
//	{image, tag}, {xImage, xImageTag}     separate fields
//	X_IMAGE and X_IMAGE_TAG               environment variables and config maps
//
// Registry and digest may be absent, tag or digest may not: a repository alone
// can be anything.

// slot is one part of a reference: a key of a map, or of an environment entry.
type slot struct {
	m   map[string]any
	key string
}

func (s slot) read() string {
	if s.m == nil {
		return ""
	}
	return scalar(s.m[s.key])
}

func (s slot) present() bool {
	if s.m == nil {
		return false
	}
	_, ok := s.m[s.key]
	return ok
}

// parted is a reference in parts. A slot without a map is absent.
type parted struct {
	registry, repository, image, tag, digest slot
}

// read assembles the reference; ok is false if the parts make none.
func (p parted) read() (ref, bool) {
	var names []string
	for _, s := range []slot{p.registry, p.repository, p.image} {
		if v := strings.Trim(s.read(), "/"); v != "" {
			names = append(names, v)
		}
	}
	r, ok := parseRef(strings.Join(names, "/"))
	if !ok || r.pinned() {
		return ref{}, false
	}
	r.tag, r.digest = p.tag.read(), p.digest.read()
	if strings.HasPrefix(r.tag, "sha256:") && r.digest == "" {
		r.tag, r.digest = "", r.tag
	}
	if !r.pinned() || r.tag != "" && !tagPattern.MatchString(r.tag) || r.digest != "" && !digestPattern.MatchString(r.digest) {
		return ref{}, false
	}
	return r, true
}

// write puts a reference into the parts, so that a consumer that joins them
// with the usual "/", ":" and "@" gets it back. A part that does not exist is
// not invented: a digest without a place of its own goes behind the tag.
func (p parted) write(r ref) {
	name := r.name()
	if p.registry.read() != "" && r.host != "" {
		p.registry.m[p.registry.key] = r.host
		name = r.path
	} else if p.registry.read() != "" {
		p.registry.m[p.registry.key] = "docker.io"
	}
	if p.digest.present() {
		p.digest.m[p.digest.key] = r.digest
	} else if r.digest != "" && r.tag != "" {
		r.tag += "@" + r.digest
	} else if r.digest != "" {
		algorithm, hex, _ := strings.Cut(r.digest, ":")
		name, r.tag = name+"@"+algorithm, hex
	}
	if p.tag.present() && (r.tag != "" || p.digest.present()) {
		p.tag.m[p.tag.key] = r.tag
	}
	switch {
	case p.repository.m != nil && p.image.m != nil:
		p.repository.m[p.repository.key], p.image.m[p.image.key] = path.Split(name)
		p.repository.m[p.repository.key] = strings.TrimSuffix(p.repository.read(), "/")
	case p.repository.m != nil:
		p.repository.m[p.repository.key] = name
	default:
		p.image.m[p.image.key] = name
	}
}

// keys lists the fields that the reference takes up.
func (p parted) keys() []string {
	var keys []string
	for _, s := range []slot{p.registry, p.repository, p.image, p.tag, p.digest} {
		if s.read() != "" {
			keys = append(keys, s.key)
		}
	}
	return keys
}

// visitParts visits p as one reference and reports whether it is one.
func (w *walker) visitParts(at string, p parted) bool {
	r, ok := p.read()
	if !ok {
		return false
	}
	if image, ok := w.visit(at, r.String()); ok {
		if n, ok := parseRef(image); ok {
			p.write(n)
		}
	}
	return true
}

// parts visits the references that lie in m in parts and returns the keys
// they take up.
func (w *walker) parts(at string, m map[string]any) []string {
	get := func(key string) slot {
		if s := (slot{m, key}); s.present() {
			return s
		}
		return slot{}
	}
	p := parted{registry: get("registry"), repository: get("repository"), image: get("image"), tag: get("tag"), digest: get("digest")}
	if p.repository.m != nil && isText(m["repository"]) || p.image.m != nil && isText(m["image"]) {
		if p.repository.m != nil && p.image.m != nil && p.tag.m == nil {
			p.tag = get("version")
		}
		if w.visitParts(at, p) {
			return p.keys()
		}
	}
	var done []string
	for _, k := range sortedKeys(m) {
		if hintOf(k) == anywhere || !isText(m[k]) {
			continue
		}
		for _, suffix := range []string{"Tag", "_TAG", "_tag", "-tag", ".tag"} {
			tag := get(k + suffix)
			if tag.m != nil && w.visitParts(join(at, k), parted{image: slot{m, k}, tag: tag}) {
				done = append(done, k, tag.key)
			}
		}
	}
	return done
}

// envPairs visits pairs X_IMAGE, X_IMAGE_TAG in a list of environment entries
// and returns the indexes they take up.
func (w *walker) envPairs(at string, list []any) []int {
	entries := map[string]int{}
	for i, v := range list {
		m, _ := v.(map[string]any)
		if name := text(m["name"]); name != "" && isText(m["value"]) {
			entries[name] = i
		}
	}
	var done []int
	for _, name := range sortedKeys(entries) {
		i, j := entries[name], 0
		j, ok := entries[name+"_TAG"]
		if hintOf(name) == anywhere || !ok {
			continue
		}
		image, tag := list[i].(map[string]any), list[j].(map[string]any)
		if w.visitParts(join(index(at, i), "value"), parted{image: slot{image, "value"}, tag: slot{tag, "value"}}) {
			done = append(done, i, j)
		}
	}
	return done
}
