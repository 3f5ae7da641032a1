package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror"
	"github.com/airlock-project/airlock/verify"
	"github.com/airlock-project/airlock/verify/sign"
	"github.com/spf13/cobra"
)

// installFlags are the flags of install.
type installFlags struct {
	trustFlags
	leaseFlags
	site         string
	state        string
	phases       string
	items        []string
	keepGoing    bool
	dryRun       bool
	resume       bool
	allowOlder   bool
	render       string
	values       []string
	format       string
	passwordFile string
}

func (a *app) bundleInstall() *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use: "install BUNDLE --site site.yaml", Short: "Run the checklist in a verified bundle",
		Long: `Runs the product's phases against what the site file says, out of the verified
bundle, and keeps a hash-chained record in the state directory. --dry-run looks
and changes nothing. --resume keeps what has passed and is still valid.

With --render-to nothing is changed in a cluster: the objects are written into the
directory, with a kustomization, for Argo CD, Flux or a person to apply; Secrets
into secrets/ in it, which Git ignores. An item passes when the cluster holds its
objects: run the same command again.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error { return a.runInstall(cmd.Context(), list[0], f) },
	}
	f.trustFlags.add(cmd)
	f.leaseFlags.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.site, "site", "site.yaml", "site `file`")
	fl.StringVar(&f.state, "state", "", "state `directory` (default: the site's state, else .airlock/NAME beside the site file)")
	fl.StringVar(&f.phases, "phase", "", "run these `phases` only: 3, 1-4")
	fl.StringSliceVar(&f.items, "item", nil, "run this item `id` only; may be repeated")
	fl.BoolVar(&f.keepGoing, "keep-going", false, "start actions although a required item failed")
	fl.BoolVar(&f.dryRun, "dry-run", false, "run checks, show what actions would do, change nothing")
	fl.BoolVar(&f.resume, "resume", false, "keep what has passed and is still valid")
	fl.BoolVar(&f.allowOlder, "allow-older", false, "install a release older than one that ran here; the policy's floor stays")
	fl.StringVar(&f.render, "render-to", "", "`directory` for rendered files; the cluster is left to what applies them, Argo CD or Flux")
	fl.StringArrayVar(&f.values, "values", nil, "merge a `FILE` into the values of the product's chart, CHART=FILE into those of another; may be repeated, the last wins")
	fl.StringVar(&f.format, "report", "text", "`form` of the report on stdout: "+reportForms)
	fl.StringVar(&f.passwordFile, "password-file", "", "`file` with the password of the site's identity key")
	return cmd
}

func (a *app) runInstall(ctx context.Context, path string, f installFlags) error {
	if err := a.reportForm(&f.format); err != nil {
		return err
	}
	site, err := loadSite(f.site)
	if err != nil {
		return err
	}
	o := install.Options{
		Site: site, SiteDir: filepath.Dir(f.site), State: stateDir(f.state, f.site, site), Render: f.render, GitOps: f.render != "",
		Phases: f.phases, Items: f.items, KeepGoing: f.keepGoing, DryRun: f.dryRun, Resume: f.resume,
		Actor: actor(site), Tool: buildVersion().Version, Now: time.Now, Listener: a.installEvents(),
	}
	if err := a.identity(ctx, site, f.passwordFile, &o); err != nil {
		return err
	}
	hosts, t, err := a.siteRegistry(ctx, site, o.SiteDir)
	if err != nil {
		return err
	}
	if o.Values, err = valuesFiles(f.values); err != nil {
		return err
	}
	o.Probes, o.Actions = a.kinds(hosts, t, site)
	helmKinds(o.Probes, o.Actions, f.allowOlder)
	if err := a.offsite(site, hosts, t, &o, f.leaseFlags); err != nil {
		return err
	}
	var floor int64
	if !f.allowOlder {
		if floor, err = install.Floor(o.State); err != nil {
			return err
		}
	}
	b, err := a.open(ctx, path, f.trustFlags, verify.Options{Site: site.Name, Floor: floor})
	if err != nil {
		return err
	}
	defer b.Close()
	if err := knownCharts(b, o.Values); err != nil {
		return err
	}
	if o.Bundle, err = filepath.Abs(path); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	if !f.dryRun {
		a.say("state %s", o.State)
	}
	rep, err := install.Run(ctx, b, o)
	if rep == nil {
		return err
	}
	return errors.Join(a.installReport(rep, f.format), err, outcome(rep, o.State, deskFlags{site: f.site, state: f.state}))
}

// outcome turns the status of a run into the command's error. Everything that
// was selected being done is success, whatever else is left; an interruption
// is told by an error of its own.
func outcome(rep *install.Report, state string, f deskFlags) error {
	switch rep.Status {
	case install.StatusDone, install.StatusSoFar, install.StatusPlanned:
		return nil
	}
	if rep.Stopped {
		return nil
	}
	e := &checklistOutcome{status: rep.Status, state: state}
	for _, t := range rep.Left {
		if t.State == install.StateWaiting && e.next == "" && !rep.Held(t.Item) {
			e.next = f.command("attest", t.Item)
		}
	}
	return e
}

// reportForms are what a report can be written as.
const reportForms = "text, md, html or json"

// reportForm checks a form; --output json asks for JSON, as everywhere.
func (a *app) reportForm(form *string) error {
	if a.output == "json" {
		*form = "json"
	}
	switch *form {
	case "text", "md", "html", "json":
		return nil
	}
	return &usageError{fmt.Errorf("%q is no form of a report: %s", *form, reportForms)}
}

// installReport writes a report to stdout. A person at a terminal also gets the
// ledger's head as a QR code, to take it away with a phone.
func (a *app) installReport(rep *install.Report, form string) error {
	a.progressDone()
	var data []byte
	var err error
	switch form {
	case "json":
		data, err = rep.JSON()
	case "html":
		data, err = rep.HTML()
	case "md":
		data = []byte(strings.TrimRight(rep.Markdown(), "\n") + "\n")
	default:
		data = []byte(strings.TrimRight(rep.Text(), "\n") + "\n")
		if isTerminal(a.stdout) {
			data = append(data, "\n"+rep.HeadQR()...)
		}
	}
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(data)
	return err
}

// stateDir is where the record of an installation lies.
func stateDir(flag, siteFile string, site *manifests.Site) string {
	if flag != "" {
		return flag
	}
	dir := filepath.Dir(siteFile)
	if site.State != "" {
		return resolvePath(dir, site.State)
	}
	return filepath.Join(dir, ".airlock", site.Name)
}

// actor names who runs this, for the ledger: the site's identity, or the
// system's user.
func actor(site *manifests.Site) string {
	if site.Identity != nil {
		return site.Identity.Name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

// identity opens the key that signs ledger checkpoints, where the site names
// one, and reads whose statements count.
func (a *app) identity(ctx context.Context, site *manifests.Site, passwordFile string, o *install.Options) error {
	var keys []*sign.Key
	if site.Identity != nil {
		path := identityPath(site, o.SiteDir)
		k, err := sign.LoadKey(path, func() ([]byte, error) { return a.password(ctx, path, passwordFile, false) })
		if err != nil {
			return fmt.Errorf("site %s: identity.key: %w", site.Name, err)
		}
		o.Sign, o.KeyID = k.Blob, k.Fingerprint()
		keys = append(keys, k)
	}
	var err error
	o.People, err = people(site, o.SiteDir, keys...)
	return err
}

// siteRegistry makes the clients that the site's registry block describes, and
// the adapter for its registry.
func (a *app) siteRegistry(ctx context.Context, site *manifests.Site, dir string) (*remote.Hosts, mirror.Target, error) {
	extra := remote.Options{}
	host, to := "", ""
	if r := site.Registry; r != nil {
		to = r.To
		host, _, _ = strings.Cut(r.To, "/")
		extra.Target = host
		if r.CA != "" {
			extra.CAFiles = append(extra.CAFiles, resolvePath(dir, strings.TrimPrefix(r.CA, "file:")))
		}
		if r.PlainHTTP {
			extra.PlainHTTP = append(extra.PlainHTTP, host)
		}
		if r.Username != "" {
			pass, err := install.SecretsFrom(dir)(r.Password)
			if err != nil {
				return nil, nil, fmt.Errorf("site %s: registry.password: %w", site.Name, err)
			}
			extra.Credentials = map[string]remote.Credential{host: {Username: r.Username, Password: strings.TrimRight(string(pass), "\r\n")}}
		}
	}
	if host == "" {
		hosts, err := a.hosts(extra)
		return hosts, nil, err
	}
	return a.connect(ctx, to, loginFlags{}, extra)
}

// stateOf finds the state directory of a checklist command and says it.
func (a *app) stateOf(state, siteFile string) (string, error) {
	if state == "" {
		site, err := loadSite(siteFile)
		if err != nil {
			return "", err
		}
		state = stateDir("", siteFile, site)
	}
	if _, err := os.Stat(state); err != nil {
		return "", err
	}
	a.say("state %s", state)
	return state, nil
}
