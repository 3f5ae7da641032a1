package install

import (
	"fmt"
	"strings"
	"time"
)

// printable returns s as one line without control characters: what is reported
// comes from outside and must not move a terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 || r == 0x202e || r == 0x2066 || r == 0x2067:
			return -1
		}
		return r
	}, s)
}

// Text writes the report for a terminal.
func (rep *Report) Text() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	what := "Installation"
	if rep.DryRun {
		what = "Dry run"
	}
	p("%s of %s %s (release %d) at %s, %s, %s", what, rep.Product, rep.Version, rep.Release, rep.Site, rep.Platform, rep.Airgap)
	p("Bundle %s", rep.Bundle)
	for _, s := range rep.Signers {
		p("Signed by %s (%s) %s", s.Name, s.Role, s.Fingerprint)
	}
	for _, ph := range rep.Phases {
		if len(ph.Items) == 0 {
			continue
		}
		p("\n%s", ph.heading())
		for _, item := range ph.Items {
			rep.textItem(p, item)
		}
	}
	if len(rep.Left) > 0 {
		p("\nLeft to do, in this order:")
	}
	for i, t := range rep.Left {
		p("%3d. %s (%s)%s", i+1, t.Item, t.State, colon(printable(t.What)))
	}
	for _, line := range rep.Tree.text() {
		p("%s", printable(line))
	}
	for _, w := range rep.Warnings {
		p("\nWarning: %s", printable(w))
	}
	p("\nStatus: %s", rep.statusWords())
	if line := rep.ledgerLine(); line != "" {
		p("%s", line)
	}
	return b.String()
}

// heading names a phase; what was read out of a ledger has none.
func (ph PhaseReport) heading() string {
	if ph.ID == "" {
		return ph.Title
	}
	return fmt.Sprintf("Phase %d: %s", ph.Number, ph.Title)
}

func (rep *Report) textItem(p func(string, ...any), item ItemReport) {
	indent := ""
	if item.Group != "" {
		indent = "  "
	}
	p("  %s%-11s %s  %s%s", indent, item.State, item.ID, printable(item.names()), item.took())
	if item.Reason != "" {
		p("  %s            %s", indent, printable(item.Reason))
	}
	for _, f := range item.Findings {
		p("  %s            %s", indent, f.line())
		if f.Cause != "" && f.Detail != "" {
			p("  %s              seen: %s", indent, printable(f.Detail))
		}
		if f.Fix != "" {
			p("  %s              fix: %s", indent, printable(f.Fix))
		}
	}
	for _, s := range item.Statements {
		p("  %s            %s", indent, s.Line())
	}
	for _, c := range item.Plan {
		p("  %s            would: %s", indent, printable(c.Summary))
		for _, d := range c.Details {
			p("  %s              %s", indent, printable(d))
		}
	}
}

// names is the row as the checklist's document has it, and what it is about.
func (item ItemReport) names() string {
	if item.SeedRow == "" || item.SeedRow == item.Title {
		return item.Title
	}
	return item.SeedRow + ": " + item.Title
}

// line is a finding in one line.
func (f FindingReport) line() string {
	text := f.Cause
	if text == "" {
		text = f.Detail
	}
	if f.Code == "" {
		return printable(fmt.Sprintf("%s: %s", f.Severity, text))
	}
	return printable(fmt.Sprintf("%s %s: %s", f.Severity, f.Code, text))
}

func (item ItemReport) took() string {
	switch {
	case item.Reused:
		return " (passed " + item.FinishedAt.Format(time.RFC3339) + ", still valid)"
	case item.Seconds > 0:
		return fmt.Sprintf(" (%s)", time.Duration(item.Seconds*float64(time.Second)).Round(time.Millisecond))
	}
	return ""
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

func (rep *Report) statusWords() string {
	left := fmt.Sprintf("%d items left", len(rep.Left))
	if len(rep.Left) == 1 {
		left = "1 item left"
	}
	words := map[Status]string{
		StatusDone: "done", StatusFailed: "a required item failed", StatusWaiting: "waiting for a person", StatusPartial: "done in part",
		StatusSoFar: "selected items done; " + left, StatusPlanned: "planned; nothing was changed",
	}[rep.Status]
	if rep.Status == StatusWaiting && rep.Tree != nil {
		words = "waiting for the GitOps controller or a person"
	}
	switch {
	case rep.Interrupted != "":
		words += "; the run was interrupted while " + rep.Interrupted + " was running"
	case rep.Stopped:
		words += "; the run was interrupted"
	}
	return words
}

// ledgerLine is what should leave the machine: with it a cut ledger shows.
func (rep *Report) ledgerLine() string {
	if rep.Ledger == nil {
		return ""
	}
	line := fmt.Sprintf("Ledger: %d entries, head %s", rep.Ledger.Seq, rep.Ledger.Hash)
	switch c := rep.Checkpoint; {
	case c == nil:
		return line
	case len(c.Sig) == 0 && c.KeyID != "":
		return line + ", not signed (the run died before " + c.KeyID + " signed it)"
	case len(c.Sig) == 0:
		return line + ", not signed (the site has no identity)"
	default:
		return line + ", signed by " + c.KeyID
	}
}
