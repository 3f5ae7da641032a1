package install

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/airlock-project/airlock/manifests"
)

// maxParallel bounds the items that run side by side: each may hold
// connections, and a log in which more than a few things happen is unreadable.
const maxParallel = 8

// run is one execution of an engine.
type run struct {
	*Engine
	// mu guards everything below. Items run side by side; each holds mu except
	// while it waits for a step, see outside.
	mu      sync.Mutex
	st      *store
	rec     map[string]*itemRecord // by item; every item has one
	fresh   map[string]bool        // items whose record this run made
	reused  map[string]bool
	outputs map[string]any // of settled items, secrets included
	failed  []*node        // required items that failed in this run, the first first
	started time.Time
	desk    bool // nothing runs but what people sign for
	tree    *Tree
	treeAt  string // where the directory of the tree was when the run began

	warnings  []string       // of the run as a whole
	leaseFact map[string]any // what became of the lock against other machines, until it is written down
}

// Run runs the selected items. An Engine may run several times, one at a time.
func (e *Engine) Run(ctx context.Context) (*Report, error) {
	if e.opts.DryRun {
		return e.dryRun(ctx)
	}
	actor := Actor{Name: e.opts.Actor, UID: os.Getuid(), Host: hostname()}
	st, err := openStore(e.opts.State, actor, e.opts.Now)
	if err != nil {
		return nil, err
	}
	r := &run{
		Engine: e, st: st, rec: make(map[string]*itemRecord), fresh: make(map[string]bool),
		reused: make(map[string]bool), outputs: make(map[string]any), started: e.opts.Now().UTC(),
	}
	st.onWrite = e.opts.onWrite
	report, err := r.guarded(ctx, r.all)
	return report, errors.Join(err, st.close())
}

func (r *run) all(ctx context.Context) (*Report, error) {
	if err := r.treeUsable(); err != nil {
		return nil, err
	}
	if err := r.begin(); err != nil {
		return nil, err
	}
	r.announce()
	if err := r.visitAll(ctx); err != nil {
		return r.report(true), err
	}
	if err := ctx.Err(); err != nil {
		return r.stop(ctx, err)
	}
	grown := r.growTree(ctx)
	if err := ctx.Err(); err != nil {
		return r.stop(ctx, err)
	}
	report, err := r.finish(false)
	return report, errors.Join(grown, err)
}

// announce tells the listener how many items will end.
func (r *run) announce() {
	items := 0
	for _, n := range r.plan.nodes {
		if n.item.Kind != manifests.ItemGroup && r.isSelected(n) {
			items++
		}
	}
	r.opts.Listener.send(Event{Op: "run-started", Items: items})
}

// phase is the number of an item's phase.
func (e *Engine) phase(n *node) int {
	i := slices.IndexFunc(e.checklist.Phases, func(p manifests.Phase) bool { return p.ID == n.item.Phase })
	return e.checklist.Phases[i].Number
}

// visitAll visits every node after those it depends on, up to parallel at a
// time. It ends early when ctx ends, which is no error here, or when the state
// directory cannot be written.
func (r *run) visitAll(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		n   *node
		err error
	}
	done := make(chan outcome)
	started, visited := make(map[*node]bool), make(map[*node]bool)
	var broken error
	for running := 0; ; {
		for i, n := range r.plan.order {
			if ctx.Err() != nil || running == r.parallel {
				break
			}
			if started[n] || !r.ready(i, visited) {
				continue
			}
			started[n] = true
			running++
			go func() {
				r.mu.Lock()
				defer r.mu.Unlock()
				done <- outcome{n, r.visit(ctx, n)}
			}()
		}
		if running == 0 {
			return broken
		}
		o := <-done
		running--
		visited[o.n] = true
		if o.err != nil && broken == nil {
			broken = o.err
			cancel()
		}
	}
}

// ready reports whether the node at place i of the order may be visited now. An
// action also waits for everything before it, so that what fails first is the
// same in every run; with KeepGoing that does not matter.
func (r *run) ready(i int, visited map[*node]bool) bool {
	n := r.plan.order[i]
	if n.item.Kind == manifests.ItemAction && !r.opts.KeepGoing {
		return !slices.ContainsFunc(r.plan.order[:i], func(d *node) bool { return !visited[d] })
	}
	return !slices.ContainsFunc(n.dependencies(), func(d *node) bool { return !visited[d] })
}

// outside runs f, which may take long and touches nothing that mu guards, while
// other items go on.
func (r *run) outside(f func()) {
	r.mu.Unlock()
	defer r.mu.Lock()
	f()
}

// stop closes a run that was interrupted.
func (r *run) stop(ctx context.Context, why error) (*Report, error) {
	report, err := r.finish(true)
	return report, errors.Join(&InterruptedError{Product: r.checklist.Product, Item: report.Interrupted, Err: why, Cause: context.Cause(ctx)}, err)
}

// begin opens the run: the snapshot, the trust decision as the first fact, and
// what an earlier process left behind.
func (r *run) begin() error {
	info, site := r.bundle.Info(), r.opts.Site
	if old := r.st.run; old != nil && (old.Product != info.Product || old.Site != site.Name) {
		return &MismatchError{What: "state directory of", Have: old.Product + " at " + old.Site, Want: []string{info.Product + " at " + site.Name}}
	}
	snap := &snapshot{
		APIVersion: manifests.APIVersion, Kind: "Run", RunID: newRunID(r.started), Product: info.Product, Site: site.Name, Platform: site.Platform,
		Airgap: site.Airgap, Bundle: info.Digest.String(), BundleFile: r.opts.Bundle, Release: info.Release, Checklist: r.source, Tool: r.opts.Tool, StartedAt: r.started,
		Ledger: Head{Hash: zeros}, Items: make(map[string]*itemRecord),
	}
	old := r.st.run
	if old != nil {
		snap.Items, snap.Ledger, snap.Release = old.Items, old.Ledger, max(old.Release, info.Release)
		if r.opts.Resume {
			snap.RunID = old.RunID
		}
	}
	r.st.run, r.st.ledger.runID = snap, snap.RunID
	if err := errors.Join(r.checkPeople(), r.keepChecklist(), r.st.mendReport()); err != nil {
		return err
	}
	if old == nil {
		if err := r.st.save(); err != nil {
			return err
		}
	}
	if err := r.st.record("", eventRunStarted, r.facts()); err != nil {
		return err
	}
	if err := errors.Join(r.noteLease(), r.leftovers(), r.distrust()); err != nil {
		return err
	}
	for _, n := range r.plan.nodes {
		rec := snap.Items[n.item.ID]
		if rec == nil {
			rec = &itemRecord{State: StatePending}
		}
		r.rec[n.item.ID] = rec
		r.restore(n, rec)
	}
	return r.st.save()
}

// facts is what a run rests on.
func (r *run) facts() map[string]any {
	info, d := r.bundle.Info(), r.bundle.Decision()
	signers := make([]any, len(d.Signers))
	for i, s := range d.Signers {
		signers[i] = map[string]any{"name": s.Name, "role": s.Role, "fingerprint": s.Fingerprint}
	}
	groups := []string{}
	for _, n := range r.plan.nodes {
		if n.item.Kind == manifests.ItemGroup {
			groups = append(groups, n.item.ID)
		}
	}
	return map[string]any{
		"groups":    groups,
		"decision":  map[string]any{"policy": d.Policy, "signers": signers},
		"bundle":    map[string]any{"digest": info.Digest.String(), "product": info.Product, "version": info.Version, "release": info.Release},
		"checklist": r.source,
		"site":      map[string]any{"name": r.opts.Site.Name, "platform": r.opts.Site.Platform, "airgap": r.opts.Site.Airgap},
		"tool":      r.opts.Tool,
		"options":   map[string]any{"phases": r.opts.Phases, "items": strings.Join(r.opts.Items, ","), "resume": r.opts.Resume, "keep_going": r.opts.KeepGoing},
	}
}

// leftovers records what a process that died left: a torn line that was cut
// off, and items still running.
func (r *run) leftovers() error {
	st := r.st
	if len(st.cut) > 0 {
		if err := st.record("", eventRepaired, map[string]any{"bytes": len(st.cut), "sha256": sumOf(st.cut)}); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(st.run.Items)) {
		rec := st.run.Items[id]
		if rec.State != StateRunning {
			continue
		}
		if err := st.record(id, eventInterrupted, map[string]any{"attempt": rec.Attempt}); err != nil {
			return err
		}
		rec.State, rec.Reason = StatePending, "the run ended in the middle of it"
	}
	return nil
}

// visit brings one node to its state. It is called with mu held.
func (r *run) visit(ctx context.Context, n *node) error {
	rec := r.rec[n.item.ID]
	why, err := r.skip(n, r.outputs)
	if err != nil && len(r.unmet(n)) == 0 && r.isSelected(n) {
		return r.end(n, StateFail, "", findingRecord{Severity: SeverityFail, Detail: err.Error()})
	}
	if why != "" && err == nil {
		if !r.isSelected(n) {
			r.set(n, &itemRecord{State: StateSkipped, Reason: why})
			return nil
		}
		return r.end(n, StateSkipped, why)
	}
	if n.item.Kind == manifests.ItemGroup {
		state, reason := aggregate(n, r.rec)
		r.set(n, &itemRecord{State: state, Reason: reason})
		return nil
	}
	if rec.State == StateSkipped { // it was, and is not any more
		if err := r.st.record(n.item.ID, eventStale, map[string]any{"was": string(StateSkipped), "reason": "it applies here now"}); err != nil {
			return err
		}
		rec = &itemRecord{State: StatePending, Attempt: rec.Attempt}
		r.set(n, rec)
	}
	valid, reason := r.valid(n, rec)
	// What was waived was not done, and this version may not know how to look.
	if valid && r.opts.Resume && r.isSelected(n) && n.item.Kind == manifests.ItemAction && rec.State != StateWaived {
		valid, reason = r.stands(ctx, n)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the caller ends the run; the item stays as it is
		}
	}
	if rec.State.settled() && !valid {
		if err := r.stale(n, rec, reason); err != nil {
			return err
		}
	}
	if !r.isSelected(n) {
		return nil
	}
	byPeople := rec.State == StateAttested || rec.State == StateWaived
	if rec.State.settled() && (r.opts.Resume || byPeople) {
		r.reused[n.item.ID] = true
		r.opts.Listener.send(Event{Op: "item-finished", Phase: r.phase(n), Item: n.item.ID, Title: title(n.item), State: rec.State, Text: "still valid"})
		return nil
	}
	return r.attempt(ctx, n)
}

// attempt runs a selected item unless something stands in its way.
func (r *run) attempt(ctx context.Context, n *node) error {
	if len(n.unknown) > 0 {
		return r.end(n, StateUnavailable, "this version of Airlock has no step "+strings.Join(n.unknown, ", "))
	}
	if unmet := r.unmet(n); len(unmet) > 0 {
		return r.end(n, StateBlocked, "needs "+strings.Join(unmet, ", "))
	}
	if why := r.before(n); why != nil && n.item.Kind == manifests.ItemAction && !r.opts.KeepGoing {
		return r.end(n, StateBlocked, "not started, because "+why.item.ID+" failed (--keep-going starts it)")
	}
	return r.execute(ctx, n)
}

// before returns a required item of n's phase or an earlier one that failed in
// this run: what comes later says nothing against an action.
func (r *run) before(n *node) *node {
	i := slices.IndexFunc(r.failed, func(f *node) bool { return r.phase(f) <= r.phase(n) })
	if i < 0 {
		return nil
	}
	return r.failed[i]
}

// unmet lists what stops n: "x (fail)".
func (r *run) unmet(n *node) []string { return unmet(n, r.rec) }

func unmet(n *node, recs map[string]*itemRecord) []string {
	var out []string
	for at := n; at != nil; at = at.parent {
		for _, d := range at.needs {
			if s := recs[d.item.ID].State; !s.met() {
				out = append(out, fmt.Sprintf("%s (%s)", d.item.ID, s))
			}
		}
	}
	return out
}

func (e *Engine) isSelected(n *node) bool { return e.selected == nil || e.selected[n.item.ID] }

// skip says why an item does not apply here, "" if it does.
func (e *Engine) skip(n *node, outputs map[string]any) (string, error) {
	for at := n; at != nil; at = at.parent {
		if p := at.item.Platforms; len(p) > 0 && !slices.Contains(p, e.opts.Site.Platform) {
			return fmt.Sprintf("platform %s is not one of %s", e.opts.Site.Platform, strings.Join(p, ", ")), nil
		}
		if at.when == nil {
			continue
		}
		ok, err := at.when.Bool(e.answers.vars(nil, outputs))
		if err != nil {
			return "", err
		}
		if !ok {
			return "condition is false: " + at.when.Source(), nil
		}
	}
	return "", nil
}

// aggregate gives a group the state of its worst child; a group whose children
// are all skipped is skipped.
func aggregate(n *node, recs map[string]*itemRecord) (State, string) {
	worst := []State{
		StateFail, StateUnavailable, StateBlocked, StateWaiting, StateStale, StateRunning, StatePending, StatePlanned,
		StateWarn, StateWaived, StateAttested, StatePass, StateSkipped,
	}
	at, who := len(worst)-1, ""
	for _, c := range n.children {
		s := recs[c.item.ID].State
		if !c.required() && !s.met() {
			continue // optional: the group does not depend on it
		}
		if i := slices.Index(worst, s); i >= 0 && i < at {
			at, who = i, c.item.ID
		}
	}
	if worst[at].met() {
		return worst[at], ""
	}
	return worst[at], who + " is " + string(worst[at])
}

// set keeps a record in memory and in the snapshot.
func (r *run) set(n *node, rec *itemRecord) {
	r.rec[n.item.ID] = rec
	r.st.run.Items[n.item.ID] = rec
}

// stale notes that an earlier result does not hold any more.
func (r *run) stale(n *node, rec *itemRecord, reason string) error {
	for name := range n.item.Outputs {
		delete(r.outputs, name)
	}
	if err := r.st.record(n.item.ID, eventStale, map[string]any{"was": string(rec.State), "reason": reason}); err != nil {
		return err
	}
	rec.State, rec.Reason = StateStale, reason
	return r.st.save()
}

// end gives an item a state without running it.
func (r *run) end(n *node, state State, reason string, findings ...findingRecord) error {
	old := r.rec[n.item.ID]
	now := r.opts.Now().UTC()
	rec := &itemRecord{State: state, Reason: reason, Attempt: old.Attempt, FinishedAt: now, Findings: findings, Actor: r.st.ledger.actor}
	return r.conclude(n, rec)
}

// conclude records the end of an item: in the ledger first, then in run.json.
// A process that dies in between finds the item as it was and does it again.
func (r *run) conclude(n *node, rec *itemRecord) error {
	id := n.item.ID
	r.takeRisk(n, rec)
	if err := r.st.record(id, eventFinished, rec); err != nil {
		return err
	}
	rec.Seq = r.st.ledger.head.Seq
	r.set(n, rec)
	r.fresh[id] = true
	if rec.State == StateFail && n.required() {
		r.failed = append(r.failed, n)
	}
	r.opts.Listener.send(Event{Op: "item-finished", Phase: r.phase(n), Item: id, Title: title(n.item), State: rec.State, Text: rec.Reason, Started: !rec.StartedAt.IsZero()})
	if err := r.st.save(); err != nil || n.item.Kind != manifests.ItemAction || !rec.State.settled() || rec.StartedAt.IsZero() {
		return err
	}
	// What was done is signed at once: a run that is killed later does not do it twice.
	_, err := r.st.checkpoint(r.opts, r.opts.Now())
	return err
}

// finish closes the run: the report in artifacts/, an entry with its outcome and
// the report's digest, report.json, and a checkpoint over the entry. A process
// that dies before the entry leaves a run that did not end; after it, the next
// start finds the report by its digest.
func (r *run) finish(interrupted bool) (*Report, error) {
	report := r.report(interrupted)
	raw, err := report.JSON()
	if err != nil {
		return report, err
	}
	if _, err := r.st.keep(raw); err != nil {
		return report, err
	}
	fact := map[string]any{"status": string(report.Status), "interrupted": interrupted, "report": sumOf(raw), "key_id": r.opts.KeyID}
	if err := r.st.record("", eventRunFinished, fact); err != nil {
		return report, err
	}
	head := r.st.ledger.head
	report.Ledger = &head
	if err := errors.Join(r.st.writeFile(fileReport, raw), r.st.save()); err != nil {
		return report, err
	}
	report.Checkpoint, err = r.st.checkpoint(r.opts, r.opts.Now())
	return report, err
}

// newRunID returns a ULID: sortable by time, 80 random bits.
func newRunID(at time.Time) string {
	var b [20]byte // four bytes in front make the bits a multiple of five
	binary.BigEndian.PutUint64(b[2:], uint64(at.UnixMilli()))
	rand.Read(b[10:])
	const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	return base32.NewEncoding(crockford).WithPadding(base32.NoPadding).EncodeToString(b[:])[6:]
}

func title(item *manifests.Item) string {
	switch {
	case item.Title != "":
		return item.Title
	case item.SeedRow != "":
		return item.SeedRow
	}
	return item.ID
}
