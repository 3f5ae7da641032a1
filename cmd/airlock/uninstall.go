package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/action/helm"
	"github.com/airlock-project/airlock/install/action/kube"
	"github.com/airlock-project/airlock/manifests"
	"github.com/spf13/cobra"
)

type uninstallFlags struct {
	deskFlags
	leaseFlags
	kubeconfig   string
	context      string
	keys         []string
	passwordFile string
	dryRun       bool
	yes          bool
}

func (a *app) uninstall() *cobra.Command {
	var f uninstallFlags
	cmd := &cobra.Command{
		Use: "uninstall", Short: "Take out of the cluster what an installation put there",
		Long: `Reads in the ledger which releases, Secrets, namespaces and other objects the
installation made, shows what is still there, and removes it, the last one first.
What was there before, or was made by others, stays; so do a namespace that still
holds something, types of a chart, and everything outside the cluster: database,
buckets, registry, DNS. Each removal goes into the ledger.
Exit code 0: all is gone; 3: something could not be removed.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runUninstall(cmd.Context(), f) },
	}
	stateFlags(cmd, &f.state, &f.site)
	f.leaseFlags.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig `file` (default: that of the site)")
	fl.StringVar(&f.context, "context", "", "`name` of a context in it (default: that of the site, else its current one)")
	fl.StringSliceVar(&f.keys, "key", nil, "private key `file` to sign the record with (default: the site's identity)")
	fl.StringVar(&f.passwordFile, "password-file", "", "`file` with the key's password; without it AIRLOCK_KEY_PASSWORD, COSIGN_PASSWORD, then the terminal")
	fl.BoolVar(&f.dryRun, "dry-run", false, "show what would be removed and do nothing")
	fl.BoolVar(&f.yes, "yes", false, "remove without asking: for scripts")
	return cmd
}

// removalPlan is what would be removed, in this order, and what stays.
type removalPlan struct {
	Remove []plannedRemoval  `json:"remove"`
	Stay   []install.Removal `json:"stay"`

	gone []install.Object // all that goes, objects of releases too
}

type plannedRemoval struct {
	install.Kept
	// Writers are others who wrote to it since, with the times.
	Writers []string `json:"writers,omitempty"`
}

func (a *app) runUninstall(ctx context.Context, f uninstallFlags) error {
	site, o, err := f.load(a)
	if err != nil {
		return err
	}
	kept, err := install.KeptObjects(o.State)
	if err != nil {
		return err
	}
	u, err := f.cluster(ctx, site, o.SiteDir)
	if err != nil {
		return err
	}
	plan, err := u.plan(ctx, kept)
	if err != nil {
		return err
	}
	lacks := u.allowed(ctx, plan)
	if f.dryRun || len(plan.Remove) == 0 {
		return errors.Join(a.result(plan, func(w io.Writer) { printRemoval(w, plan) }), lacks)
	}
	printRemoval(a.stderr, plan)
	if lacks != nil {
		return lacks
	}
	if !f.yes {
		if err := a.agree(ctx, fmt.Sprintf("remove %s of site %s", count(len(plan.Remove), "object"), site.Name), "nothing was removed"); err != nil {
			return err
		}
	}
	done, err := a.removeAll(ctx, f, site, o, u, kept)
	return errors.Join(a.result(map[string]any{"removals": done}, func(w io.Writer) { printRemoved(w, done) }), err)
}

// removeAll removes with the record open, so that each removal is in it.
func (a *app) removeAll(ctx context.Context, f uninstallFlags, site *manifests.Site, o install.Options, u *uninstaller, kept []install.Kept) ([]install.Removal, error) {
	keys, err := a.signingKeys(ctx, site, o.SiteDir, f.keys, f.passwordFile)
	if err != nil {
		return nil, err
	}
	if o.People, err = people(site, o.SiteDir, keys...); err != nil {
		return nil, err
	}
	o.Sign, o.KeyID = keys[0].Blob, keys[0].Fingerprint()
	if err := a.deskKinds(ctx, site, &o, f.leaseFlags); err != nil {
		return nil, err
	}
	d, err := install.OpenDesk(ctx, nil, o)
	if err != nil {
		return nil, err
	}
	done, _, err := d.Uninstall(ctx, kept, u.remove)
	if err := errors.Join(err, d.Close()); err != nil {
		return done, &removalError{err}
	}
	return done, nil
}

// removalError says that not all is gone.
type removalError struct{ err error }

func (e *removalError) Error() string { return e.err.Error() }
func (e *removalError) Unwrap() error { return e.err }

// uninstaller removes releases and objects.
type uninstaller struct {
	kubeconfig, context string
	objects             *kube.Removal
}

// cluster opens the one that the flags, else the site, name.
func (f uninstallFlags) cluster(ctx context.Context, site *manifests.Site, dir string) (*uninstaller, error) {
	u := &uninstaller{f.kubeconfig, f.context, nil}
	if u.kubeconfig == "" {
		u.kubeconfig, u.context = siteCluster(site, dir, f.context)
	}
	if u.kubeconfig == "" {
		return nil, &settingError{errors.New("no cluster is named"), "name its kubeconfig, the one that the installation was given, with --kubeconfig, or under kubernetes: in the site file"}
	}
	var err error
	u.objects, err = kube.OpenRemoval(ctx, u.kubeconfig, u.context)
	return u, err
}

// siteCluster is the kubeconfig that a site names, and the context in it.
func siteCluster(site *manifests.Site, dir, context string) (path, name string) {
	k := site.Kubernetes
	if k == nil || k.Kubeconfig == "" {
		return "", ""
	}
	return resolvePath(dir, strings.TrimPrefix(k.Kubeconfig, "file:")), cmp.Or(context, k.Context)
}

func (u *uninstaller) release(o install.Object, dryRun bool) helm.Removal {
	return helm.Removal{Kubeconfig: u.kubeconfig, Context: u.context, Release: o.Name, Namespace: o.Namespace, DryRun: dryRun}
}

func (u *uninstaller) plan(ctx context.Context, kept []install.Kept) (removalPlan, error) {
	plan := removalPlan{Remove: []plannedRemoval{}, Stay: []install.Removal{}}
	var unseen []error
	for _, k := range slices.Backward(kept) {
		p, reason, err := u.look(ctx, k, &plan)
		switch {
		case err != nil:
			unseen = append(unseen, fmt.Errorf("look at %s: %w", k.Object, err))
		case reason != "":
			plan.Stay = append(plan.Stay, install.Removal{Kept: k, Reason: reason})
		default:
			plan.Remove = append(plan.Remove, p)
			plan.gone = append(plan.gone, k.Object)
		}
	}
	if len(unseen) > 0 {
		return plan, errors.Join(unseen...)
	}
	return plan, u.keep(ctx, &plan)
}

// look says of an object that it goes, or why it stays.
func (u *uninstaller) look(ctx context.Context, k install.Kept, plan *removalPlan) (p plannedRemoval, reason string, err error) {
	p.Kept = k
	if !k.IsRelease() {
		there, reason, err := u.objects.Look(ctx, k.Object)
		if err == nil && there {
			p.Writers, err = u.objects.Writers(ctx, k.Object)
		}
		return p, reason, err
	}
	r, err := helm.Uninstall(ctx, u.release(k.Object, true))
	if err != nil {
		return p, "", err
	}
	for _, o := range r.Objects {
		plan.gone = append(plan.gone, install.Object{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name})
	}
	if r.Revision == 0 {
		return p, cmp.Or(r.Reason, "it is gone"), nil
	}
	return p, "", nil
}

// keep takes out of a plan what others need: namespaces that hold more than what
// goes.
func (u *uninstaller) keep(ctx context.Context, plan *removalPlan) error {
	var remove []plannedRemoval
	for _, p := range plan.Remove {
		reason, err := u.objects.Holds(ctx, p.Object, plan.gone)
		if err != nil {
			return err
		}
		if reason == "" {
			remove = append(remove, p)
			continue
		}
		plan.Stay = append(plan.Stay, install.Removal{Kept: p.Kept, Reason: reason})
		plan.gone = slices.DeleteFunc(plan.gone, func(o install.Object) bool { return o == p.Object })
	}
	if plan.Remove = remove; remove == nil {
		plan.Remove = []plannedRemoval{}
	}
	return nil
}

// allowed refuses a plan for which the user lacks rights, before anything is done.
func (u *uninstaller) allowed(ctx context.Context, plan removalPlan) error {
	lacking, err := u.objects.Lacking(ctx, plan.gone)
	if err != nil || len(lacking) == 0 {
		return err
	}
	return &settingError{
		fmt.Errorf("remove %s: the user of the kubeconfig may not %s; nothing was removed", count(len(plan.Remove), "object"), strings.Join(lacking, ", ")),
		"have a cluster administrator allow that, or give another kubeconfig with --kubeconfig",
	}
}

func (u *uninstaller) remove(ctx context.Context, k install.Kept) (bool, string, error) {
	if !k.IsRelease() {
		return u.objects.Remove(ctx, k.Object)
	}
	r, err := helm.Uninstall(ctx, u.release(k.Object, false))
	if err != nil || r.Revision > 0 {
		return err == nil || r.Begun, "", err
	}
	return false, cmp.Or(r.Reason, "it is gone"), nil
}

func printRemoval(w io.Writer, p removalPlan) {
	for _, k := range p.Remove {
		fmt.Fprintf(w, "remove  %s  (%s)\n", k.Object, k.Item)
		if len(k.Writers) > 0 {
			fmt.Fprintf(w, "        written to by %s too\n", strings.Join(k.Writers, ", "))
		}
	}
	for _, r := range p.Stay {
		fmt.Fprintf(w, "stay    %s: %s\n", r.Object, r.Reason)
	}
	if len(p.Remove) == 0 {
		fmt.Fprintln(w, "nothing of the installation is in the cluster")
	}
}

func printRemoved(w io.Writer, list []install.Removal) {
	for _, r := range list {
		switch {
		case !r.Removed:
			fmt.Fprintf(w, "stays   %s: %s\n", r.Object, r.Reason)
		case r.Reason != "":
			fmt.Fprintf(w, "begun   %s: %s\n", r.Object, r.Reason)
		default:
			fmt.Fprintf(w, "removed %s\n", r.Object)
		}
	}
}
