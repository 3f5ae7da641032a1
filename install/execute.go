package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install/internal/expr"
	"github.com/airlock-project/airlock/manifests"
)

// attempt is one execution of an item.
type attempt struct {
	*run
	n       *node
	rec     *itemRecord
	secrets map[string]any
	outputs map[string]any // what its own steps gave
	partial bool           // a step was left out, so declared outputs may be missing
	waits   []string       // objects that others have to apply, see Renderer
}

// execute runs an item's steps and probes and records what came out.
func (r *run) execute(ctx context.Context, n *node) error {
	id := n.item.ID
	old := r.rec[id]
	rec := &itemRecord{State: StateRunning, Attempt: old.Attempt + 1, StartedAt: r.opts.Now().UTC(), Actor: r.st.ledger.actor}
	r.opts.Listener.send(Event{Op: "item-started", Phase: r.phase(n), Item: id, Title: title(n.item)})
	a := &attempt{run: r, n: n, rec: rec, outputs: make(map[string]any)}
	var err error
	if a.secrets, err = r.secretsOf(n); err == nil {
		rec.InputHash, err = r.inputHash(n, a.secrets)
	}
	if err != nil {
		return r.end(n, StateFail, "", r.secretFindings(err)...)
	}
	if err := r.st.record(id, eventStarted, map[string]any{"attempt": rec.Attempt, "input_hash": rec.InputHash}); err != nil {
		return err
	}
	r.set(n, rec)
	if err := r.st.save(); err != nil {
		return err
	}
	if err := a.steps(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		rec.Reason = "interrupted"
		return nil //nolint:nilerr // it stays running, as after a kill; the next run enters it again
	}
	if rec.State = a.verdict(); rec.State == StateWaiting {
		rec.State, rec.Reason = a.people()
	}
	if rec.State != StateFail && len(a.waits) > 0 {
		rec.State, rec.Reason = StateWaiting, waiting(a.waits, a.opts.Render)
	}
	if rec.State.settled() {
		if err := a.declared(); err != nil {
			a.add("", SeverityFail, Finding{Detail: err.Error()})
			rec.State = StateFail
		}
	}
	rec.FinishedAt = r.opts.Now().UTC()
	return r.conclude(n, rec)
}

// steps runs the steps in order up to the first that fails, then every probe.
func (a *attempt) steps(ctx context.Context) error {
	for _, s := range a.n.steps {
		if _, renders := a.renderer(s); len(a.waits) > 0 && !renders {
			return nil
		}
		ok, err := a.step(ctx, s, SeverityFail)
		if err != nil {
			return err
		}
		if !ok || ctx.Err() != nil {
			return nil //nolint:nilerr // the item stays running
		}
	}
	if len(a.waits) > 0 {
		return nil // nothing to prove yet
	}
	for _, s := range a.n.probes {
		if _, err := a.step(ctx, s, Severity(s.def.Severity)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the item stays running
		}
	}
	return nil
}

// step runs one step or probe. ok is false if it failed; an error is one of
// the state directory.
func (a *attempt) step(ctx context.Context, s *step, worst Severity) (ok bool, err error) {
	from, waited := len(a.rec.Findings), len(a.waits)
	outputs := maps.Clone(a.run.outputs)
	maps.Copy(outputs, a.outputs)
	if s.when != nil {
		applies, err := s.when.Bool(a.answers.vars(nil, outputs))
		if err != nil {
			a.add(s.name, SeverityFail, Finding{Detail: err.Error()})
			return false, a.note(s, StateFail, false)
		}
		if !applies {
			a.partial = true
			return true, a.note(s, StateSkipped, false)
		}
	}
	a.opts.Listener.send(Event{Op: "step-started", Item: a.n.item.ID, Step: s.name, Run: s.def.Run})
	res, err := a.call(ctx, s, outputs)
	if ctx.Err() != nil {
		return false, nil //nolint:nilerr // the item stays running
	}
	for _, f := range res.Findings {
		a.add(s.name, worst, f)
	}
	if err != nil {
		a.add(s.name, worst, Finding{Detail: err.Error()})
	}
	if err := a.evidence(res.Evidence); err != nil {
		return false, err
	}
	maps.Copy(a.outputs, res.Outputs)
	state := verdict(a.rec.Findings[from:])
	if state != StateFail && len(a.waits) > waited {
		state = StateWaiting
	}
	a.opts.Listener.send(Event{Op: "step-finished", Item: a.n.item.ID, Step: s.name, Run: s.def.Run, State: state})
	return state != StateFail, a.note(s, state, res.Changed)
}

// call runs a step, again where its definition says so, until nothing it finds
// fails the item. Only the last try counts.
func (a *attempt) call(ctx context.Context, s *step, outputs map[string]any) (Result, error) {
	wait := s.backoff
	for try := 0; ; try++ {
		res, err := a.once(ctx, s, outputs)
		failed := err != nil || slices.ContainsFunc(res.Findings, func(f Finding) bool { return f.Severity == "" || f.Severity == SeverityFail })
		if !failed || try >= s.retries {
			return res, err
		}
		a.outside(func() {
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		})
		if ctx.Err() != nil {
			return res, err
		}
		wait = min(2*wait, maxBackoff)
	}
}

// once resolves a step's arguments and runs it within its time.
func (a *attempt) once(ctx context.Context, s *step, outputs map[string]any) (Result, error) {
	with, err := arguments(s, a.answers.vars(a.secrets, outputs))
	if err != nil {
		return Result{}, err
	}
	if s.timeout > 0 {
		cause := fmt.Errorf("no end after %s", s.timeout)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.timeout, cause)
		defer cancel()
	}
	in := a.input(with)
	in.Announce = func(c Change) { a.announced(s, c) }
	in.Keep = func(list []Object) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.st.record(a.n.item.ID, eventKeeps, list)
	}
	var res Result
	var waits []string
	a.outside(func() {
		renders, only := a.renderer(s)
		switch {
		case only:
			res, waits, err = a.held(ctx, s, renders, in)
		case s.action != nil:
			res, err = s.action.Apply(ctx, in)
		default:
			res, err = s.probe.Run(ctx, in)
		}
	})
	a.waits = append(a.waits, waits...)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return res, err
}

// announced tells what a step is about to change. It is called while the step
// runs, so without mu.
func (a *attempt) announced(s *step, c Change) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c = a.redacted(c)
	a.opts.Listener.send(Event{Op: "step-planned", Phase: a.phase(a.n), Item: a.n.item.ID, Title: title(a.n.item), Step: s.name, Run: s.def.Run, Plan: &c})
}

// redacted takes the secrets out of a plan.
func (e *Engine) redacted(c Change) Change {
	c.Summary, c.Details = e.redact.text(c.Summary), slices.Clone(c.Details)
	for i := range c.Details {
		c.Details[i] = e.redact.text(c.Details[i])
	}
	return c
}

// arguments evaluates a step's with.
func arguments(s *step, vars expr.Vars) (map[string]any, error) {
	val, _, err := s.with.Eval(vars)
	if err != nil {
		return nil, fmt.Errorf("with: %w", err)
	}
	with, ok := val.(map[string]any)
	if !ok {
		return nil, errors.New("with: not a map")
	}
	return with, nil
}

// input is what every step of this engine gets.
func (e *Engine) input(with map[string]any) Input {
	render := e.opts.Render
	if render == "" && e.opts.State != "" {
		render = filepath.Join(e.opts.State, "render")
	}
	secrets := ""
	if e.opts.State != "" {
		secrets = filepath.Join(e.opts.State, dirSecrets)
	}
	return Input{With: with, Bundle: e.verified, Site: e.opts.SiteDir, Render: render, Secrets: secrets, Values: e.opts.Values, GitOps: e.opts.GitOps}
}

// add keeps a finding, no worse than the step's severity and without secrets. What
// an earlier step of the item has said in the same words is not said twice.
func (a *attempt) add(stepName string, worst Severity, f Finding) {
	rec := findingRecord{Step: stepName, Code: f.Code, Severity: milder(f.Severity, worst), Detail: a.redact.text(f.Detail)}
	if len(f.Fields) > 0 {
		rec.Fields = make(map[string]string, len(f.Fields))
		for k, v := range f.Fields {
			rec.Fields[k] = a.redact.text(v)
		}
	}
	if !slices.ContainsFunc(a.rec.Findings, rec.says) {
		a.rec.Findings = append(a.rec.Findings, rec)
	}
}

// milder returns the milder of two severities; the zero value is fail.
func milder(a, b Severity) Severity {
	for _, s := range []Severity{SeverityInfo, SeverityWarn} {
		if a == s || b == s {
			return s
		}
	}
	return SeverityFail
}

// note records the end of a step.
func (a *attempt) note(s *step, state State, changed bool) error {
	rec := stepRecord{ID: s.name, Run: s.def.Run, State: state, Changed: changed}
	a.rec.Steps = append(a.rec.Steps, rec)
	return a.st.record(a.n.item.ID, eventStep, rec)
}

// evidence keeps what a step saw, without secrets.
func (a *attempt) evidence(list []Evidence) error {
	for _, ev := range list {
		if len(ev.Data) > MaxEvidence {
			a.add("", SeverityWarn, Finding{Detail: fmt.Sprintf("evidence %s has %d bytes and was not kept: the limit is %d", ev.Name, len(ev.Data), MaxEvidence)})
			continue
		}
		data := []byte(a.redact.text(string(ev.Data)))
		sum, err := a.st.keep(data)
		if err != nil {
			return err
		}
		a.rec.Evidence = append(a.rec.Evidence, evidenceRecord{Name: a.redact.text(ev.Name), Media: ev.Media, SHA256: sum, Bytes: len(data)})
	}
	return nil
}

func verdict(findings []findingRecord) State {
	state := StatePass
	for _, f := range findings {
		switch f.Severity {
		case SeverityFail:
			return StateFail
		case SeverityWarn:
			state = StateWarn
		}
	}
	return state
}

// verdict is the state that follows from the findings. What a person has to
// state is not passed by probes; they only narrow it.
func (a *attempt) verdict() State {
	state := verdict(a.rec.Findings)
	if a.n.item.Kind == manifests.ItemAttest && state != StateFail {
		return StateWaiting
	}
	return state
}

// declared checks and keeps the outputs that the item declares.
func (a *attempt) declared() error {
	a.rec.Outputs = make(map[string]outputRecord)
	for _, name := range slices.Sorted(maps.Keys(a.n.item.Outputs)) {
		def := a.n.item.Outputs[name]
		raw, ok := a.outputs[name]
		if !ok {
			if a.partial {
				continue
			}
			return fmt.Errorf("output %s was not produced", name)
		}
		val, err := expr.Normalize(raw)
		if err != nil {
			return fmt.Errorf("output %s: %w", name, err)
		}
		secret := def.Secret || def.Type == typeSecret
		if err := checkValue(manifests.Input{Type: def.Type}, val, nil); err != nil {
			if secret {
				return fmt.Errorf("output %s: its value is not a %s", name, def.Type)
			}
			return fmt.Errorf("output %s: %s", name, a.redact.text(err.Error()))
		}
		if err := a.keepOutput(name, val, secret); err != nil {
			return err
		}
	}
	return nil
}

// keepOutput hands an output on and writes it down; of a secret only the HMAC.
func (a *attempt) keepOutput(name string, val any, secret bool) error {
	if !secret {
		val = a.redact.value(val)
	}
	raw, err := json.Marshal(val)
	if err != nil {
		return fmt.Errorf("output %s: %w", name, err)
	}
	var rec outputRecord
	switch {
	case secret:
		if s, ok := val.(string); ok {
			a.redact.add(name, s)
		}
		rec.HMAC = a.st.seal(raw)
	case len(raw) > inlineOutput:
		if rec.Ref, err = a.st.keep(raw); err != nil {
			return err
		}
	default:
		rec.Value = raw
	}
	a.rec.Outputs[name] = rec
	a.run.outputs[name] = val
	return nil
}

// secretsOf resolves the secrets and PEM material that an item takes, and no
// other. Errors, a *SecretError for each, name the input, never its value.
func (e *Engine) secretsOf(n *node) (map[string]any, error) {
	out := make(map[string]any)
	var errs []error
	for _, r := range n.reads {
		name, isIn := strings.CutPrefix(r, "in.")
		ref, isRef := e.answers.refs[name]
		if !isIn || !isRef {
			continue
		}
		raw, err := e.opts.Secret(ref)
		if held(e.checklist.Inputs[name]) {
			e.redact.add(name, string(raw))
		}
		if wrong := e.plan.vetSecret(name, ref, raw, err); wrong != nil {
			errs = append(errs, wrong)
			continue
		}
		out[name] = string(raw)
	}
	return out, errors.Join(errs...)
}

// restore makes the outputs of an earlier run available.
func (r *run) restore(n *node, rec *itemRecord) {
	if !rec.State.settled() {
		return
	}
	for name, out := range rec.Outputs {
		if r.plan.producer[name] != n || out.HMAC != "" {
			continue
		}
		raw := []byte(out.Value)
		if out.Ref != "" {
			var err error
			if raw, err = r.st.artifact(out.Ref); err != nil {
				continue // valid finds it missing and says so
			}
		}
		if val, err := decodeOutput(raw); err == nil {
			r.outputs[name] = val
		}
	}
}

// stands says whether what an action did is still there, and if not why: each of
// its steps looks, and must find nothing to do. What nobody can see stands: that
// its inputs are the same was looked at before.
func (r *run) stands(ctx context.Context, n *node) (bool, string) {
	secrets, err := r.secretsOf(n)
	if err != nil {
		return false, r.redact.text(err.Error())
	}
	for _, s := range n.steps {
		c, err := r.planStep(ctx, n, s, secrets)
		switch {
		case err != nil:
			return false, r.redact.text(fmt.Sprintf("whether it is still done cannot be seen: step %s: %s", s.name, err))
		case !c.Nothing && !c.Unseen:
			return false, r.redact.text("what it did is not as it was left; to do again: " + c.Summary)
		}
	}
	return true, ""
}

// valid says whether a settled item may stand, and if not why.
func (r *run) valid(n *node, rec *itemRecord) (bool, string) {
	if !rec.State.settled() {
		return false, ""
	}
	secrets, err := r.secretsOf(n)
	if err != nil {
		return false, r.redact.text(err.Error())
	}
	hash, err := r.inputHash(n, secrets)
	switch {
	case err != nil:
		return false, r.redact.text(err.Error())
	case hash != rec.InputHash:
		return false, "what it rests on has changed: inputs, its definition, outputs it uses, where it works, or the bundle"
	}
	byPeople := rec.State == StateAttested || rec.State == StateWaived
	if byPeople {
		if ok, why := r.stated(n, rec, hash); !ok {
			return false, why
		}
	}
	for _, d := range n.basis() {
		if byPeople {
			break // a statement outlasts what was done again and changed nothing
		}
		if dep := r.rec[d.item.ID]; dep.State.settled() && dep.Seq > rec.Seq {
			return false, d.item.ID + " was done again after it"
		}
	}
	if age := r.started.Sub(rec.FinishedAt); n.freshness > 0 && !byPeople && (age >= n.freshness || age < 0) {
		return false, fmt.Sprintf("it is %s old and holds for %s", age.Round(time.Second), n.freshness)
	}
	for name, out := range rec.Outputs {
		if r.desk && out.HMAC != "" {
			continue // a run makes it again; people need not wait for that
		}
		if _, ok := r.outputs[name]; !ok && r.plan.producer[name] == n {
			return false, "its output " + name + " is not kept"
		}
	}
	return true, ""
}
