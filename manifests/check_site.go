package manifests

import (
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

// ParseSite decodes site.yaml strictly and checks it. name stands for the
// document in findings. The error is Findings: all of them at once, none of
// which shows an input's value.
func ParseSite(name string, data []byte) (*Site, error) {
	s := new(Site)
	if err := parse(name, data, MaxWritten, KindSite, s, s.check); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Site) check(d *document) {
	if s.Identity != nil {
		d.keyReference(s.Identity.Key, path{"identity", "key"})
	}
	s.checkPeople(d)
	d.filePath(s.State, path{"state"})
	if s.Registry != nil {
		s.Registry.check(d)
	}
	if s.Kubernetes != nil {
		d.fileReference(s.Kubernetes.Kubeconfig, path{"kubernetes", "kubeconfig"})
	}
	for key := range s.Inputs { // which type each has, the checklist says
		p := path{"inputs", key}
		if !d.matches(inputPattern, key) {
			d.at(p, "want %s", patternWords(inputPattern))
		}
	}
}

// checkPeople checks that nobody is listed twice for one role, and that one key
// does not go by two names: signers are told apart by both.
func (s *Site) checkPeople(d *document) {
	listed := map[[2]string]bool{}
	names := map[string]string{}
	for i, who := range s.People {
		p := path{"people", i}
		d.fileReference(who.Key, p.with("key"))
		if _, err := time.Parse(time.DateOnly, who.Left); who.Left != "" && err != nil {
			d.at(p.with("left"), "is no day such as 2027-03-31")
		}
		if at := [2]string{who.Key, who.Role}; who.Key != "" && who.Role != "" {
			if listed[at] {
				d.at(p, "this key is listed for role %s already", quoted(who.Role))
			}
			listed[at] = true
		}
		if first, ok := names[who.Key]; ok && who.Key != "" && first != who.Name {
			d.at(p.with("name"), "this key belongs to %s already", quoted(first))
		} else if !ok {
			names[who.Key] = who.Name
		}
	}
}

func (r *SiteRegistry) check(d *document) {
	p := path{"registry"}
	host, prefix, _ := strings.Cut(r.To, "/")
	switch {
	case r.To == "":
	case strings.Contains(r.To, "://"):
		d.at(p.with("to"), "want a host and a prefix without a scheme, as in harbor.site-a.internal/airlock")
	default:
		if _, err := name.NewRegistry(host); err != nil || host == "" {
			d.at(p.with("to"), "host is not a registry's: want HOST[:PORT][/PREFIX]")
		}
		if _, err := name.NewRepository("registry.local/" + prefix + "/x"); prefix != "" && err != nil {
			d.at(p.with("to"), "prefix is not a repository's: want lower-case letters, digits, '.', '_', '-' and '/'")
		}
	}
	d.fileReference(r.CA, p.with("ca"))
	d.secretReference(r.Password, p.with("password"))
	if r.Username != "" && r.Password == "" {
		d.at(p.with("password"), "missing, wanted with username")
	}
	if r.Password != "" && r.Username == "" {
		d.at(p.with("username"), "missing, wanted with password")
	}
}
