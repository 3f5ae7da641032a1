package remote

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// DefaultHost is the host of references that name none.
const DefaultHost = "docker.io"

// Lengths of a reference's parts: distribution's reference grammar.
const (
	maxReference  = 1024
	maxHost       = 255
	maxRepository = 255
)

// Reference is a parsed image reference. Host and Repository are always set.
type Reference struct {
	Host       string // lower case, with port if one was written: "docker.io", "[::1]:5000"
	Repository string // "library/postgres"
	Tag        string // may be empty
	Digest     digest.Digest
}

// Name returns host and repository, without tag and digest.
func (r Reference) Name() string { return r.Host + "/" + r.Repository }

// String returns the full reference: host/repository[:tag][@digest].
func (r Reference) String() string {
	s := r.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

var (
	repositoryPattern = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern        = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	hostPattern       = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$`)
	digestPattern     = regexp.MustCompile(`^sha256:[a-f0-9]{64}$`)
	identifierPattern = regexp.MustCompile(`^[a-f0-9]{64}$`)
)

// ParseReference parses a reference by docker's rules: the first component is
// a host if it holds a dot or a colon or is "localhost", otherwise the host is
// docker.io, where a single name gets "library/" before it. Tag and digest may
// both be given; digests are sha256.
func ParseReference(s string) (Reference, error) {
	if len(s) > maxReference {
		return Reference{}, fmt.Errorf("reference %.40q…: longer than %d bytes", s, maxReference)
	}
	r, err := parseReference(s)
	if err != nil {
		return Reference{}, fmt.Errorf("reference %q: %w", s, err)
	}
	return r, nil
}

func parseReference(s string) (Reference, error) {
	var r Reference
	name, dgst, ok := strings.Cut(s, "@")
	if ok {
		if !digestPattern.MatchString(dgst) {
			return Reference{}, fmt.Errorf("digest %q: want sha256: and 64 lower-case hex digits", dgst)
		}
		r.Digest = digest.Digest(dgst)
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		r.Tag = name[i+1:]
		name = name[:i]
		if !tagPattern.MatchString(r.Tag) {
			return Reference{}, fmt.Errorf("tag %q: want at most 128 of letters, digits, '_', '.', '-', not beginning with '.' or '-'", r.Tag)
		}
	}
	r.Host, r.Repository = splitHost(name)
	if err := checkHost(r.Host); err != nil {
		return Reference{}, fmt.Errorf("host %q: %w", r.Host, err)
	}
	r.Host = strings.ToLower(r.Host)
	if r.Host == "index.docker.io" || r.Host == "registry-1.docker.io" {
		r.Host = DefaultHost
	}
	if err := checkRepository(r.Repository); err != nil {
		return Reference{}, err
	}
	if r.Host == DefaultHost && !strings.Contains(r.Repository, "/") {
		if identifierPattern.MatchString(r.Repository) {
			return Reference{}, errors.New("64 hex digits are an image ID, not a name")
		}
		r.Repository = "library/" + r.Repository
	}
	return r, nil
}

func splitHost(name string) (host, repository string) {
	first, rest, ok := strings.Cut(name, "/")
	if ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return first, rest
	}
	return DefaultHost, name
}

func checkRepository(s string) error {
	switch {
	case s == "":
		return errors.New("no repository name")
	case len(s) > maxRepository:
		return fmt.Errorf("repository name longer than %d bytes", maxRepository)
	case !repositoryPattern.MatchString(s):
		return fmt.Errorf("repository %q: want lower-case letters and digits, joined by '.', '_', '__' or '-', in components joined by '/'", s)
	}
	return nil
}

// checkHost accepts a name or an address with an optional port.
func checkHost(s string) error {
	if len(s) > maxHost {
		return fmt.Errorf("longer than %d bytes", maxHost)
	}
	// Before anything of it is quoted: it may hold a password.
	if strings.Contains(s, "@") {
		return errors.New("want a host name or address, without a user name")
	}
	name, port, ok := cutPort(strings.ToLower(s))
	if ok {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || len(port) > 5 {
			return fmt.Errorf("port %q: want a number from 1 to 65535", port)
		}
	}
	if inner, ok := strings.CutPrefix(name, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !strings.HasSuffix(inner, "]") || !addr.Is6() || addr.Zone() != "" {
			return errors.New("want an IPv6 address in brackets")
		}
		return nil
	}
	if !hostPattern.MatchString(name) {
		return errors.New("want a host name or address, optionally with a port")
	}
	return nil
}

// cutPort splits "host:port". An IPv6 address keeps its brackets.
func cutPort(host string) (name, port string, ok bool) {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || i < strings.LastIndexByte(host, ']') {
		return host, "", false
	}
	return host[:i], host[i+1:], true
}
