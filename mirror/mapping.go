package mirror

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/opencontainers/go-digest"
)

// HostMode says what becomes of the registry's host in a reference.
type HostMode string

// Host modes. The zero value is StripHost.
const (
	StripHost HostMode = "strip"   // quay.io/jetstack/x -> jetstack/x
	KeepHost  HostMode = "keep"    // quay.io/jetstack/x -> quay.io/jetstack/x
	Flatten   HostMode = "flatten" // quay.io/jetstack/x -> x-<8 hex digits of the whole name's SHA-256>
)

// Mapping says how references become places.
type Mapping struct {
	Hosts HostMode `json:"hosts,omitempty"`
	// TagSuffix is appended to every tag but those that cosign looks for and
	// those that Override names: a way past tags that cannot be moved.
	TagSuffix string `json:"tagSuffix,omitempty"`
	// Override maps a reference as the bundle has it, or an item's name, to
	// repository[:tag] below the prefix. The reference wins over the name. What
	// belongs to an item, such as its signatures, follows it.
	Override map[string]string `json:"override,omitempty"`
}

// Map returns the place of an item whose manifest has the digest root, below no
// prefix. It depends on its arguments only.
//
//   - The host of a reference is left out, or becomes the first segment with ":"
//     as "_", or the whole name becomes one segment, as hosts says.
//   - docker.io/name means docker.io/library/name, as everywhere.
//   - A reference without a host, as images from archives, charts, modules and
//     files have, is taken as it is written.
//   - A tag is kept, also beside a digest. A reference with only a digest is
//     tagged sha256-<12 hex digits of root>, because registries collect what
//     has no tag; one with neither is tagged latest.
func Map(item bundle.Item, root digest.Digest, hosts HostMode) (Place, error) {
	r, err := parseReference(item)
	if err != nil {
		return Place{}, fmt.Errorf("map %s %q: %w", item.Kind, item.Ref, err)
	}
	p := Place{Repository: r.path, Tag: r.tag}
	switch cmp.Or(hosts, StripHost) {
	case StripHost:
	case KeepHost:
		if r.host != "" {
			p.Repository = hostSegment(r.host) + "/" + r.path
		}
	case Flatten:
		p.Repository = flatten(r)
	default:
		return Place{}, fmt.Errorf("map: %q is none of strip, keep and flatten", hosts)
	}
	switch {
	case p.Tag == "" && r.digest:
		p.Tag = "sha256-" + root.Encoded()[:12]
	case p.Tag == "":
		p.Tag = "latest"
	}
	if err := checkPlace(item, p); err != nil {
		return Place{}, err
	}
	return p, nil
}

func checkPlace(item bundle.Item, p Place) error {
	if !repositoryName.MatchString(p.Repository) {
		return &NameError{Kind: item.Kind, Ref: item.Ref, Repository: p.Repository, Err: errors.New("lower case letters, digits, and single separators between them are allowed")}
	}
	if !tagName.MatchString(p.Tag) {
		return fmt.Errorf("map %s %q: %q is not a tag: up to 128 letters, digits, '.', '_' and '-' are allowed", item.Kind, item.Ref, p.Tag)
	}
	return nil
}

// flatten makes one segment of a name. The hash is of the whole source
// repository, so that names that end alike stay apart.
func flatten(r reference) string {
	sum := sha256.Sum256([]byte(r.repository()))
	return r.path[strings.LastIndexByte(r.path, '/')+1:] + "-" + hex.EncodeToString(sum[:4])
}

// repository is the source repository, host included, that two references to
// one repository have in common.
func (r reference) repository() string {
	if r.host == "" {
		return r.path
	}
	return r.host + "/" + r.path
}

// mapper maps the entries of a bundle below a prefix and notes which overrides
// were of use.
type mapper struct {
	Mapping
	host, prefix string
	limits       target.Limits
	used         map[string]bool
}

// place maps an entry and checks the whole name against what the target takes.
func (m *mapper) place(e bundle.Entry) (Place, error) {
	at, err := m.named(e)
	if err != nil {
		return Place{}, err
	}
	if m.prefix != "" {
		at.Repository = m.prefix + "/" + at.Repository
	}
	if err := m.checkName(at.Repository); err != nil {
		return Place{}, &NameError{Kind: e.Kind, Ref: e.Ref, Repository: at.Repository, Err: err}
	}
	return at, nil
}

// named is the place below the prefix.
func (m *mapper) named(e bundle.Entry) (Place, error) {
	to, ok := m.override(e.Item)
	at, err := Map(e.Item, e.Digest, m.Hosts)
	if !ok {
		if err != nil {
			return Place{}, err
		}
		at.Tag += m.TagSuffix
		return at, checkPlace(e.Item, at)
	}
	tag := ""
	at.Repository, tag, ok = strings.Cut(to, ":")
	if ok {
		at.Tag = tag
	} else if at.Tag == "" {
		at.Tag = "latest" // the reference itself makes no name, hence the override
	}
	return at, checkPlace(e.Item, at)
}

func (m *mapper) override(item bundle.Item) (string, bool) {
	for _, key := range []string{item.Ref, item.Name} {
		if to, ok := m.Override[key]; ok && key != "" {
			m.used[key] = true
			return to, true
		}
	}
	return "", false
}

// unused reports overrides that no item of the bundle answers to: a misspelt
// one would otherwise send content to where it was not meant to go.
func (m *mapper) unused() error {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(m.Override)) {
		if !m.used[key] {
			list = append(list, key)
		}
	}
	if list == nil {
		return nil
	}
	return &OverrideError{Unused: list}
}

// checkName checks a repository name, prefix included, against the limits.
func (m *mapper) checkName(name string) error {
	l := m.limits
	most := l.RepositoryMax
	if most == 0 {
		most = 255 - len(m.host) - 1
	}
	segments := strings.Count(name, "/") + 1
	switch {
	case len(name) > most:
		return fmt.Errorf("it has %d bytes, %s takes %d", len(name), m.host, most)
	case len(name) < l.RepositoryMin:
		return fmt.Errorf("it has %d bytes, %s takes no fewer than %d", len(name), m.host, l.RepositoryMin)
	case segments < l.SegmentsMin:
		return fmt.Errorf("it has %d segments, %s takes no fewer than %d: add to the prefix", segments, m.host, l.SegmentsMin)
	case l.SegmentsMax > 0 && segments > l.SegmentsMax:
		return fmt.Errorf("it has %d segments, %s takes no more than %d: flatten the names", segments, m.host, l.SegmentsMax)
	}
	if l.CheckRepository != nil {
		return l.CheckRepository(name)
	}
	return nil
}
