package mirror

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/airlock-project/airlock/bundle"
)

// Place is where a reference goes in a registry: a repository name without the
// registry's host, and a tag.
type Place struct {
	Repository string
	Tag        string
}

// String returns repository:tag.
func (p Place) String() string { return p.Repository + ":" + p.Tag }

// Names in a repository (distribution-spec 1.1, "Pulling manifests").
var (
	repositoryName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagName        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// reference is a reference in parts. digest says whether it names a digest,
// which one does not matter here: the signed index says what is carried.
type reference struct {
	host, path, tag string
	digest          bool
}

// parseReference splits the reference of an item. The names that Airlock makes
// ("charts/x:1") begin with a plain word, so that none is taken for a host.
func parseReference(item bundle.Item) (reference, error) {
	var r reference
	name, _, digested := strings.Cut(item.Ref, "@")
	r.digest = digested
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, r.tag = name[:i], name[i+1:]
		if r.tag == "" {
			return r, errors.New("empty tag")
		}
	}
	r.path = name
	if first, rest, ok := strings.Cut(name, "/"); ok && isHost(first) {
		r.host, r.path = strings.ToLower(first), rest
	}
	if r.host == "index.docker.io" || r.host == "registry-1.docker.io" {
		r.host = "docker.io"
	}
	if r.host == "docker.io" && !strings.Contains(r.path, "/") {
		r.path = "library/" + r.path
	}
	if r.path == "" {
		return r, errors.New("empty repository name")
	}
	return r, nil
}

// isHost tells a host from the first segment of a Docker Hub name, by the rule
// that every container tool applies.
func isHost(s string) bool {
	return strings.ContainsAny(s, ".:") || s == "localhost"
}

// hostSegment writes a host so that it can be a segment of a repository name.
func hostSegment(host string) string {
	return strings.NewReplacer(":", "_", "[", "", "]", "").Replace(host)
}

// parseTo splits a target, REGISTRY[:PORT][/PREFIX].
func parseTo(to string) (host, prefix string, err error) {
	switch {
	case to == "":
		return "", "", errors.New("no target registry: name one as REGISTRY[:PORT][/PREFIX]")
	case strings.Contains(to, "://"):
		return "", "", fmt.Errorf("target %q: give REGISTRY[:PORT][/PREFIX] without a scheme", to)
	case strings.ContainsAny(to, "@?#%\\ "):
		// Nothing of it is quoted here: text before an @ may be a password.
		return "", "", errors.New("target registry: give REGISTRY[:PORT][/PREFIX], without user name or query")
	}
	host, prefix, _ = strings.Cut(strings.TrimSuffix(to, "/"), "/")
	if !isHost(host) {
		return "", "", fmt.Errorf("target %q: %q is not a registry's host: write a name without dots with its port, as in %s:443", to, host, host)
	}
	if prefix != "" && !repositoryName.MatchString(prefix) {
		return "", "", fmt.Errorf("target %q: %q is not a repository name", to, prefix)
	}
	return host, prefix, nil
}
