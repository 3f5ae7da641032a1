package install

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/manifests"
)

// dryRun runs checks and plans actions. It writes nothing; what an earlier run
// left in the state directory tells where things stand.
func (e *Engine) dryRun(ctx context.Context) (*Report, error) {
	r := &run{
		Engine: e, rec: make(map[string]*itemRecord), fresh: make(map[string]bool), reused: make(map[string]bool),
		outputs: make(map[string]any), started: e.opts.Now().UTC(),
	}
	err := r.lookBack()
	if r.st != nil {
		defer r.st.close() //nolint:errcheck // it was only read
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.announce()
	plans := make(map[string][]Change)
	for _, n := range r.plan.order {
		if ctx.Err() != nil {
			return r.report(true), &InterruptedError{Product: r.checklist.Product, Err: ctx.Err(), Cause: context.Cause(ctx)}
		}
		r.preview(ctx, n, plans)
	}
	report := r.report(false)
	report.attachPlans(plans)
	return report, nil
}

// lookBack reads what an earlier run left, without taking the lock.
func (r *run) lookBack() error {
	for _, n := range r.plan.nodes {
		r.rec[n.item.ID] = &itemRecord{State: StatePending}
	}
	if r.opts.State == "" {
		return nil
	}
	var err error
	if r.st, err = lookStore(r.opts.State); err != nil || r.st == nil {
		return err
	}
	if err := errors.Join(r.checkPeople(), r.doubt()); err != nil {
		return err
	}
	for _, n := range r.plan.nodes {
		if rec := r.st.run.Items[n.item.ID]; rec != nil {
			r.rec[n.item.ID] = rec
			r.restore(n, rec)
		}
	}
	r.desk = true
	for _, n := range r.plan.order { // before the preview puts other records in their place
		if rec := r.rec[n.item.ID]; (rec.State == StateAttested || rec.State == StateWaived) && len(r.st.key) > 0 {
			r.reused[n.item.ID], _ = r.valid(n, rec)
		}
	}
	return nil
}

// preview gives a node the state a dry run can know.
func (r *run) preview(ctx context.Context, n *node, plans map[string][]Change) {
	id := n.item.ID
	put := func(s State, reason string, findings ...findingRecord) {
		r.rec[id] = &itemRecord{State: s, Reason: reason, Findings: findings}
		r.fresh[id] = true
		if n.item.Kind != manifests.ItemGroup {
			r.opts.Listener.send(Event{Op: "item-finished", Phase: r.phase(n), Item: id, Title: title(n.item), State: s, Text: reason})
		}
	}
	why, err := r.skip(n, r.outputs)
	switch {
	case err == nil && why != "":
		put(StateSkipped, why)
		return
	case n.item.Kind == manifests.ItemGroup:
		put(aggregate(n, r.rec))
		return
	case !r.isSelected(n):
		r.outdated(n)
		return
	case r.reused[id]:
		r.opts.Listener.send(Event{Op: "item-finished", Item: id, Title: title(n.item), State: r.rec[id].State, Text: "still valid"})
		return
	case len(n.unknown) > 0:
		put(StateUnavailable, "this version of Airlock has no step "+strings.Join(n.unknown, ", "))
		return
	}
	later, blocked := r.standing(n)
	switch {
	case len(blocked) > 0:
		put(StateBlocked, "needs "+strings.Join(blocked, ", "))
	case err != nil && len(later) == 0:
		put(StateFail, "", findingRecord{Severity: SeverityFail, Detail: err.Error()})
	case n.item.Kind == manifests.ItemAction:
		plans[id] = r.planOf(ctx, n)
		put(StatePlanned, "")
	case len(later) > 0 || err != nil:
		put(StatePending, "can be looked at after "+strings.Join(later, ", "))
	default:
		state, reason, findings := r.look(ctx, n)
		put(state, reason, findings...)
	}
}

// outdated takes what an earlier run left of an item that this one leaves out for
// what a real run would: what rests on something else now does not count.
func (r *run) outdated(n *node) {
	rec := r.rec[n.item.ID]
	if !rec.State.settled() || r.st == nil || len(r.st.key) == 0 {
		return
	}
	if valid, reason := r.valid(n, rec); !valid {
		now := *rec
		now.State, now.Reason = StateStale, reason
		r.rec[n.item.ID] = &now
	}
}

// standing sorts what n needs into what a real run, and the people it waits for,
// would do first and what stops it.
func (r *run) standing(n *node) (later, blocked []string) {
	for at := n; at != nil; at = at.parent {
		for _, d := range at.needs {
			id := d.item.ID
			switch s := r.rec[id].State; {
			case s.met():
			case r.fresh[id] && (s == StatePlanned || s == StatePending || s == StateWaiting):
				later = append(later, id)
			default:
				blocked = append(blocked, fmt.Sprintf("%s (%s)", id, s))
			}
		}
	}
	return later, blocked
}

// planOf asks every step what it would do.
func (r *run) planOf(ctx context.Context, n *node) []Change {
	secrets, err := r.secretsOf(n)
	if err != nil {
		return []Change{{Summary: "cannot be planned: " + r.redact.text(err.Error())}}
	}
	var out []Change
	for _, s := range n.steps {
		c, err := r.planStep(ctx, n, s, secrets)
		if err != nil {
			c = Change{Summary: s.name + ": cannot be planned now: " + err.Error()}
		}
		r.expect(n, c.Outputs)
		out = append(out, r.redacted(c))
	}
	return out
}

// expect keeps outputs that a plan is certain of, for the plans of later steps.
func (r *run) expect(n *node, outputs map[string]any) {
	for name, v := range outputs {
		if def, ok := n.item.Outputs[name]; ok && !def.Secret {
			r.outputs[name] = v
		}
	}
}

func (r *run) planStep(ctx context.Context, n *node, s *step, secrets map[string]any) (Change, error) {
	vars := r.answers.vars(secrets, r.outputs).Preview("(known later)")
	if s.when != nil {
		ok, err := s.when.Bool(r.answers.vars(nil, r.outputs))
		if err != nil {
			return Change{}, err
		}
		if !ok {
			return Change{Summary: s.name + ": left out, condition is false: " + s.when.Source(), Nothing: true}, nil
		}
	}
	with, err := arguments(s, vars)
	if err != nil {
		return Change{}, err
	}
	var c Change
	r.outside(func() {
		if act, only := r.renderer(s); only {
			c, err = r.planHeld(ctx, n, s, act, r.input(with))
			return
		}
		c, err = s.action.Plan(ctx, r.input(with))
	})
	return c, err
}

// look runs a check's probes.
func (r *run) look(ctx context.Context, n *node) (State, string, []findingRecord) {
	a := &attempt{run: r, n: n, rec: &itemRecord{}, outputs: make(map[string]any)}
	var err error
	if a.secrets, err = r.secretsOf(n); err != nil {
		return StateFail, "", r.secretFindings(err)
	}
	for _, s := range n.probes {
		outputs := maps.Clone(r.outputs)
		maps.Copy(outputs, a.outputs)
		if s.when != nil {
			ok, err := s.when.Bool(r.answers.vars(nil, outputs))
			if err != nil {
				a.add(s.name, SeverityFail, Finding{Detail: err.Error()})
			}
			if !ok {
				continue
			}
		}
		res, err := a.call(ctx, s, outputs)
		for _, f := range res.Findings {
			a.add(s.name, Severity(s.def.Severity), f)
		}
		if err != nil {
			a.add(s.name, Severity(s.def.Severity), Finding{Detail: err.Error()})
		}
		maps.Copy(a.outputs, res.Outputs)
	}
	state := a.verdict()
	if state.settled() {
		for _, name := range slices.Sorted(maps.Keys(n.item.Outputs)) {
			if v, ok := a.outputs[name]; ok {
				r.outputs[name] = v
			}
		}
	}
	if state == StateWaiting {
		state, reason := a.wouldBe()
		return state, reason, a.rec.Findings
	}
	return state, "", a.rec.Findings
}
