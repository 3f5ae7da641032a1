package helm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/action/internal/charts"
	"github.com/airlock-project/airlock/install/internal/kube"
	"helm.sh/helm/v3/pkg/release"
)

const (
	// defaultTimeout is how long a release may take where nothing else is said.
	defaultTimeout = 10 * time.Minute
	// later stands in a dry run where an earlier item gives a value.
	later = "(known later)"
)

// job is one release to be brought about.
type job struct {
	a       arguments
	s       *session
	p       *prepared
	d       decision
	diff    difference
	crds    []string // that are not as the chart has them
	missing []Ref    // of the deployed revision that are not there
	create  bool     // the namespace is to be made
}

// begin looks at everything and changes nothing.
func (a Action) begin(ctx context.Context, b charts.Carrier, args arguments, site []install.ValuesFile) (*job, error) {
	s, err := a.session(ctx, args)
	if err != nil {
		return nil, err
	}
	s.run = strings.ToLower(rand.Text())
	j := &job{a: args, s: s}
	there, err := s.cluster.namespace(ctx, args.Namespace, false)
	if err != nil {
		return nil, err
	}
	if j.create = !there; j.create && !args.CreateNamespace && !args.planned {
		return nil, fmt.Errorf("install release %s: there is no namespace %s; make it first, or set create_namespace", args.Release, args.Namespace)
	}
	history, err := s.history(args.Release)
	if err != nil {
		return nil, err
	}
	if err := j.prepare(ctx, b, history, site); err != nil {
		return nil, err
	}
	if err := j.d.refused(j.p, args.AllowDowngrade || a.AllowOlder); err != nil {
		return nil, err
	}
	if j.crds, err = j.applyCRDs(ctx, true); err != nil {
		return nil, err
	}
	if r := j.d.current(); r != nil && r.Info.Status == release.StatusDeployed {
		resources, _, err := recorded(r)
		if err != nil {
			return nil, err
		}
		if _, j.missing, err = s.cluster.look(ctx, j.p.refs(resources)); err != nil {
			return nil, err
		}
	}
	if j.nothing() {
		return j, nil
	}
	return j, j.preflight(ctx)
}

// prepare renders the chart as the next revision. Where the deployed one was made
// of the same chart and values it is first rendered as that revision: a chart may
// print the revision's number.
func (j *job) prepare(ctx context.Context, b charts.Carrier, history []*release.Release, site []install.ValuesFile) error {
	render := func(revision int, upgrade bool) error {
		var err error
		j.p, err = prepare(ctx, b, j.a, site, j.s.view(revision, upgrade))
		return err
	}
	next := decide(history, func(*release.Release) bool { return true }, j.s.now())
	if r := next.current(); r != nil && r == next.last && r.Info.Status == release.StatusDeployed {
		if revision, upgrade, ok := rendered(r); ok {
			if err := render(revision, upgrade); err != nil {
				return err
			}
			if j.p.same(r) {
				j.d = next
				return nil
			}
		}
	}
	revision, upgrade := 1, next.mode == modeUpgrade
	if upgrade {
		revision = next.revision()
	}
	if err := render(revision, upgrade); err != nil {
		return err
	}
	wanted := func(r *release.Release) bool {
		if j.p.alike(r) {
			return true
		}
		d, err := j.p.compare(r)
		return err == nil && d.none()
	}
	j.d = decide(history, wanted, j.s.now())
	var err error
	j.diff, err = j.p.compare(j.d.current())
	return err
}

// nothing says whether all is as wanted.
func (j *job) nothing() bool {
	r := j.d.current()
	return r != nil && r == j.d.last && r.Info.Status == release.StatusDeployed && len(j.crds) == 0 && len(j.missing) == 0 && j.p.same(r)
}

// plan implements Plan.
func (a Action) plan(ctx context.Context, b charts.Carrier, in install.Input) (install.Change, error) {
	args, err := decode(in, false)
	if err != nil {
		return install.Change{}, err
	}
	if args.Kubeconfig == later {
		p, err := prepare(ctx, b, args, in.Values, nil)
		if err == nil {
			err = p.fits()
		}
		if err != nil {
			return install.Change{}, err
		}
		return install.Change{
			Summary: fmt.Sprintf("install or upgrade release %s in namespace %s with chart %s %s", args.Release, args.Namespace, p.chart.Name(), p.chart.Version()),
			Details: append(p.careful(nil), "what it changes can be told when the cluster is known"),
		}, nil
	}
	args.planned = true
	j, err := a.begin(ctx, b, args, in.Values)
	if err != nil {
		return install.Change{}, err
	}
	if j.nothing() {
		return install.Change{Summary: fmt.Sprintf("release %s is deployed as wanted: revision %d", args.Release, j.d.last.Version), Nothing: true}, nil
	}
	return j.change(), nil
}

// change is what a job would do, for people.
func (j *job) change() install.Change {
	c := install.Change{Summary: fmt.Sprintf("%s release %s in namespace %s as revision %d: chart %s %s, %s",
		j.d.mode, j.a.Release, j.a.Namespace, j.d.revision(), j.p.chart.Name(), j.p.chart.Version(), j.diff)}
	switch {
	case j.create && j.a.CreateNamespace:
		c.Details = append(c.Details, "add Namespace "+j.a.Namespace)
	case j.create:
		c.Details = append(c.Details, "careful: there is no namespace "+j.a.Namespace+" yet: an item before this one has to make it")
	}
	c.Details = append(c.Details, j.repairs()...)
	for _, name := range j.crds {
		c.Details = append(c.Details, "apply CustomResourceDefinition "+name)
	}
	for _, r := range j.missing {
		c.Details = append(c.Details, "add "+r.String()+" again, it was removed")
	}
	c.Details = append(c.Details, j.diff.lines...)
	for _, f := range j.p.rollouts(j.diff) {
		c.Details = append(c.Details, "careful: "+f.Detail)
	}
	c.Details = append(c.Details, j.p.careful(j.s.lookups)...)
	if j.a.Map == nil {
		c.Details = append(c.Details, "images are shown as the chart names them; where they will be is known later")
	}
	return c
}

// repairs says what is left of runs that did not end.
func (j *job) repairs() []string {
	var out []string
	if j.d.mark {
		out = append(out, fmt.Sprintf("take over revision %d, which was left %s", j.d.last.Version, j.d.last.Info.Status))
	}
	if j.d.clear {
		out = append(out, fmt.Sprintf("remove what revision %d left, which is %s", j.d.last.Version, j.d.last.Info.Status))
	}
	if j.d.back {
		out = append(out, fmt.Sprintf("roll back to revision %d first: revision %d left other objects", j.d.deployed.Version, j.d.last.Version))
	}
	return out
}

// apply implements Apply.
func (a Action) apply(ctx context.Context, b charts.Carrier, in install.Input) (install.Result, error) {
	args, err := decode(in, true)
	if err != nil {
		return install.Result{}, err
	}
	res, err := a.release(ctx, b, args, in)
	if t, ok := errors.AsType[*trouble](err); ok {
		res.Findings, err = append(res.Findings, t.Finding), nil
	}
	if list, ok := errors.AsType[refused](err); ok {
		res.Findings, err = append(res.Findings, list...), nil
	}
	if f, ok := (kube.Access{}).Finding(err, map[string]string{"namespace": args.Namespace}); ok && ctx.Err() == nil {
		res.Findings, err = append(res.Findings, f), nil
	}
	res.Findings = args.findings(res.Findings)
	return res, errors.Join(err, args.keep(&res))
}

// keep puts the release into the record, that of a failed step too: it may be
// there in part. Types of a chart stay when a release goes, as Helm has it.
func (a arguments) keep(res *install.Result) error {
	ev, err := install.Objects(a.kept()...)
	if err != nil {
		return err
	}
	res.Evidence = append(res.Evidence, ev)
	return nil
}

// kept are the release, and the namespace where it is the step that makes it.
func (a arguments) kept() []install.Object {
	var list []install.Object
	if a.CreateNamespace {
		list = append(list, install.Object{APIVersion: "v1", Kind: "Namespace", Name: a.Namespace})
	}
	return append(list, install.Release(a.Namespace, a.Release))
}

func (a Action) release(ctx context.Context, b charts.Carrier, args arguments, in install.Input) (install.Result, error) {
	wait := budget(ctx, args)
	// Helm's own timeouts come first; this one ends what has none.
	work, cancel := context.WithTimeout(ctx, wait+5*time.Second)
	defer cancel()
	j, err := a.begin(work, b, args, in.Values)
	if err != nil {
		return install.Result{}, err
	}
	if j.nothing() {
		return j.result(ctx, j.d.last)
	}
	warnings := j.p.rollouts(j.diff)
	if j.d.current() != nil {
		c := j.change()
		if in.Announce != nil {
			in.Announce(c)
		}
		warnings = append(warnings, install.Finding{Severity: install.SeverityInfo, Detail: c.Summary})
	}
	for _, text := range j.p.careful(j.s.lookups) {
		warnings = append(warnings, install.Finding{Severity: install.SeverityInfo, Detail: text})
	}
	if err := in.Keeps(args.kept()...); err != nil {
		return install.Result{}, err
	}
	r, err := j.deploy(work, wait)
	if err != nil {
		if ctx.Err() != nil {
			return install.Result{}, err // the next run takes it over
		}
		findings, err := a.failed(ctx, j, err)
		return install.Result{Findings: append(warnings, findings...), Changed: true}, err
	}
	res, err := j.result(ctx, r)
	res.Findings, res.Changed = append(warnings, res.Findings...), true
	return res, err
}

// budget is how long Helm may wait. A quarter of the step's time is kept for
// looking at what went wrong and for rolling back.
func budget(ctx context.Context, a arguments) time.Duration {
	wait := a.timeout
	if wait == 0 {
		wait = defaultTimeout
	}
	if deadline, ok := ctx.Deadline(); ok {
		most := time.Until(deadline) * 3 / 4
		if a.timeout == 0 || most < wait {
			wait = most
		}
	}
	return wait
}

// result is what a deployed release hands on.
func (j *job) result(ctx context.Context, r *release.Release) (install.Result, error) {
	resources, hooks, err := recorded(r)
	if err != nil {
		return install.Result{}, err
	}
	all, _, err := j.s.cluster.look(ctx, j.p.refs(resources))
	if err != nil {
		return install.Result{}, err
	}
	objects := []any{}
	for _, ref := range all {
		o := map[string]any{"apiVersion": ref.APIVersion, "kind": ref.Kind, "name": ref.Name}
		if ref.Namespace != "" {
			o["namespace"] = ref.Namespace
		}
		objects = append(objects, o)
	}
	every := slices.Concat(resources, hooks)
	manifest, err := evidence(every)
	if err != nil {
		return install.Result{}, err
	}
	return install.Result{
		Outputs: map[string]any{
			"helm.revision": r.Version, "helm.status": r.Info.Status.String(), "helm.images": imagesOf(every), "helm.objects": objects,
		},
		Evidence: []install.Evidence{{Name: fmt.Sprintf("release-%s-%d.yaml", j.a.Release, r.Version), Media: "application/yaml", Data: manifest}},
	}, nil
}

// conflicts is how Helm says that an object belongs to somebody else.
const conflicts = "cannot be imported into the current release"

// failed says why a deployment failed, looks before it touches anything, and
// undoes it if that is wanted.
func (a Action) failed(ctx context.Context, j *job, cause error) ([]install.Finding, error) {
	text := j.p.hidden(j.s.said(cause))
	unknown := func(err error) error {
		return fmt.Errorf("%s; what became of release %s is not known, and the next run takes it over: %w", text, j.a.Release, err)
	}
	s, err := a.session(ctx, j.a) // the first one may have run out of time
	if err != nil {
		return nil, unknown(err)
	}
	history, err := s.history(j.a.Release)
	if err != nil {
		return nil, unknown(err)
	}
	s.run = j.s.run
	var recorded bool // by this run: what another one does is not ours to undo
	if n := len(history); n > 0 {
		recorded = history[n-1].Labels[labelRun] == s.run
		if other := history[n-1]; !recorded && (j.d.last == nil || other.Version > j.d.last.Version) {
			return nil, busy(j.a, other, other.Info.LastDeployed, "another run began that meanwhile")
		}
	}
	switch {
	case strings.Contains(text, conflicts):
		object, _, _ := strings.Cut(text[strings.LastIndex(text[:strings.Index(text, conflicts)], ": ")+1:], " exists and ")
		return []install.Finding{{Code: codeConflict, Detail: text, Fields: map[string]string{"release": j.a.Release, "object": strings.TrimSpace(object), "reason": text}}}, nil
	case !recorded:
		return nil, cause
	}
	out := j.reasons(ctx, s, text)
	if j.a.atomic() {
		out = append(out, undo(ctx, s, j.a.Release))
	}
	return out, nil
}
