package helm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// deploy repairs what an earlier run left and installs or upgrades.
func (j *job) deploy(ctx context.Context, wait time.Duration) (*release.Release, error) {
	if j.create {
		if _, err := j.s.cluster.namespace(ctx, j.a.Namespace, true); err != nil {
			return nil, err
		}
	}
	if err := j.repair(ctx, wait); err != nil {
		return nil, err
	}
	if _, err := j.applyCRDs(ctx, false); err != nil {
		return nil, err
	}
	j.s.record(j.p)
	h, err := j.p.helmChart()
	if err != nil {
		return nil, err
	}
	var r *release.Release
	if j.d.mode == modeUpgrade {
		u := action.NewUpgrade(j.s.cfg)
		u.Namespace, u.Timeout, u.MaxHistory = j.a.Namespace, wait, maxHistory
		u.Wait, u.WaitForJobs, u.SkipCRDs = true, true, true
		u.ResetValues = true // values come from the bundle and the site, not from the last revision
		u.SkipSchemaValidation = true
		u.PostRenderer, u.Labels = j.p, j.labels()
		r, err = within(ctx, func() (*release.Release, error) { return u.Run(j.a.Release, h, j.p.values) })
	} else {
		i := action.NewInstall(j.s.cfg)
		i.ReleaseName, i.Namespace, i.Timeout = j.a.Release, j.a.Namespace, wait
		i.Wait, i.WaitForJobs, i.SkipCRDs = true, true, true
		i.Replace = j.d.mode == modeReplace
		i.SkipSchemaValidation = true // prepare has done it, and fetched nothing
		i.PostRenderer, i.Labels = j.p, j.labels()
		r, err = within(ctx, func() (*release.Release, error) { return i.Run(h, j.p.values) })
	}
	if err == nil && r.Info.Status != release.StatusDeployed {
		err = fmt.Errorf("its status is %s", r.Info.Status)
	}
	if err != nil {
		return nil, fmt.Errorf("%s release %s: %w", j.d.mode, j.a.Release, err)
	}
	return r, nil
}

// within is a call of Helm that ends with ctx. Helm knows none: its requests end
// with the session, but a hook it watches for as long as it may take, with answers
// or without. What goes on behind has no cluster any more.
func within[T any](ctx context.Context, call func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := call()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// repair makes the history one that Helm goes on from.
func (j *job) repair(ctx context.Context, wait time.Duration) error {
	j.s.record(nil)
	if j.d.mark {
		if err := giveUp(j.s, j.d.last); err != nil {
			return err
		}
	}
	if j.d.clear {
		history, err := j.s.history(j.a.Release)
		if err != nil {
			return err
		}
		if _, err := j.s.remove(ctx, history, wait); err != nil {
			return fmt.Errorf("remove what release %s left: %w", j.a.Release, err)
		}
	}
	if j.d.back {
		b := action.NewRollback(j.s.cfg)
		b.Version, b.MaxHistory, b.DisableHooks = j.d.deployed.Version, maxHistory, true
		// That what is there does not become ready is no reason to stay with it.
		if _, err := within(ctx, func() (struct{}, error) { return struct{}{}, b.Run(j.a.Release) }); err != nil && ctx.Err() != nil {
			return fmt.Errorf("roll back release %s: %w", j.a.Release, err)
		}
	}
	return nil
}

// giveUp records a revision that was killed as failed, which it is.
func giveUp(s *session, r *release.Release) error {
	was := r.Info.Status
	r.SetStatus(release.StatusFailed, fmt.Sprintf("left %s by a run that ended early; taken over by airlock", was))
	if err := s.cfg.Releases.Update(r); err != nil {
		return fmt.Errorf("take over revision %d of release %s: %w", r.Version, r.Name, err)
	}
	return nil
}

// kept says whether Helm leaves an object where it is.
func kept(o chart.Object) bool {
	return strings.EqualFold(strings.TrimSpace(annotation(o, "helm.sh/resource-policy")), "keep")
}

func annotation(o chart.Object, name string) string {
	meta, _ := o.Tree["metadata"].(map[string]any)
	all, _ := meta["annotations"].(map[string]any)
	s, _ := all[name].(string)
	return s
}

// applyCRDs applies the CustomResourceDefinitions of the chart's crds directory,
// which Helm makes once and never upgrades, and those among its templates, and
// waits until they serve. It returns those that were, or with dry would be,
// changed.
func (j *job) applyCRDs(ctx context.Context, dry bool) ([]string, error) {
	var changed []string
	types := j.p.types()
	all := slices.Concat(j.p.crds(), types)
	for i, o := range all {
		u, err := object(o)
		if err != nil {
			return nil, err
		}
		own := false
		if i >= len(all)-len(types) {
			if own, err = j.claim(ctx, o); err != nil {
				return nil, err
			}
		}
		out, err := j.s.cluster.Apply(ctx, u, kube.ApplyOptions{DryRun: dry, Force: own || j.a.ForceCRDs})
		if c, ok := errors.AsType[*kube.ConflictError](err); ok {
			return nil, &trouble{install.Finding{Code: codeConflict, Detail: c.Error(), Fields: map[string]string{
				"release": j.a.Release, "object": c.Object, "reason": c.Error(),
			}}}
		}
		if err != nil {
			return nil, err
		}
		if out.Change != kube.Unchanged {
			changed = append(changed, o.Name())
		}
	}
	if dry {
		return changed, nil
	}
	for _, o := range all {
		if err := j.s.cluster.established(ctx, o.Name()); err != nil {
			return nil, err
		}
	}
	if len(changed) > 0 && j.s.cleared != nil {
		j.s.cleared()
	}
	return changed, nil
}

// object is a rendered object as the client takes it.
func object(o chart.Object) (*unstructured.Unstructured, error) {
	data, err := o.JSON()
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("encode %s/%s: %w", o.Kind(), o.Name(), err)
	}
	return u, nil
}

// undo brings the last revision back that worked, or removes what never did.
func undo(ctx context.Context, s *session, name string) install.Finding {
	history, err := s.history(name)
	if err != nil {
		return install.Finding{Severity: install.SeverityWarn, Detail: "not rolled back: " + kube.Clean(err.Error())}
	}
	d := decide(history, func(*release.Release) bool { return true }, time.Now())
	s.record(nil)
	if d.mark {
		if err := giveUp(s, d.last); err != nil {
			return install.Finding{Severity: install.SeverityWarn, Detail: "not rolled back: " + kube.Clean(err.Error())}
		}
	}
	left := defaultTimeout
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline) * 3 / 4
	}
	if d.deployed == nil {
		if _, err := s.remove(ctx, history, left); err != nil {
			return install.Finding{Severity: install.SeverityWarn, Detail: "not removed: " + kube.Clean(s.said(err))}
		}
		return install.Finding{Severity: install.SeverityInfo, Detail: "release " + name + " was removed again: it never worked"}
	}
	b := action.NewRollback(s.cfg)
	b.Version, b.Wait, b.WaitForJobs, b.Timeout, b.MaxHistory = d.deployed.Version, true, true, left, maxHistory
	// As in release: Helm's own timeouts come first. What is left is for the reason.
	work, cancel := context.WithTimeout(ctx, left+5*time.Second)
	defer cancel()
	if _, err := within(work, func() (struct{}, error) { return struct{}{}, b.Run(name) }); err != nil {
		return install.Finding{Severity: install.SeverityWarn, Detail: fmt.Sprintf("not rolled back to revision %d: %s", d.deployed.Version, kube.Clean(s.said(err)+s.unanswered(ctx, d.deployed.Namespace)))}
	}
	return install.Finding{Severity: install.SeverityInfo, Detail: fmt.Sprintf("release %s was rolled back to revision %d", name, d.deployed.Version)}
}
