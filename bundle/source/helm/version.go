package helm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// VersionError says that no version of a chart fits what the definition asks
// for.
type VersionError struct {
	Chart     string
	Version   string   // as in the definition; empty means the newest release
	Available []string // the newest versions there are, at most ten
}

func (e *VersionError) Error() string {
	want := e.Version
	if want == "" {
		want = "newest release"
	}
	if len(e.Available) == 0 {
		return fmt.Sprintf("no version of chart %q fits %q: there is none", e.Chart, want)
	}
	return fmt.Sprintf("no version of chart %q fits %q: the newest are %s", e.Chart, want, strings.Join(e.Available, ", "))
}

// isExact reports whether version names one version and is no constraint.
func isExact(version string) bool {
	_, err := semver.StrictNewVersion(strings.TrimPrefix(version, "v"))
	return err == nil
}

// choose picks a version the way Helm does: the one that is spelled like want,
// else the highest that satisfies want as a constraint. An empty want is the
// highest release. It returns an index into versions; those that are no
// semantic versions are passed over.
func choose(name string, versions []string, want string) (int, error) {
	if i := slices.Index(versions, want); i >= 0 && want != "" {
		return i, nil
	}
	expr := want
	if expr == "" {
		expr = "*"
	}
	constraint, err := semver.NewConstraint(expr)
	if err != nil {
		return 0, fmt.Errorf("version %q of chart %q: %w", want, name, err)
	}
	best := -1
	var highest *semver.Version
	var all semver.Collection
	for i, s := range versions {
		v, err := semver.NewVersion(s)
		if err != nil {
			continue
		}
		all = append(all, v)
		if constraint.Check(v) && (highest == nil || v.GreaterThan(highest)) {
			best, highest = i, v
		}
	}
	if best < 0 {
		return 0, &VersionError{Chart: name, Version: want, Available: newest(all)}
	}
	return best, nil
}

func newest(all semver.Collection) []string {
	slices.SortFunc(all, func(a, b *semver.Version) int { return b.Compare(a) })
	var out []string
	for _, v := range all[:min(len(all), 10)] {
		out = append(out, v.Original())
	}
	return out
}
