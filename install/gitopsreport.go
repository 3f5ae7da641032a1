package install

import (
	"fmt"
	"slices"
	"strings"
)

// maxNamed bounds the objects that one line of a report names.
const maxNamed = 10

// several lists the first of many objects.
func several(list []string) string {
	if n := len(list); n > maxNamed {
		list = append(slices.Clone(list[:maxNamed]), fmt.Sprintf("and %d more", n-maxNamed))
	}
	return strings.Join(list, ", ")
}

// treeLine is what a report says about a tree, a line of it.
type treeLine struct {
	Text     string
	Fix      string
	Severity Severity // of a finding
}

// lines tell of a tree in every form of a report.
func (t *Tree) lines() []treeLine {
	if t == nil {
		return nil
	}
	next := "commit it, and run the same command again when it is applied"
	if t.Applied {
		next = "the cluster holds them"
	}
	out := []treeLine{{Text: fmt.Sprintf("%s, %d objects of %d items; %s", t.Dir, t.Objects, t.Items, next)}}
	if t.Secrets > 0 {
		out = append(out, treeLine{Text: fmt.Sprintf("not for Git: %d Secrets in %s/%s; kubectl apply --server-side -k %s/%s, or encrypt them", t.Secrets, t.Dir, treeSecrets, t.Dir, treeSecrets)})
	}
	if len(t.Gone) > 0 {
		out = append(out, treeLine{Text: "not in it any more: " + several(t.Gone) + "; where the controller does not prune, remove them from the cluster by hand"})
	}
	for _, f := range t.Findings {
		out = append(out, treeLine{f.line(), f.Fix, f.Severity})
	}
	if len(t.Findings) == maxTreeFindings {
		out = append(out, treeLine{Text: "and perhaps more like these"})
	}
	for _, w := range t.Waits {
		out = append(out, treeLine{Text: "not yet: " + w.Item + ": " + w.Why})
	}
	return out
}

// text are the lines for a terminal.
func (t *Tree) text() []string {
	var out []string
	for i, l := range t.lines() {
		if i == 0 {
			out = append(out, "", "For the GitOps controller: "+l.Text)
			continue
		}
		out = append(out, "  "+l.Text)
		if l.Fix != "" {
			out = append(out, "    fix: "+l.Fix)
		}
	}
	return out
}
