package chart

import (
	"regexp"
	"strings"
)

// The grammar of image references, as distribution's reference package has it.
// What counts as an image depends on the place: see [Images].
var (
	hostPattern   = regexp.MustCompile(`^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]{1,5})?$`)
	pathPattern   = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	digestPattern = regexp.MustCompile(`^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)

	apiVersionPattern = regexp.MustCompile(`^v[0-9]+(?:(?:alpha|beta)[0-9]+)?$`)
	numberPattern     = regexp.MustCompile(`^[0-9.]+$`)
)

// maxReference bounds a reference: 255 of name, 128 of tag, 135 of digest.
const maxReference = 520

// ref is a parsed image reference.
type ref struct {
	host   string // with port; empty for a short name
	path   string
	tag    string
	digest string
}

// parseRef parses s by the grammar, short names included.
func parseRef(s string) (ref, bool) {
	var r ref
	if len(s) > maxReference {
		return r, false
	}
	s, digest, hasDigest := strings.Cut(s, "@")
	if hasDigest && !digestPattern.MatchString(digest) {
		return r, false
	}
	r.digest = digest
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		if r.tag = s[i+1:]; !tagPattern.MatchString(r.tag) {
			return r, false
		}
		s = s[:i]
	}
	r.path = s
	if first, rest, ok := strings.Cut(s, "/"); ok && isHost(first) {
		r.host, r.path = first, rest
	}
	if r.host != "" && !hostPattern.MatchString(r.host) {
		return r, false
	}
	return r, len(s) <= 255 && pathPattern.MatchString(r.path)
}

// isHost tells a registry from the first part of a path, as Docker does.
func isHost(s string) bool {
	return strings.ContainsAny(s, ".:") || s == "localhost" || strings.ToLower(s) != s
}

// name is the reference without tag and digest.
func (r ref) name() string {
	if r.host == "" {
		return r.path
	}
	return r.host + "/" + r.path
}

// pinned reports whether the reference has a tag or a digest.
func (r ref) pinned() bool { return r.tag != "" || r.digest != "" }

func (r ref) String() string {
	s := r.name()
	if r.tag != "" {
		s += ":" + r.tag
	}
	if r.digest != "" {
		s += "@" + r.digest
	}
	return s
}

// isFull reports whether s is an image reference wherever it stands: registry
// with a dot or a port, path, and tag or digest. API groups (example.com/v1:…)
// and network ranges (10.0.0.0/8:80) look alike and are not.
func isFull(s string) bool {
	r, ok := parseRef(s)
	if !ok || !r.pinned() || !strings.ContainsAny(r.host, ".:") {
		return false
	}
	if r.digest != "" {
		return true
	}
	return !apiVersionPattern.MatchString(r.path) && !(numberPattern.MatchString(r.host) && numberPattern.MatchString(r.path))
}

// hint says how much a place promises that what it holds is an image.
type hint int

const (
	anywhere hint = iota // only a full reference counts
	named                // called an image: a short name with tag or digest counts too
	exact                // the field image: every reference counts
)

// accepts reports whether s is an image reference in a place with this hint.
func (h hint) accepts(s string) bool {
	if isFull(s) {
		return true
	}
	if h == anywhere {
		return false
	}
	r, ok := parseRef(s)
	return ok && (h == exact || r.pinned())
}

// hintOf reads a field's name: image, runnerImage, runner_image, RUNNER_IMAGE,
// example.com/runner-image, and names of environment variables with IMAGE in
// them, as operators use (RELATED_IMAGE_RUNNER).
func hintOf(key string) hint {
	if key == "image" {
		return exact
	}
	for _, s := range []string{"Image", "Images", "IMAGE", "_image", "-image", ".image", "/image"} {
		if strings.HasSuffix(key, s) {
			return named
		}
	}
	if key == "images" || strings.Contains(key, "IMAGE_") {
		return named
	}
	return anywhere
}

// flagHint reads the name of a command line flag.
func flagHint(flag string) hint {
	if strings.HasSuffix(strings.ToLower(flag), "image") {
		return named
	}
	return anywhere
}
