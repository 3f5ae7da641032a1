package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/verify"
	"github.com/airlock-project/airlock/verify/sign"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// statementFlags are the flags of attest and waive.
type statementFlags struct {
	deskFlags
	leaseFlags
	bundle       string
	policy       string
	evidence     []string
	keys         []string
	passwordFile string
	yes          bool
	reason       string
	risk         string
}

func (f *statementFlags) add(cmd *cobra.Command) {
	stateFlags(cmd, &f.state, &f.site)
	f.leaseFlags.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.bundle, "bundle", "", "the `bundle`, where the item's checks read its content")
	fl.StringVar(&f.policy, "policy", "", "trust policy `file` for --bundle (default: ./policy.yaml, then /etc/airlock/policy.yaml)")
	fl.StringArrayVar(&f.evidence, "evidence", nil, "`NAME=FILE` that goes with the statement; may be repeated")
	fl.StringSliceVar(&f.keys, "key", nil, "private key `file` to sign with (default: the site's identity); may be repeated")
	fl.StringVar(&f.passwordFile, "password-file", "", "`file` with the key's password; without it AIRLOCK_KEY_PASSWORD, COSIGN_PASSWORD, then the terminal")
	fl.BoolVar(&f.yes, "yes", false, "sign without asking: for scripts")
}

func (a *app) checklistAttest() *cobra.Command {
	var f statementFlags
	cmd := &cobra.Command{
		Use: "attest ID", Short: "State, signed, what no machine can see",
		Long: `Runs the item's own checks, shows the statement that the checklist asks for and
signs it with the site's identity, or with --key. The site file says in people:
which key has which role; the item says which roles may sign and how many. The
signed statement and its evidence are kept in the state directory and the ledger.
Exit code 0: the item is attested; 21: somebody else has to sign too; 20: its own
checks fail, or something that it needs is not done.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.runStatement(cmd.Context(), f, list[0], install.KindAttestation)
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) checklistWaive() *cobra.Command {
	var f statementFlags
	cmd := &cobra.Command{
		Use: "waive ID --reason TEXT --risk TEXT", Short: "Take, signed by two people, the risk of an item that is not done",
		Long: `Only items that the checklist allows to waive, and only by two people with
different keys: two calls, or --key twice. The second person may leave --reason
and --risk out and signs those of the first.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.runStatement(cmd.Context(), f, list[0], install.KindWaiver)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.reason, "reason", "", "why the item is not done, as `text`")
	cmd.Flags().StringVar(&f.risk, "risk", "", "what can come of it, as `text`")
	return cmd
}

// waitingError says that a statement is kept and that somebody else has to sign
// too.
type waitingError struct {
	item string
	text string
	next string // the command for the next person
}

func (e *waitingError) Error() string { return fmt.Sprintf("item %s waits: %s", e.item, e.text) }

func (a *app) runStatement(ctx context.Context, f statementFlags, id, kind string) error {
	for name, text := range map[string]string{"reason": f.reason, "risk": f.risk} {
		if strings.ContainsFunc(text, unicode.IsControl) {
			return &usageError{fmt.Errorf("--%s: want one line of text", name)}
		}
	}
	files, err := readEvidence(f.evidence)
	if err != nil {
		return err
	}
	site, o, err := f.load(a)
	if err != nil {
		return err
	}
	keys, err := a.signingKeys(ctx, site, o.SiteDir, f.keys, f.passwordFile)
	if err != nil {
		return err
	}
	if o.People, err = people(site, o.SiteDir, keys...); err != nil {
		return err
	}
	o.Sign, o.KeyID, o.Listener = keys[0].Blob, keys[0].Fingerprint(), a.installEvents()
	if err := a.deskKinds(ctx, site, &o, f.leaseFlags); err != nil {
		return err
	}
	var b *verify.Bundle
	if f.bundle != "" {
		if b, err = a.open(ctx, f.bundle, trustFlags{policy: f.policy}, verify.Options{Site: site.Name}); err != nil {
			return err
		}
		defer b.Close()
	}
	desk, err := install.OpenDesk(ctx, b, o)
	if err != nil {
		return err
	}
	rep, err := a.signAt(ctx, desk, f, id, kind, files, keys)
	if err := errors.Join(err, desk.Close()); err != nil {
		return err
	}
	return a.stated(rep, f, id)
}

// signAt drafts, asks and signs.
func (a *app) signAt(ctx context.Context, desk *install.Desk, f statementFlags, id, kind string, files []install.ProofFile, keys []*sign.Key) (*install.Report, error) {
	var d *install.Draft
	var err error
	if kind == install.KindWaiver {
		d, err = desk.Waive(id, f.reason, f.risk, files)
	} else {
		d, err = desk.Attest(ctx, id, files)
	}
	if err != nil {
		return nil, err
	}
	var signers []install.Signer
	var who []string
	for _, k := range keys {
		by, err := desk.Who(d, k.Fingerprint())
		if err != nil {
			return nil, err
		}
		who = append(who, fmt.Sprintf("%s, key %s", by, k.Fingerprint()))
		signers = append(signers, install.Signer{KeyID: k.Fingerprint(), Sign: k.Blob})
	}
	if err := a.confirm(ctx, d, who, f.yes); err != nil {
		return nil, err
	}
	return desk.Sign(ctx, d, signers...)
}

// confirm shows what is about to be signed and asks. It shows it to scripts too.
func (a *app) confirm(ctx context.Context, d *install.Draft, who []string, yes bool) error {
	a.say("\n%s (%s)", d.Title, d.Item)
	if d.Why != "" {
		a.say("a person has to say it: %s", d.Why)
	}
	for _, ev := range d.Evidence {
		a.say("evidence %s: %s, %d bytes, sha256:%s", ev.Name, ev.Media, ev.Bytes, ev.SHA256)
	}
	if !d.Until.IsZero() {
		a.say("it will hold until %s", d.Until.Format(time.RFC3339))
	}
	a.say("\n    %s\n", d.Text)
	for _, w := range who {
		a.say("signed by %s", w)
	}
	if yes {
		return nil
	}
	return a.agree(ctx, "sign", "nothing was signed")
}

// agree has somebody type yes to what was shown; without is what it means if
// they do not.
func (a *app) agree(ctx context.Context, verb, without string) error {
	in, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return &usageError{fmt.Errorf("there is no terminal to ask on, %s: --yes does it without asking", without)}
	}
	answer, err := a.ask(ctx, in, fmt.Sprintf("Type \"yes\" to %s: ", verb))
	if err != nil {
		return err
	}
	if answer != "yes" {
		return &usageError{errors.New(without)}
	}
	return nil
}

// ask reads one line. When ctx ends first, the goroutine that reads on ends with
// the program.
func (a *app) ask(ctx context.Context, in io.Reader, text string) (string, error) {
	fmt.Fprint(a.stderr, text)
	type answer struct {
		line string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(in, 256)).ReadString('\n')
		answers <- answer{strings.TrimSpace(line), err}
	}()
	select {
	case got := <-answers:
		if errors.Is(got.err, io.EOF) {
			got.err = nil
		}
		return got.line, got.err
	case <-ctx.Done():
		return "", fmt.Errorf("ask: %w", ctx.Err())
	}
}

// statedResult is the result of attest and waive.
type statedResult struct {
	Item       string                    `json:"item"`
	State      install.State             `json:"state"`
	Reason     string                    `json:"reason,omitempty"`
	Statements []install.StatementReport `json:"statements"`
	Ledger     *install.Head             `json:"ledger"`
	Warnings   []string                  `json:"warnings,omitempty"`
}

// stated shows what came of a signature.
func (a *app) stated(rep *install.Report, f statementFlags, id string) error {
	item := reported(rep, id)
	res := statedResult{Item: id, State: item.State, Reason: item.Reason, Statements: item.Statements, Ledger: rep.Ledger, Warnings: rep.Warnings}
	for _, w := range rep.Warnings {
		a.warn("%s", w)
	}
	err := a.result(res, func(w io.Writer) {
		fmt.Fprintf(w, "%s is %s%s\n", id, item.State, after(": ", item.Reason))
		if rep.Ledger != nil {
			fmt.Fprintf(w, "ledger: %d entries, head %s\n", rep.Ledger.Seq, rep.Ledger.Hash)
		}
	})
	if err != nil || item.State == install.StateAttested || item.State == install.StateWaived {
		return err
	}
	if len(item.Statements) > 0 && item.Statements[len(item.Statements)-1].Kind == install.KindWaiver {
		return &waitingError{item: id, text: "a waiver is signed by two people", next: f.command("waive", id) + " --key KEY"}
	}
	return &waitingError{item: id, text: item.Reason, next: f.command("attest", id) + " --key KEY"}
}

func after(sep, s string) string {
	if s == "" {
		return ""
	}
	return sep + s
}

func reported(rep *install.Report, id string) install.ItemReport {
	for _, ph := range rep.Phases {
		if i := slices.IndexFunc(ph.Items, func(i install.ItemReport) bool { return i.ID == id }); i >= 0 {
			return ph.Items[i]
		}
	}
	return install.ItemReport{ID: id}
}

// command is how to call a checklist command about an item at this place.
func (f deskFlags) command(verb, id string) string {
	words := "airlock checklist " + verb
	if id != "" {
		words += " " + id
	}
	words += " --site " + shellWord(f.site)
	if f.state != "" {
		words += " --state " + shellWord(f.state)
	}
	return words
}

// shellWord quotes a word for a shell where it needs that.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,") == "" && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// readEvidence reads the files of --evidence.
func readEvidence(list []string) ([]install.ProofFile, error) {
	var out []install.ProofFile
	for _, arg := range list {
		name, path, ok := strings.Cut(arg, "=")
		if !ok || name == "" || path == "" {
			return nil, &usageError{fmt.Errorf("--evidence %q: want NAME=FILE", arg)}
		}
		fi, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !fi.Mode().IsRegular() { // a named pipe would block
			return nil, &usageError{fmt.Errorf("--evidence %s: %s is not a file", name, path)}
		}
		data, err := regular.Read(path, install.MaxProof)
		if err != nil {
			return nil, &usageError{fmt.Errorf("--evidence %s: %w", name, err)}
		}
		if bytes.Contains(data, []byte("PRIVATE KEY-----")) { // evidence goes to auditors, and into the registry
			return nil, &usageError{fmt.Errorf("--evidence %s: %s holds a private key, and evidence is for others to read", name, path)}
		}
		out = append(out, install.ProofFile{Name: name, Data: data})
	}
	return out, nil
}

// deskKinds registers the kinds of step, as a run does: what an item rests on
// includes theirs.
func (a *app) deskKinds(ctx context.Context, site *manifests.Site, o *install.Options, lease leaseFlags) error {
	hosts, t, err := a.siteRegistry(ctx, site, o.SiteDir)
	if err != nil {
		// People who sign need not hold the registry's password.
		a.warn("the site's registry is left out, what is signed is not copied there: %s", err)
		return a.plainKinds(site, o)
	}
	o.Probes, o.Actions = a.kinds(hosts, t, site)
	return a.offsite(site, hosts, t, o, lease)
}
