package install

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/verify"
	"github.com/opencontainers/go-digest"
)

// NoRunError is a state directory in which no run has begun, so that nobody can
// state anything about it.
type NoRunError struct{ Dir string }

func (e *NoRunError) Error() string {
	return fmt.Sprintf("state directory %s: no run has begun in it", e.Dir)
}

// Desk is where people deal with a checklist whose run has begun: they look
// where it stands, sign statements and take risks. It is for one goroutine;
// Close it.
type Desk struct {
	r        *run
	release  func() error
	readOnly bool
}

// OpenDesk opens the state directory of o for people to sign. It takes the
// directory's lock, as a run does, and the site's. The checklist is the one that
// the last run kept; with b, which may be nil, it is the bundle's, and probes
// may read the bundle. Of o, Phases, Items, KeepGoing, DryRun and Resume have no
// meaning. A state that no run has begun gives a *NoRunError, another bundle
// than the last run's a *MismatchError, the rest is as in [Run].
func OpenDesk(ctx context.Context, b *verify.Bundle, o Options) (*Desk, error) {
	look, err := lookStore(o.State)
	if err != nil {
		return nil, err
	}
	if look == nil { // without this, opening would make the directory
		return nil, &NoRunError{o.State}
	}
	if err := look.close(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	st, err := openStore(o.State, Actor{Name: o.Actor, UID: os.Getuid(), Host: hostname()}, o.Now)
	if err != nil {
		return nil, err
	}
	st.onWrite = o.onWrite
	d := &Desk{release: func() error { return nil }}
	if err := d.open(ctx, b, o, st); err != nil {
		return nil, errors.Join(err, d.release(), st.close())
	}
	return d, nil
}

func (d *Desk) open(ctx context.Context, b *verify.Bundle, o Options, st *store) error {
	var err error
	if d.r, err = deskRun(ctx, b, o, st); err != nil {
		return err
	}
	st.ledger.runID = st.run.RunID
	if d.release, err = d.r.guard(ctx, func(error) {}); err != nil {
		return err
	}
	if err := d.r.compare(ctx); err != nil {
		return err
	}
	d.r.mu.Lock()
	defer d.r.mu.Unlock()
	if err := errors.Join(d.r.st.mendReport(), d.r.noteLease(), d.r.leftovers(), d.r.distrust()); err != nil {
		return err
	}
	return d.r.survey()
}

// LookDesk opens the state directory of o for people to look: without its lock,
// and nothing is written. [Desk.Report] is all that it can do.
func LookDesk(ctx context.Context, o Options) (*Desk, error) {
	return steady(func() (*Desk, error) { return lookDesk(ctx, o) })
}

func lookDesk(ctx context.Context, o Options) (*Desk, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	st, err := lookStore(o.State)
	if err != nil {
		return nil, err
	}
	if st == nil {
		return nil, &NoRunError{o.State}
	}
	d := &Desk{readOnly: true, release: func() error { return nil }}
	if d.r, err = deskRun(ctx, nil, o, st); err != nil {
		return nil, errors.Join(err, st.close())
	}
	d.r.mu.Lock()
	defer d.r.mu.Unlock()
	if err := errors.Join(d.r.doubt(), d.r.survey()); err != nil {
		return nil, errors.Join(err, st.close())
	}
	return d, nil
}

// Close releases the directory.
func (d *Desk) Close() error {
	_ = d.release() // the lock against other machines runs out by itself
	return d.r.st.close()
}

// Checklist is that of the last run.
func (d *Desk) Checklist() *manifests.Checklist { return d.r.checklist }

// BundleFile is where the last run had the bundle from, "" where nobody said.
func (d *Desk) BundleFile() string { return d.r.st.run.BundleFile }

// Report says where everything stands now. It is not kept.
func (d *Desk) Report() *Report {
	d.r.mu.Lock()
	defer d.r.mu.Unlock()
	rep := d.r.report(false)
	head := Head{Seq: int64(len(d.r.st.memory.hashes)), Hash: zeros}
	if head.Seq > 0 {
		head.Hash = d.r.st.memory.hashes[head.Seq-1]
	}
	rep.Ledger = &head
	return rep
}

// deskRun binds the checklist of the last run to the site.
func deskRun(ctx context.Context, b *verify.Bundle, o Options, st *store) (*run, error) {
	o.DryRun, o.Phases, o.Items = false, "", nil
	if st.run == nil || st.memory.started == nil {
		return nil, &NoRunError{o.State}
	}
	start, err := decodeStart(st.memory.started)
	if err != nil {
		return nil, &LedgerError{Text: err.Error()}
	}
	var e *Engine
	if b == nil {
		e, err = keptEngine(start, st, o)
	} else if b.Info().Digest.String() != start.Bundle.Digest {
		return nil, &MismatchError{What: "bundle", Have: b.Info().Digest.String(), Want: []string{start.Bundle.Digest + ", which the last run was made of"}}
	} else {
		e, err = Load(ctx, b, o)
	}
	if err != nil {
		return nil, err
	}
	if start.Site.Name != o.Site.Name {
		return nil, &MismatchError{What: "state directory of site", Have: start.Site.Name, Want: []string{o.Site.Name}}
	}
	r := &run{
		Engine: e, st: st, rec: make(map[string]*itemRecord), fresh: make(map[string]bool),
		reused: make(map[string]bool), outputs: make(map[string]any), started: e.opts.Now().UTC(), desk: true,
	}
	return r, r.checkPeople()
}

// keptEngine makes an engine of what the last run kept of its bundle.
func keptEngine(start runStart, st *store, o Options) (*Engine, error) {
	sum, ok := strings.CutPrefix(start.Checklist, "sha256:")
	if !ok {
		return nil, &LedgerError{Text: fmt.Sprintf("the last run names no checklist but %q", start.Checklist)}
	}
	document, err := st.artifact(sum)
	if err != nil {
		return nil, fmt.Errorf("read the checklist of the last run: %w", err)
	}
	c, err := manifests.ParseChecklist("checklist of the last run", document)
	if err != nil {
		return nil, err
	}
	k := &kept{start: start}
	e, err := newEngine(k, c, o)
	if err != nil {
		return nil, err
	}
	e.verified, e.document, e.source = &verify.Bundle{}, document, start.Checklist
	return e, nil
}

// kept is what a ledger knows of a bundle: enough for everything but what reads
// its content.
type kept struct{ start runStart }

var errNotHere = errors.New("the bundle is not here")

func (k *kept) Info() verify.Info {
	b := k.start.Bundle
	return verify.Info{Digest: digest.Digest(b.Digest), Info: bundle.Info{Product: b.Product, Version: b.Version, Release: b.Release}}
}

func (k *kept) Decision() verify.Decision {
	d := verify.Decision{Policy: k.start.Decision.Policy}
	for _, s := range k.start.Decision.Signers {
		d.Signers = append(d.Signers, verify.Signer(s))
	}
	return d
}

func (k *kept) Items() iter.Seq2[bundle.Entry, error] {
	return func(yield func(bundle.Entry, error) bool) { yield(bundle.Entry{}, errNotHere) }
}

func (k *kept) Manifest(digest.Digest) ([]byte, bundle.Descriptor, bool) {
	return nil, bundle.Descriptor{}, false
}

func (k *kept) ReadBlob(context.Context, bundle.Descriptor) ([]byte, error) { return nil, errNotHere }

// survey brings every node to the state that can be told without running
// anything, in memory: what does not hold any more is stale. A result whose
// secrets cannot be read here is left as it is.
func (r *run) survey() error {
	for _, n := range r.plan.nodes {
		rec := &itemRecord{State: StatePending}
		if old := r.st.run.Items[n.item.ID]; old != nil {
			c := *old
			rec = &c
		}
		r.rec[n.item.ID] = rec
		r.restore(n, rec)
	}
	for _, n := range r.plan.order {
		r.surveyItem(n)
	}
	return nil
}

func (r *run) surveyItem(n *node) {
	rec := r.rec[n.item.ID]
	why, err := r.skip(n, r.outputs)
	switch {
	case err != nil:
	case why != "":
		r.rec[n.item.ID] = &itemRecord{State: StateSkipped, Reason: why}
		return
	case n.item.Kind == manifests.ItemGroup:
		state, reason := aggregate(n, r.rec)
		r.rec[n.item.ID] = &itemRecord{State: state, Reason: reason}
		return
	}
	if rec.State == StateSkipped {
		r.rec[n.item.ID] = &itemRecord{State: StatePending, Attempt: rec.Attempt}
		return
	}
	if _, err := r.secretsOf(n); err != nil || !rec.State.settled() || len(r.st.key) == 0 {
		return
	}
	if ok, why := r.valid(n, rec); !ok {
		rec.State, rec.Reason = StateStale, why
		maps.DeleteFunc(r.outputs, func(name string, _ any) bool { return r.plan.producer[name] == n })
	}
}

// keepChecklist keeps the document of the checklist, so that people can look at
// it and sign without the bundle.
func (r *run) keepChecklist() error {
	if len(r.document) == 0 {
		return nil
	}
	_, err := r.st.keep(r.document)
	return err
}

// KeptChecklist returns the checklist of the last run in a state directory.
func KeptChecklist(dir string) (*manifests.Checklist, error) {
	st, err := lookStore(dir)
	if err != nil {
		return nil, err
	}
	if st == nil || st.memory.started == nil {
		return nil, &NoRunError{dir}
	}
	defer st.close() //nolint:errcheck // it was only read
	start, err := decodeStart(st.memory.started)
	if err != nil {
		return nil, &LedgerError{Text: err.Error()}
	}
	document, err := st.artifact(strings.TrimPrefix(start.Checklist, "sha256:"))
	if err != nil {
		return nil, fmt.Errorf("read the checklist of the last run: %w", err)
	}
	return manifests.ParseChecklist("checklist of the last run", document)
}
