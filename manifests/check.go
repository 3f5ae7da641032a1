package manifests

import (
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

// maxPath bounds a file path in a document: PATH_MAX of Linux.
const maxPath = 4096

// seen finds names used twice. The zero value is ready.
type seen map[string]path

// unique reports name at p if an earlier place has it.
func (d *document) unique(s seen, name string, p path) {
	if name == "" {
		return
	}
	if first, ok := s[name]; ok {
		d.at(p, "is the same as %s", first)
		return
	}
	s[name] = p
}

// filePath checks a path that the operator wrote; it may lead anywhere.
func (d *document) filePath(s string, p path) {
	if len(s) > maxPath {
		d.at(p, "is longer than %d bytes", maxPath)
	}
}

// innerPath checks a path inside an archive.
func (d *document) innerPath(s string, p path) {
	if s != "" && (len(s) > maxPath || !fs.ValidPath(s) || s == "." || strings.Contains(s, `\`)) {
		d.at(p, "got %s, want a path inside the archive without '.' or '..', separated by '/'", quoted(s))
	}
}

// fileReference checks file:PATH.
func (d *document) fileReference(s string, p path) {
	if s != "" && !reference(s, "file:") {
		d.at(p, "want file:PATH")
	}
}

// secretReference checks a reference to a secret. A secret written out must not
// reach a terminal or a log, so the value is never shown.
func (d *document) secretReference(s string, p path) {
	if s != "" && !reference(s, "file:", "env:") {
		d.at(p, "want env:NAME or file:PATH: secrets are never written into a document")
	}
}

// keyReference checks where a key is: a file or a key management service.
func (d *document) keyReference(s string, p path) {
	if s != "" && !reference(s, "file:", "awskms://", "gcpkms://", "azurekms://", "hashivault://") {
		d.at(p, "want file:PATH or a URI that begins with awskms://, gcpkms://, azurekms:// or hashivault://")
	}
}

// reference reports whether s is one of the prefixes and something after it.
func reference(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool {
		rest, ok := strings.CutPrefix(s, prefix)
		return ok && strings.TrimSpace(rest) == rest && rest != "" && len(rest) <= maxPath
	})
}

// imageReference checks a reference and returns its canonical form, by which
// two spellings of one image are found; "" if it is wrong.
func (d *document) imageReference(s string, p path) string {
	if s == "" {
		return ""
	}
	if strings.Contains(s, "://") {
		d.at(p, "got %s, want a reference without a scheme, as in quay.io/jetstack/x:v1", quoted(s))
		return ""
	}
	ref, err := name.ParseReference(s)
	if err != nil {
		d.at(p, "got %s, want an image reference, as in quay.io/jetstack/x:v1", quoted(s))
		return ""
	}
	return ref.Name()
}

// repoTag checks the literal RepoTag of an image in a docker-save tar.
func (d *document) repoTag(s string, p path) string {
	if s == "" {
		return ""
	}
	tag, err := name.NewTag(s)
	if err != nil || !strings.HasSuffix(s, ":"+tag.TagStr()) {
		d.at(p, "got %s, want a name with a tag, as in tool:1.2", quoted(s))
		return ""
	}
	return tag.Name()
}

// date checks a day that a pattern found well formed.
func (d *document) date(s string, p path) {
	if s == "" {
		return
	}
	if _, err := time.Parse(time.DateOnly, s); err != nil {
		d.at(p, "got %s, which is no day of the calendar", quoted(s))
	}
}

// duration checks a duration that a pattern found well formed.
func (d *document) duration(s string, p path) {
	if s == "" {
		return
	}
	if v, err := time.ParseDuration(s); err != nil || v <= 0 {
		d.at(p, "got %s, want a duration above zero, as in 30s or 24h", quoted(s))
	}
}
