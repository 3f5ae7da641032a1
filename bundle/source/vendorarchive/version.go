package vendorarchive

import (
	"regexp"
	"strings"
)

// versionPattern finds a version in a name: v3.0.0, 3.0.0-rc.1.
var versionPattern = regexp.MustCompile(`(?:^|[^0-9A-Za-z])(v?[0-9]+\.[0-9]+(?:\.[0-9]+)*(?:[-+][0-9A-Za-z.-]+)?)`)

// findVersion returns the version in s without a leading "v", or "".
func findVersion(s string) string {
	m := versionPattern.FindStringSubmatch(s)
	if m == nil {
		return ""
	}
	return strings.TrimPrefix(m[1], "v")
}

// versions collects what the parts of an archive say of its version. Parts that
// say nothing are not compared.
type versions struct {
	where, version string
}

// add compares what where says with what was said before.
func (v *versions) add(where, text string) error {
	version := findVersion(text)
	switch {
	case version == "":
		return nil
	case v.version == "":
		v.where, v.version = where, version
		return nil
	case version != v.version:
		return &VersionError{Where: v.where, Version: v.version, OtherWhere: where, OtherVersion: version}
	}
	return nil
}

// stem is an archive's name without its ending.
func stem(name string) string {
	for _, ext := range []string{".tar.gz", ".tgz"} {
		if s, ok := strings.CutSuffix(name, ext); ok {
			return s
		}
	}
	return name
}

// tagOf is the tag of a reference, or "".
func tagOf(ref string) string {
	if i := strings.LastIndex(ref, ":"); i > strings.LastIndex(ref, "/") {
		return ref[i+1:]
	}
	return ""
}
