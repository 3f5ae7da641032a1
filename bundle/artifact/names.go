package artifact

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/airlock-project/airlock/bundle"
)

// MaxName bounds the name of a member of an archive, in bytes. Linux refuses
// paths of 4096; nothing real comes near 1024.
const MaxName = 1024

// maxElement is what every file system of use takes as one path element.
const maxElement = 255

var (
	// distribution-spec 1.1, "Pulling manifests": <name> and <reference> as a tag.
	namePattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$`)
	tagPattern  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// Ref returns "<space>/<name>:<version>", the reference under which something
// that Airlock makes is tagged, or an error that says what a registry would
// refuse (distribution-spec 1.1, "Pulling manifests").
func Ref(space, name, version string) (string, error) {
	if len(name) > 128 || !namePattern.MatchString(name) {
		return "", fmt.Errorf("name %q is no repository name: use lower case letters and digits, separated by '.', '_' or '-'", name)
	}
	if err := CheckTag(version); err != nil {
		return "", err
	}
	return space + "/" + name + ":" + version, nil
}

// CheckTag refuses a version that cannot be a tag (distribution-spec 1.1,
// "Pulling manifests").
func CheckTag(version string) error {
	if !tagPattern.MatchString(version) {
		return fmt.Errorf("version %q is no tag: use at most 128 letters, digits, '.', '_' and '-'", version)
	}
	return nil
}

// MemberName checks the name of a member of an archive or of a packed directory
// and returns it clean: relative, with slashes, without "." elements and
// trailing slash. The archive's own root is ".". Absolute names, names with
// "..", backslashes, control characters or invalid UTF-8, and names that are
// too long are refused with a *NameError.
func MemberName(name string) (string, error) {
	switch {
	case name == "":
		return "", &NameError{name, "is empty"}
	case len(name) > MaxName:
		return "", &NameError{name[:64] + "…", fmt.Sprintf("is longer than %d bytes", MaxName)}
	case !utf8.ValidString(name):
		return "", &NameError{name, "is not UTF-8"}
	case strings.HasPrefix(name, "/"):
		return "", &NameError{name, "is absolute"}
	case strings.ContainsFunc(name, func(r rune) bool { return r == '\\' || unicode.IsControl(r) }):
		return "", &NameError{name, "has a backslash or control character"}
	}
	for element := range strings.SplitSeq(name, "/") {
		if element == ".." {
			return "", &NameError{name, `has a ".." element`}
		}
		if len(element) > maxElement {
			return "", &NameError{name, fmt.Sprintf("has an element longer than %d bytes", maxElement)}
		}
	}
	return path.Clean(name), nil
}

// IsSparse reports whether a member of a tar is a sparse file: a few bytes that
// read as many zeros, whatever limits the stream has.
func IsSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// BaseName checks a name that must be one path element.
func BaseName(name string) error {
	clean, err := MemberName(name)
	if err != nil {
		return err
	}
	if clean != name || name == "." || strings.Contains(name, "/") {
		return &NameError{name, "is not a plain file name"}
	}
	return nil
}

// LinkTarget resolves the target of a link in an archive against the member
// that holds it and refuses, with a *NameError, one that leaves the archive.
// Targets of symbolic links are relative to their folder, targets of hard links
// to the archive.
func LinkTarget(member, target string, symbolic bool) (string, error) {
	if target == "" || len(target) > MaxName || strings.HasPrefix(target, "/") {
		return "", &NameError{member, fmt.Sprintf("links to %.100q, which is empty, absolute or too long", target)}
	}
	if symbolic {
		target = path.Join(path.Dir(member), target)
	}
	clean := path.Clean(target)
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", &NameError{member, fmt.Sprintf("links to %q, outside the archive", target)}
	}
	if _, err := MemberName(clean); err != nil {
		return "", err
	}
	return clean, nil
}

// NameError refuses a name that could lead out of its place or that not every
// file system can hold.
type NameError struct {
	Name   string
	Reason string
}

// Error implements error.
func (e *NameError) Error() string { return fmt.Sprintf("name %q %s", e.Name, e.Reason) }

// Watch returns a reader that stops when ctx ends and tells l of every byte
// read, as operation "resolve" of object.
func Watch(ctx context.Context, r io.Reader, l bundle.Listener, object string) io.Reader {
	return &watched{ctx: ctx, r: r, l: l, object: object}
}

type watched struct {
	ctx    context.Context
	r      io.Reader
	l      bundle.Listener
	object string
}

func (w *watched) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.r.Read(p)
	if n > 0 {
		w.l.Send(bundle.Event{Op: "resolve", Object: w.object, Bytes: int64(n)})
	}
	return n, err
}
