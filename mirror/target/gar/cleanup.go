package gar

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/mirror/target"
)

// cleanupPolicy is a clean-up policy of a repository. What a DELETE policy
// matches goes, unless a KEEP policy matches it too.
type cleanupPolicy struct {
	Action    string `json:"action"` // DELETE or KEEP
	Condition *struct {
		TagState            string   `json:"tagState"` // TAGGED, UNTAGGED, ANY
		TagPrefixes         []string `json:"tagPrefixes"`
		PackageNamePrefixes []string `json:"packageNamePrefixes"`
		OlderThan           string   `json:"olderThan"` // "2592000s"
	} `json:"condition"`
	MostRecentVersions *struct {
		PackageNamePrefixes []string `json:"packageNamePrefixes"`
		KeepCount           int      `json:"keepCount"`
	} `json:"mostRecentVersions"`
}

// cleanupNotices says which policies will take away what is pushed. Every
// manifest is a version to them: platforms, signatures and attestations are
// untagged ones, and each counts toward "keep the N most recent".
func cleanupNotices(g *group, s settings) []target.Notice {
	if s.CleanupPolicyDryRun {
		return nil // policies are evaluated and nothing is deleted
	}
	var list []target.Notice
	add := func(format string, a ...any) {
		list = append(list, target.Notice{
			Code: target.CleanUp, Repository: g.path, Text: fmt.Sprintf(format, a...),
			Remedy: "exempt what is mirrored from the clean-up policies of " + g.resource(),
		})
	}
	deletes := false
	for _, id := range slices.Sorted(maps.Keys(s.CleanupPolicies)) {
		p := s.CleanupPolicies[id]
		if p.Action != "DELETE" || p.Condition == nil {
			continue
		}
		hit := imagesWhere(g, p.Condition.PackageNamePrefixes, func(i image) bool {
			return deletesSome(p, i.need)
		})
		if len(hit) == 0 {
			continue
		}
		deletes = true
		add("clean-up policy %q deletes %s%s: it matches manifests pushed to %s", cut(id), tagState(p.Condition.TagState), age(p.Condition.OlderThan), some(hit))
	}
	if !deletes {
		return list
	}
	for _, id := range slices.Sorted(maps.Keys(s.CleanupPolicies)) {
		p := s.CleanupPolicies[id]
		if p.Action != "KEEP" || p.MostRecentVersions == nil {
			continue
		}
		most := 0
		hit := imagesWhere(g, p.MostRecentVersions.PackageNamePrefixes, func(i image) bool {
			most = max(most, i.need.Manifests)
			return i.need.Manifests > p.MostRecentVersions.KeepCount
		})
		if len(hit) > 0 {
			add("clean-up policy %q keeps the %d most recent versions of an image, and up to %d manifests, platforms and signatures included, are pushed to %s",
				cut(id), p.MostRecentVersions.KeepCount, most, some(hit))
		}
	}
	return list
}

// deletesSome reports whether a DELETE policy can match what n receives.
func deletesSome(p cleanupPolicy, n target.Need) bool {
	switch p.Condition.TagState {
	case "UNTAGGED":
		return n.Manifests > len(n.Tags)
	case "TAGGED":
		return len(p.Condition.TagPrefixes) == 0 && len(n.Tags) > 0 || slices.ContainsFunc(n.Tags, func(tag string) bool {
			return slices.ContainsFunc(p.Condition.TagPrefixes, func(prefix string) bool { return strings.HasPrefix(tag, prefix) })
		})
	}
	return true
}

func imagesWhere(g *group, prefixes []string, match func(image) bool) []string {
	var list []string
	for _, i := range g.images {
		covered := len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(i.name, p) })
		if covered && match(i) {
			list = append(list, i.name)
		}
	}
	return list
}

func tagState(s string) string {
	switch s {
	case "UNTAGGED":
		return "untagged versions"
	case "TAGGED":
		return "tagged versions"
	}
	return "versions"
}

// age renders the API's seconds as days where they are.
func age(s string) string {
	if s == "" {
		return ""
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return " older than " + fmt.Sprintf("%q", cut(s))
	}
	if d >= 24*time.Hour {
		return fmt.Sprintf(" older than %d days", d/(24*time.Hour))
	}
	return " older than " + d.String()
}

// some names a list without flooding.
func some(list []string) string {
	const most = 3
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}
