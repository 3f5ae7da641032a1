package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

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
			fmt.Fprintln(w, "no checkpoints")
		case !v.Signed:
			fmt.Fprintf(w, "%d checkpoints; their signatures were not checked: give --key\n", v.Checkpoints)
		default:
			fmt.Fprintf(w, "%d checkpoints, signatures good\n", v.Checkpoints)
		}
		if v.Checkpoints > 0 && !v.Covered {
			fmt.Fprintln(w, "the last checkpoint does not cover the last entry")
		}
	})
}

func (a *app) checklistReport() *cobra.Command {
	var state, site, format string
	cmd := &cobra.Command{
		Use: "report", Short: "Show the report of the last run", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			dir, err := a.stateOf(state, site)
			if err != nil {
				return err
			}
			data, err := readBounded(filepath.Join(dir, reportFile), 64<<20)
			if err != nil {
				return err
			}
			var rep install.Report
			if err := json.Unmarshal(data, &rep); err != nil {
				return fmt.Errorf("parse %s: %w", reportFile, err)
			}
			if format != "text" && format != "markdown" {
				return &usageError{fmt.Errorf("--report %q: text or markdown", format)}
			}
			return a.installReport(&rep, format)
		},
	}
	stateFlags(cmd, &state, &site)
	cmd.Flags().StringVar(&format, "report", "text", "`form`: text or markdown; --output json for JSON")
	return cmd
}

// reportFile is where the last report is kept, in the state directory.
const reportFile = "report.json"
