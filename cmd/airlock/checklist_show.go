package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/verify"
	"github.com/spf13/cobra"
)

func (a *app) checklistShow() *cobra.Command {
	var t trustFlags
	var state, site string
	cmd := &cobra.Command{
		Use: "show [BUNDLE]", Short: "Show the checklist of a bundle or of the last run",
		Long: `airlock checklist show BUNDLE shows the checklist in a verified bundle; without
BUNDLE that of the last run: phases, rows, and what each row needs.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			c, err := a.checklistOf(cmd.Context(), list, t, state, site)
			if err != nil {
				return err
			}
			return a.result(c, func(w io.Writer) { printChecklist(w, c) })
		},
	}
	t.add(cmd)
	stateFlags(cmd, &state, &site)
	return cmd
}

func (a *app) checklistOf(ctx context.Context, list []string, t trustFlags, state, site string) (*manifests.Checklist, error) {
	if len(list) == 0 {
		dir, err := a.stateOf(state, site)
		if err != nil {
			return nil, err
		}
		return install.KeptChecklist(dir)
	}
	b, err := a.open(ctx, list[0], t, verify.Options{AnySite: true})
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return install.Checklist(ctx, b)
}

func printChecklist(w io.Writer, c *manifests.Checklist) {
	items, rows := 0, 0
	for _, item := range c.Items {
		if item.Kind != manifests.ItemGroup {
			items++
		}
		if item.SeedRow != "" {
			rows++
		}
	}
	fmt.Fprintf(w, "%s%s: %s\n", c.Product, after(" ", c.Version), itemsAndRows(items, rows))
	phases := slices.SortedStableFunc(slices.Values(c.Phases), func(a, b manifests.Phase) int { return cmp.Compare(a.Number, b.Number) })
	for _, ph := range phases {
		fmt.Fprintf(w, "\nPhase %d: %s\n", ph.Number, oneLine(ph.Title))
		for _, item := range c.Items {
			if item.Phase == ph.ID {
				printItem(w, item)
			}
		}
	}
}

// itemsAndRows says how much a checklist has: items without groups, which only
// hold others, and rows of the document that it comes from, groups included.
func itemsAndRows(items, rows int) string {
	if rows == 0 {
		return count(items, "item")
	}
	return count(items, "item") + ", " + count(rows, "row")
}

func printItem(w io.Writer, item manifests.Item) {
	fmt.Fprintf(w, "  %-7s %s  %s\n", item.Kind, item.ID, oneLine(cmp.Or(item.Title, item.SeedRow)))
	say := func(what string, words ...string) {
		if text := strings.Join(words, ", "); text != "" {
			fmt.Fprintf(w, "          %s: %s\n", what, oneLine(text))
		}
	}
	say("only on", item.Platforms...)
	if item.Need == "optional" {
		say("need", item.Need)
	}
	say("when", item.When)
	say("needs", item.Needs...)
	say("children", item.Children...)
	say("does", runs(item.Steps)...)
	say("checks", runs(item.Probes)...)
	say("holds for", item.Freshness)
	if at := item.Attest; at != nil {
		say("states", at.Statement)
		who := cmp.Or(strings.Join(at.Roles, " or "), "anybody whom the site lists")
		if at.MinSigners > 1 {
			who = fmt.Sprintf("%d of %s", at.MinSigners, who)
		}
		say("signed by", who)
		say("because", at.Reason)
		say("holds for", at.ValidFor)
		for _, p := range at.Evidence {
			words := p.Name
			if p.Required {
				words += ", required"
			}
			say("evidence", words+after(", ", strings.Join(p.Media, " or ")))
		}
	}
	if item.Waiver != nil {
		words := "by two people"
		if item.Waiver.Role != "" {
			words += ", one of them " + item.Waiver.Role
		}
		say("can be waived", words)
	}
	say("note", item.Note)
}

// runs lists the kinds of steps, each once.
func runs(steps []manifests.Step) []string {
	var out []string
	for _, s := range steps {
		if !slices.Contains(out, s.Run) {
			out = append(out, s.Run)
		}
	}
	return out
}
