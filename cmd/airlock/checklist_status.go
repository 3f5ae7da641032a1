package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/spf13/cobra"
)

// plainKinds registers the kinds of step with clients that show no login, for
// commands that ask nobody.
func (a *app) plainKinds(site *manifests.Site, o *install.Options) error {
	hosts, err := a.hosts(remote.Options{})
	if err != nil {
		return err
	}
	o.Probes, o.Actions = a.kinds(hosts, nil, site)
	return nil
}

func (a *app) checklistStatus() *cobra.Command {
	var f deskFlags
	cmd := &cobra.Command{
		Use: "status", Short: "Show where an installation stands, and who has to do what",
		Long: `Looks at the record and at the site file, and asks no other machine. What has
changed since it was done is stale. For everything that is left it shows the
command to go on with. Exit code 0: all is done; 20: a required item failed;
21: a person has to state something; 3: something else is left.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runStatus(cmd, f) },
	}
	stateFlags(cmd, &f.state, &f.site)
	return cmd
}

// statusResult is the result of status.
type statusResult struct {
	State  string          `json:"state"` // the directory
	Report *install.Report `json:"report"`
	Next   []nextStep      `json:"next"`
}

// nextStep is something to do, in the order to do it.
type nextStep struct {
	Item    string        `json:"item"`
	Title   string        `json:"title"`
	State   install.State `json:"state"`
	What    string        `json:"what,omitempty"`
	Command string        `json:"command,omitempty"`
}

func (a *app) runStatus(cmd *cobra.Command, f deskFlags) error {
	site, o, err := f.load(a)
	if err != nil {
		return err
	}
	if o.People, err = people(site, o.SiteDir); err != nil {
		return err
	}
	if err := a.plainKinds(site, &o); err != nil {
		return err
	}
	desk, err := install.LookDesk(cmd.Context(), o)
	if err != nil {
		return err
	}
	rep, c, file := desk.Report(), desk.Checklist(), desk.BundleFile()
	if err := desk.Close(); err != nil {
		return err
	}
	res := statusResult{State: o.State, Report: rep, Next: f.next(rep, c, file)}
	if err := a.result(res, func(w io.Writer) { printStatus(w, rep, res.Next) }); err != nil {
		return err
	}
	return outcome(rep, o.State, f)
}

// next says, for everything that is left, what to call.
func (f deskFlags) next(rep *install.Report, c *manifests.Checklist, bundleFile string) []nextStep {
	items := map[string]manifests.Item{}
	for _, i := range c.Items {
		items[i.ID] = i
	}
	out := []nextStep{}
	for _, t := range rep.Left {
		n := nextStep{Item: t.Item, Title: t.Title, State: t.State, What: t.What}
		who := waivers(rep, t.Item)
		switch {
		case len(who) > 0:
			n.What = "the risk is taken by " + strings.Join(who, ", ") + "; somebody else has to sign too"
			n.Command = f.command("waive", t.Item) + " --key KEY"
		case rep.Held(t.Item):
			// The same command as before, once the controller is done.
		case t.State == install.StateWaiting, t.State == install.StateStale && items[t.Item].Kind == manifests.ItemAttest:
			n.Command = f.command("attest", t.Item)
			for _, p := range items[t.Item].Attest.Evidence {
				if p.Required {
					n.Command += " --evidence " + p.Name + "=FILE"
				}
			}
		case t.State == install.StateUnavailable && items[t.Item].Waiver != nil:
			// This version never does it; who did it by hand says so.
			n.Command = f.command("waive", t.Item) + " --reason TEXT --risk TEXT"
		case t.State == install.StateUnavailable:
		case t.State != install.StateBlocked:
			n.Command = f.resume(bundleFile)
		}
		out = append(out, n)
	}
	return out
}

// waivers are those who have signed that they take the risk of an item that is
// not waived yet.
func waivers(rep *install.Report, id string) []string {
	var who []string
	for _, ph := range rep.Phases {
		for _, it := range ph.Items {
			for _, s := range it.Statements {
				if it.ID == id && s.Kind == install.KindWaiver && s.Against == "" {
					who = append(who, fmt.Sprintf("%s (%s)", s.Name, s.Role))
				}
			}
		}
	}
	return who
}

// resume is how the run goes on, with the bundle of the last run.
func (f deskFlags) resume(bundleFile string) string {
	word := "BUNDLE"
	if bundleFile != "" {
		word = shellWord(bundleFile)
	}
	words := "airlock bundle install " + word + " --resume --site " + shellWord(f.site)
	if f.state != "" {
		words += " --state " + shellWord(f.state)
	}
	return words
}

func printStatus(w io.Writer, rep *install.Report, next []nextStep) {
	fmt.Fprintf(w, "%s %s (release %d) at %s, %s, %s\n", rep.Product, rep.Version, rep.Release, rep.Site, rep.Platform, rep.Airgap)
	counts := map[install.State]int{}
	total, rows := 0, 0
	for _, ph := range rep.Phases {
		for _, i := range ph.Items {
			if i.SeedRow != "" {
				rows++
			}
			if i.Kind != manifests.ItemGroup {
				counts[i.State]++
				total++
			}
		}
	}
	var words []string
	for _, s := range []install.State{
		install.StatePass, install.StateWarn, install.StateAttested, install.StateWaived, install.StateSkipped, install.StateFail, install.StateWaiting,
		install.StateStale, install.StateBlocked, install.StateUnavailable, install.StateRunning, install.StatePending,
	} {
		if counts[s] > 0 {
			words = append(words, fmt.Sprintf("%d %s", counts[s], s))
		}
	}
	fmt.Fprintf(w, "%s: %s\n", itemsAndRows(total, rows), strings.Join(words, ", "))
	for i, n := range next {
		if i == 0 {
			fmt.Fprintln(w, "\nLeft to do, in this order:")
		}
		fmt.Fprintf(w, "%3d. %-11s %s  %s\n", i+1, n.State, n.Item, oneLine(n.Title))
		if n.What != "" {
			fmt.Fprintf(w, "     %s\n", oneLine(n.What))
		}
		if n.Command != "" {
			fmt.Fprintf(w, "     -> %s\n", n.Command)
		}
	}
	for _, warning := range rep.Warnings {
		fmt.Fprintf(w, "\nwarning: %s\n", oneLine(warning))
	}
	fmt.Fprintf(w, "\nledger: %d entries, head %s\n", rep.Ledger.Seq, rep.Ledger.Hash)
}

// oneLine keeps what comes from outside from moving a terminal's cursor.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || 0x7f <= r && r < 0xa0 || r == 0x202e || r == 0x2066 || r == 0x2067 {
			return ' '
		}
		return r
	}, s)
}
