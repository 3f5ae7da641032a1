package gar

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// service is what a registry host stands for.
type service struct {
	host       string
	location   string
	repository string // fixed by the host: gcr.io domains
	universe   string // the cloud whose credentials it takes
	api        string // base of the Artifact Registry REST API
}

const (
	universeGoogle = "googleapis.com"
	universeS3NS   = "s3nsapis.fr" // the sovereign cloud of S3NS
	// maxHost keeps what is matched short; DNS names have at most 253 bytes.
	maxHost = 253
)

const location = `([a-z][a-z0-9]*(?:-[a-z0-9]+)*)`

var (
	cloudHost    = regexp.MustCompile(`^` + location + `-docker\.(pkg\.dev|s3nsregistry\.fr)$`)
	regionalHost = regexp.MustCompile(`^docker\.` + location + `\.rep\.pkg\.dev$`)
	projectID    = regexp.MustCompile(`^([a-z0-9-]+(\.[a-z0-9-]+)+:)?[a-z0-9][a-z0-9-]{0,62}$`)
	repositoryID = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// gcrLocation returns the location behind a gcr.io domain, or "". There are
// four, all backed by Artifact Registry repositories named after the domain.
func gcrLocation(host string) string {
	switch host {
	case "gcr.io", "us.gcr.io":
		return "us"
	case "eu.gcr.io":
		return "europe"
	case "asia.gcr.io":
		return "asia"
	}
	return ""
}

// parseHost recognises the hosts of Artifact Registry, anchored at both ends,
// because what it recognises is sent a cloud token: LOCATION-docker.pkg.dev,
// docker.LOCATION.rep.pkg.dev (regional endpoints), the four gcr.io domains and
// LOCATION-docker.s3nsregistry.fr. The default HTTPS port may be written.
func parseHost(host string) (service, bool) {
	name := strings.TrimSuffix(strings.ToLower(host), ":443")
	if len(name) > maxHost {
		return service{}, false
	}
	s := service{host: host, universe: universeGoogle, api: "https://artifactregistry." + universeGoogle}
	if loc := gcrLocation(name); loc != "" {
		s.location, s.repository = loc, name
		return s, true
	}
	if m := cloudHost.FindStringSubmatch(name); m != nil {
		s.location = m[1]
		if m[2] != "pkg.dev" {
			s.universe, s.api = universeS3NS, "https://artifactregistry."+universeS3NS
		}
		return s, true
	}
	if m := regionalHost.FindStringSubmatch(name); m != nil {
		s.location = m[1]
		s.api = "https://artifactregistry." + m[1] + ".rep." + universeGoogle
		return s, true
	}
	return service{}, false
}

// Match reports whether host, HOST or HOST:443, is one of Artifact Registry's.
// Only such hosts are sent Google tokens.
func Match(host string) bool {
	_, ok := parseHost(host)
	return ok
}

// NameError says that a repository name does not fit the host: nothing was sent.
type NameError struct {
	Host, Name string
	Reason     string
}

func (e *NameError) Error() string {
	return fmt.Sprintf("place %q in %s: %s", e.Name, e.Host, e.Reason)
}

// repository is an Artifact Registry repository: it holds many images.
type repository struct {
	project  string // as the API writes it: "p", or "example.com:p"
	location string
	id       string
	path     string // as pushed: "p/r", "example.com/p/r", or "p" on gcr.io domains
}

// resource is the repository's name in the API.
func (r repository) resource() string { return r.parent() + "/repositories/" + r.id }

func (r repository) parent() string {
	return "projects/" + r.project + "/locations/" + r.location
}

// split takes a repository name as it is pushed apart. Fewer segments than
// PROJECT/REPOSITORY/IMAGE (PROJECT/IMAGE on gcr.io domains) are what the
// registry answers with NAME_INVALID "Missing image name".
func (s service) split(name string) (r repository, image string, err error) {
	fail := func(format string, a ...any) (repository, string, error) {
		return repository{}, "", &NameError{Host: s.host, Name: name, Reason: fmt.Sprintf(format, a...)}
	}
	segments := strings.Split(name, "/")
	r = repository{location: s.location, id: s.repository, project: segments[0]}
	rest := segments[1:]
	// Projects of a domain, "example.com:p", are written as two segments.
	if strings.Contains(segments[0], ".") {
		if len(rest) == 0 {
			return fail("it names no project: write %s", s.form())
		}
		r.project, rest = segments[0]+":"+rest[0], rest[1:]
	}
	if r.id == "" && len(rest) > 0 {
		r.id, rest = rest[0], rest[1:]
	}
	if len(rest) == 0 {
		return fail("it has too few segments: write %s", s.form())
	}
	r.path = strings.TrimSuffix(name, "/"+strings.Join(rest, "/"))
	if !projectID.MatchString(r.project) {
		return fail("%q is no project id: write %s", r.project, s.form())
	}
	if s.repository == "" && !validID(r.id) {
		return fail("%q is no Artifact Registry repository: 1 to 63 lower-case letters, digits and hyphens, a letter first", r.id)
	}
	if slices.Contains(rest, "") {
		return fail("it has an empty segment")
	}
	return r, strings.Join(rest, "/"), nil
}

func (s service) form() string {
	form := "PROJECT/REPOSITORY/IMAGE"
	if s.repository != "" {
		form = "PROJECT/IMAGE"
	}
	return cmp.Or(s.host, "LOCATION-docker.pkg.dev") + "/" + form
}

// validID follows the naming rule of repositories; those behind gcr.io domains
// carry the domain as their name and can be pushed to under pkg.dev too.
func validID(id string) bool {
	return gcrLocation(id) != "" || repositoryID.MatchString(id)
}
