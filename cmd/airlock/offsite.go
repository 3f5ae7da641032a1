package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/offsite"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/spf13/cobra"
)

// leaseFlags are the flags of commands that take the lock against other
// machines.
type leaseFlags struct {
	breakLock string
}

func (f *leaseFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.breakLock, "break-lock", "", "take the site's lock from another machine, for this `reason`, which goes into the ledger")
}

// statePlace is where in a registry a site's lock and record lie.
func statePlace(to string) string { return strings.TrimSuffix(to, "/") + "/" + offsite.Repository }

// offsite lets a run keep its lock and a copy of its ledger in the site's
// registry. Packages mirror and install do not know each other: what makes a
// repository comes from here.
func (a *app) offsite(site *manifests.Site, hosts *remote.Hosts, t mirror.Target, o *install.Options, f leaseFlags) error {
	if site.Registry == nil {
		if f.breakLock != "" {
			return &usageError{errors.New("--break-lock: the site has no registry, so that there is no lock against other machines")}
		}
		return nil
	}
	where := statePlace(site.Registry.To)
	repo, err := hosts.Repository(where)
	if err != nil {
		return err
	}
	prepared := false
	prepare := func(ctx context.Context) error {
		if prepared {
			return nil
		}
		st, err := t.Inspect(ctx, target.Request{Repositories: []target.Need{{Name: repo.Reference.Repository}}})
		if err == nil {
			err = t.Prepare(ctx, st.Actions)
		}
		prepared = err == nil
		return err
	}
	o.Guard = func(ctx context.Context, who install.Lease, lost func(error)) (*install.Hold, error) {
		if err := prepare(ctx); err != nil {
			return nil, plain(err, where)
		}
		hold, err := offsite.Guard{Place: repo, Where: where, Break: f.breakLock, Now: o.Now}.Take(ctx, who, lost)
		return hold, plain(err, where)
	}
	o.Compare = func(ctx context.Context, p install.Published) (string, error) {
		warning, err := offsite.Compare(ctx, repo, where, p)
		fork, forked := errors.AsType[*install.ForkError](err)
		switch {
		case !forked:
			return warning, plain(err, where)
		case f.breakLock != "": // who takes the lock from another machine answers for its record too
			return fork.Error() + "; it is left behind because of --break-lock", nil
		}
		return "", fork
	}
	o.Publish = func(ctx context.Context, p install.Published) (string, error) {
		if err := prepare(ctx); err != nil {
			return "", plain(err, where)
		}
		warning, err := offsite.Push(ctx, repo, p)
		return warning, plain(err, where)
	}
	return nil
}

// plain makes an error of net/http fit to be shown.
func plain(err error, object string) error {
	if _, held := errors.AsType[*install.HeldError](err); err == nil || held {
		return err
	}
	return remote.Explain(err, object)
}

func (a *app) checklistRestore() *cobra.Command {
	var from, state, siteFile string
	var keys []string
	cmd := &cobra.Command{
		Use: "restore --state DIR", Short: "Get the record of an installation back from the registry",
		Long: `Every run leaves a copy of its record in the site's registry, as
PREFIX/airlock-state:ledger-SITE and once for each run. restore makes a state
directory of it, after checking it as airlock checklist verify does. Secrets, and
the key that hides them in hashes, are not in the copy: what rests on outputs of
earlier items is done again, and signed again, when the installation goes on.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runRestore(cmd.Context(), from, state, siteFile, keys)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&from, "from", "", "`reference` of the record, REGISTRY/PREFIX/airlock-state:TAG (default: the newest in the site's registry)")
	fl.StringVar(&state, "state", "", "`directory` to make (default: the site's state)")
	fl.StringVar(&siteFile, "site", "site.yaml", "site `file`")
	fl.StringSliceVar(&keys, "key", nil, "public key `file` of the operator: the ledger must be signed to its end; may be repeated")
	return cmd
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// restored is the result of restore.
type restored struct {
	State      string       `json:"state"`
	From       string       `json:"from"`
	Digest     string       `json:"digest"`
	Site       string       `json:"site"`
	RunID      string       `json:"runId"`
	Files      int          `json:"files"`
	Bytes      int64        `json:"bytes"`
	Ledger     install.Head `json:"ledger"`
	Signed     bool         `json:"signed"`
	Covered    bool         `json:"covered"` // up to the last entry
	Statements int          `json:"statements"`
}

func (a *app) runRestore(ctx context.Context, from, state, siteFile string, keys []string) error {
	var site *manifests.Site
	var err error
	if from == "" || state == "" || there(siteFile) {
		if site, err = loadSite(siteFile); err != nil {
			return err
		}
		state = stateDir(state, siteFile, site)
	}
	if from == "" {
		if site.Registry == nil {
			return &usageError{fmt.Errorf("site %s has no registry: say --from REGISTRY/PREFIX/%s:TAG", site.Name, offsite.Repository)}
		}
		from = statePlace(site.Registry.To) + ":" + offsite.LedgerTag(site.Name, "")
	}
	hosts, err := a.restoreHosts(ctx, from, site, siteFile)
	if err != nil {
		return err
	}
	repo, err := hosts.Repository(from)
	if err != nil {
		return &usageError{fmt.Errorf("--from: %w", err)}
	}
	if repo.Reference.Reference == "" {
		if site == nil {
			return &usageError{errors.New("--from names no tag, and there is no site file to tell it")}
		}
		repo.Reference.Reference = offsite.LedgerTag(site.Name, "")
		from += ":" + repo.Reference.Reference
	}
	who, identity, err := a.knownKeys(state, siteFile, keys)
	if err != nil {
		return err
	}
	res := restored{State: state, From: from}
	got, err := offsite.Restore(ctx, repo, repo.Reference.Reference, state, func(dir string) error { return res.check(dir, who, identity, len(keys) > 0) })
	if err != nil {
		return plain(err, from)
	}
	res.Digest, res.Site, res.RunID, res.Files, res.Bytes = got.Digest.String(), got.Site, got.RunID, got.Files, got.Bytes
	return a.result(res, func(w io.Writer) { printRestored(w, res) })
}

// restoreHosts makes the clients to read a record with: the site's, where the
// record lies in its registry.
func (a *app) restoreHosts(ctx context.Context, from string, site *manifests.Site, siteFile string) (*remote.Hosts, error) {
	host, _, _ := strings.Cut(from, "/")
	if site != nil && site.Registry != nil && strings.HasPrefix(site.Registry.To+"/", host+"/") {
		hosts, _, err := a.siteRegistry(ctx, site, filepath.Dir(siteFile))
		return hosts, err
	}
	hosts, _, err := a.reach(ctx, from, loginFlags{}, 0)
	return hosts, err
}

// check verifies a record before it gets its name.
func (r *restored) check(dir string, who []install.Person, identity, must bool) error {
	v, err := verifyCheckpoints(dir, who, identity, must, nil)
	if err != nil {
		return err
	}
	r.Ledger, r.Signed, r.Covered = v.Head, v.Good > 0, v.Covered
	return install.VerifyStatements(dir, who, func(install.Statement, bool) { r.Statements++ })
}

func printRestored(w io.Writer, r restored) {
	fmt.Fprintf(w, "restored %s from %s\n%s, %s; run %s of site %s\n", r.State, r.From, count(r.Files, "file"), megabytes(r.Bytes), r.RunID, oneLine(r.Site))
	fmt.Fprintf(w, "ledger is whole: %d entries, head %s\n", r.Ledger.Seq, r.Ledger.Hash)
	if !r.Signed {
		fmt.Fprintln(w, "its signatures were not checked: whoever can write to the registry can have written all of it; give --key")
		return
	}
	if !r.Covered {
		fmt.Fprintln(w, "signed, but not up to the last entry, as after a killed run; compare the head with a printed report")
		return
	}
	fmt.Fprintln(w, "signed up to the last entry; compare the head with a printed report, an older copy is whole too")
}
