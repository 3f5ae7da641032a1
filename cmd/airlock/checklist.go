package main

import (
	"fmt"
	"io"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/verify"
	"github.com/spf13/cobra"
)

func (a *app) checklistVerify() *cobra.Command {
	var state, site, key string
	cmd := &cobra.Command{
		Use: "verify", Short: "Check that the record of an installation was not changed", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return a.runChecklistVerify(state, site, key) },
	}
	stateFlags(cmd, &state, &site)
	cmd.Flags().StringVar(&key, "key", "", "public key `file` of the operator: checks the signatures of checkpoints too")
	return cmd
}

func stateFlags(cmd *cobra.Command, state, site *string) {
	cmd.Flags().StringVar(state, "state", "", "state `directory` (default: what the site file says)")
	cmd.Flags().StringVar(site, "site", "site.yaml", "site `file`")
}

func (a *app) runChecklistVerify(state, site, key string) error {
	dir, err := a.stateOf(state, site)
	if err != nil {
		return err
	}
	var check func(string, []byte, []byte) error
	if key != "" {
		p, err := verify.KeyPolicy(key)
		if err != nil {
			return err
		}
		check = func(_ string, payload, sig []byte) error { return p.CheckBlob(payload, sig) }
	}
	v, err := install.VerifyState(dir, check)
	if err != nil {
		return err
	}
	return a.result(v, func(w io.Writer) {
		fmt.Fprintf(w, "ledger is whole: %d entries, head %s\n", v.Head.Seq, v.Head.Hash)
		switch {
		case v.Checkpoints == 0:
			fmt.Fprintln(w, "no checkpoints: nothing is signed, whoever can write the state directory can have written all of it anew")
		case !v.Signed:
			fmt.Fprintf(w, "%s; signatures were not checked: give --key\n", count(v.Checkpoints, "checkpoint"))
		default:
			fmt.Fprintf(w, "%s, signatures good, up to the last entry\n", count(v.Checkpoints, "checkpoint"))
		}
		if v.Checkpoints > 0 && !v.Covered {
			fmt.Fprintln(w, "the last checkpoint does not cover the last entry: what came after it is not signed")
		}
	})
}

// count says how many there are of something.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (a *app) checklistReport() *cobra.Command {
	var state, site, format string
	cmd := &cobra.Command{
		Use: "report", Short: "Show the report of the last run",
		Long: `Shows the report of the last run, after checking that the ledger is whole and
that the report is the one it names. Of a run that did not end it shows what the
ledger knows. Signatures are checked by airlock checklist verify --key.`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if err := a.reportForm(&format); err != nil {
				return err
			}
			dir, err := a.stateOf(state, site)
			if err != nil {
				return err
			}
			rep, err := install.ReadReport(dir)
			if err != nil {
				return err
			}
			return a.installReport(rep, format)
		},
	}
	stateFlags(cmd, &state, &site)
	cmd.Flags().StringVar(&format, "format", "text", "`form`: "+reportForms)
	return cmd
}
