package helm

import (
	"context"
	"fmt"
	"time"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install/internal/kube"
	"helm.sh/helm/v3/pkg/action"
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
	Objects  []Ref
	Kept     []Ref // by their annotation helm.sh/resource-policy
}

// Uninstall removes a release with its history, whatever state it is in, and
// waits until its objects are gone. A release that is not there is no error, and
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
	u := action.NewUninstall(s.cfg)
	if u.Timeout = o.Timeout; u.Timeout <= 0 {
		u.Timeout = defaultTimeout
	}
	u.Wait = true
	if _, err := u.Run(o.Release); err != nil { //nolint:contextcheck // its requests end with ctx, see bound
		return out, fmt.Errorf("uninstall release %s: %s", o.Release, kube.Clean(err.Error()))
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
