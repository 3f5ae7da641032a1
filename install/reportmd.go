package install

import (
	"fmt"
	"strings"
	"time"
)

// Markdown writes the report with the checklist's structure: its phases, its
// rows, a box for each.
func (rep *Report) Markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Installation of %s %s at %s\n", escape(rep.Product), escape(rep.Version), escape(rep.Site))
	if rep.DryRun {
		p("This was a dry run: nothing was changed.\n")
	}
	p("| | |\n|---|---|")
	p("| Status | %s |", escape(rep.statusWords()))
	p("| Platform | %s, %s |", escape(rep.Platform), escape(rep.Airgap))
	p("| Bundle | `%s`, release %d |", rep.Bundle, rep.Release)
	for _, s := range rep.Signers {
		p("| Signed by | %s (%s) `%s` |", escape(s.Name), escape(s.Role), s.Fingerprint)
	}
	p("| Policy | `%s` |", rep.Policy)
	p("| Checklist | `%s` |", rep.Checklist)
	if rep.RunID != "" {
		p("| Run | `%s` by %s, %s to %s |", rep.RunID, escape(rep.Actor), rep.StartedAt.Format(time.RFC3339), rep.FinishedAt.Format(time.RFC3339))
	}
	if rep.Ledger != nil {
		p("| Ledger | %s |", escape(strings.TrimPrefix(rep.ledgerLine(), "Ledger: ")))
	}
	for _, ph := range rep.Phases {
		p("\n## %s\n", escape(ph.heading()))
		for _, item := range ph.Items {
			markdownItem(p, item)
		}
	}
	for _, line := range rep.Tree.text() {
		p("\n%s", escape(strings.TrimSpace(line)))
	}
	for _, w := range rep.Warnings {
		p("\n**Warning:** %s", escape(w))
	}
	if len(rep.Left) > 0 {
		p("\n## Left to do, in this order\n")
	}
	for i, t := range rep.Left {
		p("%d. %s (`%s`): %s%s", i+1, escape(t.Title), t.Item, t.State, escape(colon(t.What)))
	}
	return b.String()
}

func markdownItem(p func(string, ...any), item ItemReport) {
	box, indent := " ", ""
	if item.State.settled() {
		box = "x"
	}
	if item.Group != "" {
		indent = "  "
	}
	row := item.SeedRow
	if row == "" {
		row = item.Title
	}
	when := ""
	if !item.FinishedAt.IsZero() {
		when = ", " + item.FinishedAt.Format(time.RFC3339)
	}
	p("%s- [%s] %s (`%s`): **%s**%s%s", indent, box, escape(row), item.ID, item.State, when, escape(item.took()))
	if item.Reason != "" {
		p("%s  - %s", indent, escape(item.Reason))
	}
	for _, f := range item.Findings {
		p("%s  - %s", indent, escape(f.line()))
		if f.Cause != "" && f.Detail != "" {
			p("%s    - Seen: %s", indent, escape(f.Detail))
		}
		if f.Fix != "" {
			p("%s    - Fix: %s", indent, escape(f.Fix))
		}
	}
	for _, s := range item.Statements {
		p("%s  - %s", indent, escape(s.Line()))
	}
	for _, c := range item.Plan {
		p("%s  - Would: %s", indent, escape(c.Summary))
	}
	for _, ev := range item.Evidence {
		p("%s  - Evidence: %s `sha256:%s`, %d bytes", indent, escape(ev.Name), ev.SHA256, ev.Bytes)
	}
}

// escape keeps text from being markup.
func escape(s string) string {
	return strings.NewReplacer(
		`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", "&lt;", ">", "&gt;", "|", `\|`, "#", `\#`,
	).Replace(printable(s))
}
