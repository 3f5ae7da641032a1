package helm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install/internal/kube"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
)

// labelHooks, on a revision that is being removed, says that its hooks are not
// run; unhooked is its value.
const (
	labelHooks = "airlock-hooks"
	unhooked   = "none"
)

// maxLeft bounds the objects that an error names.
const maxLeft = 10

// remove takes a release away, whatever state it is in, and waits until its
// objects are gone: only then is its history. The hooks of a release that never
// worked are not run: they are for what worked. It ends with ctx; a later run
// goes on. begun says whether anything was done.
func (s *session) remove(ctx context.Context, history []*release.Release, timeout time.Duration) (begun bool, err error) {
	r := history[len(history)-1]
	n := &undertaker{Driver: s.cfg.Releases.Driver, left: func() error { return s.left(ctx, r) }, unhooked: !worked(history)}
	log := s.cfg.Log
	s.cfg.Releases.Driver, s.cfg.Log = n, n.hear
	u := action.NewUninstall(s.cfg)
	u.Timeout, u.Wait, u.DisableHooks = timeout, true, n.unhooked
	_, err = within(ctx, func() (*release.UninstallReleaseResponse, error) { return u.Run(r.Name) })
	n.mu.Lock()
	begun = n.last != nil || n.sure
	n.mu.Unlock()
	if ctx.Err() != nil {
		return begun, err // Helm may be at it still: nobody uses the session any more
	}
	s.cfg.Releases.Driver, s.cfg.Log = n.Driver, log
	if err == nil || n.done() {
		return begun, nil // Helm gave up waiting for what is gone now
	}
	return begun, s.because(ctx, r, n, err)
}

// because is why a removal failed, in one line. Helm keeps to itself what the
// server said, and names no hook.
func (s *session) because(ctx context.Context, r *release.Release, n *undertaker, err error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held != nil {
		return n.held
	}
	var out []string
	for _, e := range n.said {
		if s.explain != nil {
			e = s.explain(e)
		}
		out = append(out, kube.Clean(e.Error()))
	}
	if len(out) == 0 {
		out = append(out, kube.Clean(s.said(err)))
	}
	if n.unhooked {
		return errors.New(strings.Join(out[:min(len(out), maxLeft)], "; "))
	}
	look, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	list, err := s.cluster.unready(look, hooksOf(r))
	if err != nil {
		out = append(out, "its hooks cannot be looked at: "+kube.Clean(err.Error()))
	}
	for _, w := range list {
		for _, f := range w.findings(r.Name, nil) {
			out = append(out, kube.Clean("hook "+w.Name+": "+f.Detail))
		}
	}
	return errors.New(strings.Join(out[:min(len(out), maxLeft)], "; "))
}

// hooksOf names the objects of a revision's hooks that run when it is removed.
func hooksOf(r *release.Release) []Ref {
	var out []Ref
	for _, h := range r.Hooks {
		if !slices.ContainsFunc(h.Events, ofRemoval) {
			continue
		}
		objects, err := chart.Parse(h.Manifest)
		if err != nil {
			continue // Helm has said so
		}
		for _, o := range chart.WithNamespace(objects, r.Namespace) {
			out = append(out, refsOf(o.Tree)...)
		}
	}
	return out
}

// worked says whether a release ever did.
func worked(history []*release.Release) bool {
	return slices.ContainsFunc(history, func(r *release.Release) bool {
		switch r.Info.Status {
		case release.StatusDeployed, release.StatusSuperseded, release.StatusUninstalled:
			return true
		case release.StatusUninstalling: // it says no more what it was
			return r.Labels[labelHooks] != unhooked
		}
		return false
	})
}

// left says which objects of a revision are still there, and what holds them.
// What others have made in their place is not the release's.
func (s *session) left(ctx context.Context, r *release.Release) error {
	var there Removed
	if err := there.read(ctx, s, r); err != nil {
		return err
	}
	var out []string
	for _, ref := range there.Objects {
		o, err := s.cluster.found(ctx, ref)
		if err != nil {
			return err
		}
		if o != nil && others(o, r.Name, r.Namespace) == "" {
			out = append(out, kube.Lingers(o))
		}
	}
	if len(out) == 0 {
		return nil
	}
	if n := len(out); n > maxLeft {
		out = append(out[:maxLeft:maxLeft], fmt.Sprintf("and %d more", n-maxLeft))
	}
	return fmt.Errorf("not all is gone: %s; see to that, and run it again", strings.Join(out, "; "))
}

// undertaker lets Helm forget a release only when its objects are gone: Helm
// itself does so too when it gave up waiting, and nobody would know of what is
// left.
type undertaker struct {
	driver.Driver
	left     func() error
	unhooked bool

	mu   sync.Mutex
	last *release.Release // as Helm has it
	sure bool             // nothing is left
	held error            // what is
	fail error            // of forgetting it
	said []error          // what Helm would keep to itself
}

// done says whether a release is gone, history and all, and every hook that was
// to run has.
func (u *undertaker) done() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sure && u.fail == nil && (u.unhooked || u.last != nil && !slices.ContainsFunc(u.last.Hooks, func(h *release.Hook) bool {
		return slices.ContainsFunc(h.Events, ofRemoval) && h.LastRun.Phase != release.HookPhaseSucceeded
	}))
}

// ofRemoval says whether a hook for an event runs when a release is removed.
func ofRemoval(e release.HookEvent) bool {
	return e == release.HookPreDelete || e == release.HookPostDelete
}

// Update implements driver.Updator.
func (u *undertaker) Update(key string, r *release.Release) error {
	if u.unhooked && r.Info.Status == release.StatusUninstalling {
		labels := map[string]string{labelHooks: unhooked}
		for k, v := range r.Labels {
			if k != labelHooks {
				labels[k] = v
			}
		}
		r.Labels = labels
	}
	u.mu.Lock()
	u.last = r
	u.mu.Unlock()
	return u.Driver.Update(key, r)
}

// Delete implements driver.Deletor.
func (u *undertaker) Delete(key string) (*release.Release, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.sure {
		if u.held = u.left(); u.held != nil {
			return nil, u.held
		}
		u.sure = true
	}
	r, err := u.Driver.Delete(key)
	u.fail = errors.Join(u.fail, err)
	return r, err
}

// hear keeps the errors that Helm only logs.
func (u *undertaker) hear(_ string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, a := range args {
		if list, ok := a.([]error); ok {
			u.said = append(u.said, list...)
		}
	}
}
