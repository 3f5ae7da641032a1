package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/install"
	"github.com/spf13/cobra"
)

func (a *app) checklistVerify() *cobra.Command {
	var state, site, head string
	var keys []string
	cmd := &cobra.Command{
		Use: "verify", Short: "Check that the record of an installation was not changed",
		Long: `Checks the ledger's chain, the data and evidence behind it, and what people signed,
with the keys that the site file lists. With --key the last entry must be covered
by a checkpoint that one of those keys, or of the site's, signed. With --head the
ledger must still hold the entry that a report once named as its last.`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return a.runChecklistVerify(state, site, keys, head) },
	}
	stateFlags(cmd, &state, &site)
	cmd.Flags().StringSliceVar(&keys, "key", nil, "public key `file` of the operator: checks that the ledger is signed to its end; may be repeated")
	cmd.Flags().StringVar(&head, "head", "", "a `head` of the ledger that was kept elsewhere, as a report or its QR code has it: \"NUMBER HASH\"")
	return cmd
}

func stateFlags(cmd *cobra.Command, state, site *string) {
	cmd.Flags().StringVar(state, "state", "", "state `directory` (default: what the site file says)")
	cmd.Flags().StringVar(site, "site", "site.yaml", "site `file`")
}

// ofSite refuses the record of another site than the site file's, where that
// file says which record is meant.
func ofSite(rep *install.Report, state, siteFile string) error {
	if state != "" {
		return nil
	}
	site, err := loadSite(siteFile)
	if err == nil && rep.Site != site.Name {
		err = &install.MismatchError{What: "state directory of site", Have: rep.Site, Want: []string{site.Name}}
	}
	return err
}

// verifiedRecord is the result of checklist verify.
type verifiedRecord struct {
	install.Verification
	Statements int // signed by people
	Unchecked  int // of them, by keys that the site does not list
}

func (a *app) runChecklistVerify(state, site string, keyFiles []string, head string) error {
	kept, err := parseHead(head)
	if err != nil {
		return err
	}
	dir, err := a.stateOf(state, site)
	if err != nil {
		return err
	}
	who, identity, err := a.knownKeys(state, site, keyFiles)
	if err != nil {
		return err
	}
	v, err := verifyCheckpoints(dir, who, identity, len(keyFiles) > 0, kept)
	if err != nil {
		return err
	}
	res := verifiedRecord{Verification: *v}
	err = install.VerifyStatements(dir, who, func(_ install.Statement, listed bool) {
		res.Statements++
		if !listed {
			res.Unchecked++
		}
	})
	if err != nil {
		return err
	}
	if v.Head.Seq > 0 { // an empty record is nobody's
		rep, err := install.ReadReport(dir)
		if err == nil {
			err = ofSite(rep, state, site)
		}
		if err != nil {
			return err
		}
	}
	return a.result(res, func(w io.Writer) { printVerified(w, res) })
}

// parseHead reads the head of a ledger from the end of what a report or its QR
// code says; "" gives none.
func parseHead(text string) ([]install.Head, error) {
	if text == "" {
		return nil, nil
	}
	bad := &usageError{fmt.Errorf("--head %q: want the number of an entry and its hash of 64 digits, as the report has them", text)}
	words := strings.Fields(text)
	if len(words) < 2 {
		return nil, bad
	}
	seq, err := strconv.ParseInt(words[len(words)-2], 10, 64)
	hash := words[len(words)-1]
	if _, notHex := hex.DecodeString(hash); err != nil || notHex != nil || seq < 1 || len(hash) != 64 {
		return nil, bad
	}
	return []install.Head{{Seq: seq, Hash: hash}}, nil
}

// knownKeys are those of flags, and of the site file where there is one, and
// whether that site has an identity.
func (a *app) knownKeys(state, siteFile string, keyFiles []string) (who []install.Person, identity bool, err error) {
	for _, path := range keyFiles {
		p, err := person("key", "", path)
		if err != nil {
			return nil, false, err
		}
		who = append(who, p)
	}
	if _, err := os.Stat(siteFile); errors.Is(err, fs.ErrNotExist) && state != "" {
		return who, false, nil
	}
	site, err := loadSite(siteFile)
	if err != nil {
		return nil, false, err
	}
	listed, err := people(site, filepath.Dir(siteFile))
	return append(who, listed...), site.Identity != nil, err
}

// verifyCheckpoints checks the record and, where keys are known, the signatures
// over it. With must they have to reach to the last entry.
func verifyCheckpoints(dir string, who []install.Person, identity, must bool, kept []install.Head) (*install.Verification, error) {
	switch {
	case must:
		return install.VerifyState(dir, install.CheckBy(who), kept...)
	case len(who) == 0:
		return install.VerifyState(dir, nil, kept...)
	}
	return install.VerifyListed(dir, identity, install.CheckBy(who), kept...)
}

func printVerified(w io.Writer, v verifiedRecord) {
	fmt.Fprintf(w, "ledger is whole: %d entries, head %s\n", v.Head.Seq, v.Head.Hash)
	switch {
	case v.Checkpoints == 0:
		fmt.Fprintln(w, "no checkpoints: nothing is signed, whoever can write the state directory can have written all of it anew")
	case !v.Signed:
		fmt.Fprintf(w, "%s; signatures were not checked: give --key\n", count(v.Checkpoints, "checkpoint"))
	case v.Good == 0:
		fmt.Fprintf(w, "%s; no signature was checked\n", count(v.Checkpoints, "checkpoint"))
	case v.Covered:
		fmt.Fprintf(w, "%s, signatures good, up to the last entry\n", count(v.Good, "checkpoint"))
	default:
		fmt.Fprintf(w, "%s, signatures good, up to entry %d: what came after it is not signed by a key that is known\n", count(v.Good, "checkpoint"), v.CoveredTo)
	}
	if n := v.Checkpoints - v.Good; v.Signed && n > 0 {
		fmt.Fprintf(w, "%s by %s, which the site does not list: not checked; list it under people:, with left: DAY where its owner is gone\n",
			count(n, "checkpoint"), strings.Join(v.Unlisted, ", "))
	}
	if !v.Signed && v.Checkpoints > 0 && !v.Covered {
		fmt.Fprintln(w, "the last checkpoint does not cover the last entry: what came after it is not signed")
	}
	if v.Missing {
		fmt.Fprintln(w, "the last run had an identity and ended without a checkpoint: it was killed just then, or the checkpoint was removed")
	}
	if v.ClockBack > 0 {
		fmt.Fprintf(w, "the clock of the machine went back %s: times are not in order there, entries are by their number\n", times(v.ClockBack))
	}
	switch {
	case v.Statements == 0:
	case v.Unchecked == 0:
		fmt.Fprintf(w, "%s, signatures and evidence good\n", count(v.Statements, "statement"))
	default:
		fmt.Fprintf(w, "%s, evidence good; %d by keys that the site does not list, whose signatures were not checked\n", count(v.Statements, "statement"), v.Unchecked)
	}
}

// times says how often something happened.
func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
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
that the report is the one it names, and what people signed with the keys that the
site file lists. Of a run that did not end it shows what the ledger knows. The
signatures of the ledger itself are checked by airlock checklist verify.`,
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
			if err == nil {
				err = ofSite(rep, state, site)
			}
			if err != nil {
				return err
			}
			who, _, err := a.knownKeys(state, site, nil)
			if err != nil {
				return err
			}
			if err := install.VerifyStatements(dir, who, nil); err != nil {
				return err
			}
			return a.installReport(rep, format)
		},
	}
	stateFlags(cmd, &state, &site)
	cmd.Flags().StringVar(&format, "format", "text", "`form`: "+reportForms)
	return cmd
}
