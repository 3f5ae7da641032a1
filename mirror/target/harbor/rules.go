package harbor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/mirror/target"
)

const (
	pageSize = 100
	maxPages = 10
)

// rule is an immutable tag rule or a tag retention rule: Harbor writes both so.
type rule struct {
	ID             int64                      `json:"id"`
	Disabled       bool                       `json:"disabled"`
	Template       string                     `json:"template"`
	Params         map[string]json.RawMessage `json:"params"`
	TagSelectors   []selector                 `json:"tag_selectors"`
	ScopeSelectors map[string][]selector      `json:"scope_selectors"`
}

// selector is one condition on tags or on repositories.
type selector struct {
	Kind       string `json:"kind"`
	Decoration string `json:"decoration"`
	Pattern    string `json:"pattern"`
}

// takes reports whether a name fulfils the condition. One that cannot be read
// is taken to: a notice too many is better than one too few.
func (s selector) takes(name string) bool {
	re, err := compile(s.Pattern)
	if err != nil || s.Kind != "doublestar" {
		return true
	}
	excludes := s.Decoration == "excludes" || s.Decoration == "repoExcludes"
	return re.MatchString(name) != excludes
}

// String says which names a selector takes.
func (s selector) String() string {
	word := "matching"
	if strings.HasSuffix(strings.ToLower(s.Decoration), "excludes") {
		word = "not matching"
	}
	return fmt.Sprintf("%s %q", word, cut(s.Pattern))
}

// covers reports whether a rule is about a repository, named without project.
// A rule without selectors is about none.
func (r rule) covers(repository string) bool {
	list := r.ScopeSelectors["repository"]
	return !r.Disabled && len(list) > 0 && len(r.TagSelectors) > 0 && list[0].takes(repository)
}

// tags returns those of n's tags that the rule is about.
func (r rule) tags(n need) []string {
	var list []string
	for _, tag := range n.Tags {
		if r.TagSelectors[0].takes(tag) {
			list = append(list, tag)
		}
	}
	return list
}

// immutableNotices says which tags of the request, once there, are never moved.
func (t *Target) immutableNotices(ctx context.Context, p *project) ([]target.Notice, error) {
	var list []target.Notice
	for page := 1; page <= maxPages; page++ {
		var rules []rule
		path := fmt.Sprintf("%sprojects/%s/immutabletagrules?page=%d&page_size=%d", apiBase, p.name, page, pageSize)
		if err := t.call(ctx, http.MethodGet, path, nil, &rules); err != nil {
			return nil, err
		}
		for _, r := range rules {
			if hit := coverage(r, p.needs); len(hit) > 0 {
				list = append(list, target.Notice{
					Code: target.TagImmutable, Repository: p.name,
					Text: fmt.Sprintf("immutable tag rule %d (tags %s) covers %s: a tag that exists and names other content is a conflict",
						r.ID, r.TagSelectors[0], some(hit)),
					Remedy: "mirror a new version under new tags",
				})
			}
		}
		if len(rules) < pageSize {
			break
		}
	}
	return list, nil
}

// coverage lists repository:tag that a rule is about.
func coverage(r rule, needs []need) []string {
	var hit []string
	for _, n := range needs {
		if !r.covers(n.repository) {
			continue
		}
		for _, tag := range r.tags(n) {
			hit = append(hit, n.repository+":"+tag)
		}
	}
	return hit
}

// cosignTag is what cosign names signatures by. Harbor keeps them as accessories:
// they stay and go with what they sign and do not count.
var cosignTag = regexp.MustCompile(`^sha256-[0-9a-f]{64}(\.[a-z]+)?$`)

// retentionNotices says what the project's tag retention will delete: in a
// repository that any rule is about, what no rule retains.
func (t *Target) retentionNotices(ctx context.Context, p *project) ([]target.Notice, error) {
	id, err := strconv.ParseInt(p.Metadata.RetentionID, 10, 64)
	if p.Metadata.RetentionID == "" || err != nil {
		return nil, nil //nolint:nilerr // no number, no policy
	}
	var policy struct {
		Rules []rule `json:"rules"`
	}
	if err := t.call(ctx, http.MethodGet, apiBase+"retentions/"+strconv.FormatInt(id, 10), nil, &policy); err != nil {
		return nil, err
	}
	needs := make([]need, len(p.needs))
	for i, n := range p.needs {
		n.Tags = slices.DeleteFunc(slices.Clone(n.Tags), cosignTag.MatchString)
		needs[i] = n
	}
	var list []target.Notice
	add := func(format string, a ...any) {
		list = append(list, target.Notice{
			Code: target.CleanUp, Repository: p.name, Text: fmt.Sprintf(format, a...),
			Remedy: fmt.Sprintf("add a retention rule to project %s that retains always what is mirrored", p.name),
		})
	}
	if lost := unretained(policy.Rules, needs); len(lost) > 0 {
		add("tag retention of project %s retains none of %s", p.name, some(lost))
	}
	for _, r := range policy.Rules {
		hit := coverage(r, needs)
		if len(hit) == 0 || r.Template == "always" {
			continue
		}
		add("tag retention of project %s retains %s of the tags %s: it covers %s", p.name, r.retains(), r.TagSelectors[0], some(hit))
	}
	return list, nil
}

// unretained lists the tags that no rule about their repository is about.
func unretained(rules []rule, needs []need) []string {
	var lost []string
	for _, n := range needs {
		about := slices.DeleteFunc(slices.Clone(rules), func(r rule) bool { return !r.covers(n.repository) })
		if len(about) == 0 {
			continue
		}
		for _, tag := range n.Tags {
			if !slices.ContainsFunc(about, func(r rule) bool { return r.TagSelectors[0].takes(tag) }) {
				lost = append(lost, n.repository+":"+tag)
			}
		}
	}
	return lost
}

// retains puts a rule's template and number into words.
func (r rule) retains() string {
	number := "?"
	// Harbor writes numbers, its clients sometimes strings.
	if v := strings.Trim(string(r.Params[r.Template]), `"`); len(v) > 0 && len(v) < 12 {
		number = v
	}
	switch r.Template {
	case "latestPushedK":
		return "only the " + number + " pushed last"
	case "latestPulledN":
		return "only the " + number + " pulled last"
	case "latestActiveK":
		return "only the " + number + " used last"
	case "nDaysSinceLastPush":
		return "only those pushed within " + number + " days"
	case "nDaysSinceLastPull":
		return "only those pulled within " + number + " days"
	}
	return fmt.Sprintf("only those of rule %q", cut(r.Template))
}

// some names a list without flooding.
func some(list []string) string {
	const most = 3
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}
