package helm

import (
	"context"
	"fmt"
	"time"

	"github.com/airlock-project/airlock/bundle/chart"
	"helm.sh/helm/v3/pkg/release"
)

// Removal says which release is removed. Its zero value names none and is
// refused.
type Removal struct {
	Kubeconfig string
	Context    string // of it; "" is its current one
	Release    string
	Namespace  string
	Timeout    time.Duration // for hooks and for objects to go; 0 is 10 minutes
	DryRun     bool          // say what would go, remove nothing

	open opener // for tests
}

// Removed is what a removal took away, or would.
type Removed struct {
	Revision int    // the newest; 0 if there is nothing to remove
	Reason   string // why there is nothing: the release is somebody else's; "" if there is none
	Status   string // before
	Begun    bool   // with an error too: it is no longer what it was
	Objects  []Ref
	Kept     []Ref // by their annotation helm.sh/resource-policy
}

// Uninstall removes a release, whatever state it is in, waits until its objects
// are gone, and removes its history then: what is left is found again by the next
// call. Its hooks are run if it ever worked. It ends with ctx, also while a hook
// does not. A release that is not there is no error, and
// one that others made, or that was there before Airlock upgraded it, stays. What
// Helm never removes stays: CustomResourceDefinitions of a chart's crds
// directory, objects that say so, and the namespace.
func Uninstall(ctx context.Context, o Removal) (Removed, error) {
	if o.Release == "" || o.Namespace == "" {
		return Removed{}, fmt.Errorf("uninstall release %q: want a release and its namespace", o.Release)
	}
	a := arguments{Kubeconfig: o.Kubeconfig, Context: o.Context, Release: o.Release, Namespace: o.Namespace}
	s, err := Action{open: o.open}.session(ctx, a)
	if err != nil {
		return Removed{}, err
	}
	history, err := s.history(o.Release)
	if err != nil || len(history) == 0 {
		return Removed{}, err
	}
	if foreign(history) {
		return Removed{Reason: "others installed it"}, nil
	}
	last := history[len(history)-1]
	out := Removed{Revision: last.Version, Status: last.Info.Status.String()}
	if last.Info.Status != release.StatusUninstalled {
		if err := out.read(ctx, s, last); err != nil {
			return Removed{}, err
		}
	}
	if o.DryRun {
		return out, nil
	}
	wait := o.Timeout
	if wait <= 0 {
		wait = defaultTimeout
	}
	if out.Begun, err = s.remove(ctx, history, wait); err != nil {
		return out, fmt.Errorf("uninstall release %s: %w", o.Release, err)
	}
	return out, nil
}

// read sorts the objects of a revision that are there.
func (d *Removed) read(ctx context.Context, s *session, r *release.Release) error {
	resources, _, err := recorded(r)
	if err != nil {
		return err
	}
	for _, o := range chart.WithNamespace(resources, r.Namespace) {
		all, missing, err := s.cluster.look(ctx, refsOf(o.Tree))
		if err != nil {
			return err
		}
		gone := make(map[Ref]bool)
		for _, ref := range missing {
			gone[ref] = true
		}
		for _, ref := range all {
			switch {
			case gone[ref]:
			case kept(o):
				d.Kept = append(d.Kept, ref)
			default:
				d.Objects = append(d.Objects, ref)
			}
		}
	}
	return nil
}
