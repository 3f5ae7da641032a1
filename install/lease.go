package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// Times that bound what a run spends on the site's registry beside its work.
const (
	guardTimeout   = 20 * time.Second
	publishTimeout = 10 * time.Minute
	// publishStopped bounds a copy after an interrupt: a person waits.
	publishStopped = 20 * time.Second
)

// Lease names the machine that runs a site's installation. It lies where every
// machine of the site can see it.
type Lease struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"` // Lease
	Site       string    `json:"site"`
	Owner      string    `json:"owner"` // of the state directory, without saying where that is
	Host       string    `json:"host"`
	PID        int       `json:"pid"`
	Actor      string    `json:"actor"`
	Since      time.Time `json:"since"`
	Expires    time.Time `json:"expires"` // by the holder's clock
	Nonce      string    `json:"nonce"`
	Released   bool      `json:"released,omitempty"`
}

func (l Lease) String() string {
	return fmt.Sprintf("process %d of %s on %s since %s", l.PID, l.Actor, l.Host, l.Since.UTC().Format(time.RFC3339))
}

// Guard takes the lock that keeps other machines out, for who, which says
// everything but times and nonce. lost is called at most once, from any
// goroutine, when another machine took it. A lock that somebody else holds gives
// a *HeldError; any other error means that it cannot be told, and the run goes
// on.
type Guard func(ctx context.Context, who Lease, lost func(error)) (*Hold, error)

// Hold is a lock that was taken. Release gives it back; it must be called.
type Hold struct {
	Former  *Lease // who held it before and did not give it back
	Why     string // why it could be taken from Former
	Broken  bool   // Former may be at work still
	Release func(ctx context.Context) error
}

// HeldError is a site whose installation runs on another machine.
type HeldError struct {
	By    Lease
	Where string // the place of the lock
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("site %s is being installed by %s, says the lock in %s", e.By.Site, e.By, e.Where)
}

// LostError is a run that had to stop because another machine took its lock.
type LostError struct {
	To    Lease
	Where string
}

func (e *LostError) Error() string {
	return fmt.Sprintf("the lock of site %s in %s was taken by %s", e.To.Site, e.Where, e.To)
}

// Published says what there is to copy.
type Published struct {
	Dir   string // the state directory, which nobody else writes meanwhile
	Site  string
	RunID string
	Head  Head
	At    time.Time
	// Known tells whether an entry is one of this ledger.
	Known func(Head) bool
}

// ForkError is a copy of the site's record that does not lead to the one here:
// it goes further, or is another. To go on would make two.
type ForkError struct {
	RunID string // of the copy
	Head  Head   // of the copy
	Have  Head   // of the record here
	Where string // the place of the copy
}

func (e *ForkError) Error() string {
	what := "is of another state directory"
	if e.Head.Seq > e.Have.Seq {
		what = "goes further than the one here or is of another state directory"
	}
	return fmt.Sprintf("the site's record in %s %s: it has entry %d of run %s, here the last is %d", e.Where, what, e.Head.Seq, e.RunID, e.Have.Seq)
}

// guarded runs f under the lock against other machines and copies the record
// afterwards.
func (r *run) guarded(ctx context.Context, f func(context.Context) (*Report, error)) (*Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	release, err := r.guard(ctx, cancel)
	if err == nil {
		err = r.compare(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, release())
	}
	report, err := f(ctx)
	r.publish(ctx, report)
	if warning := release(); warning != nil && report != nil {
		report.Warnings = append(report.Warnings, "the site's lock was not given back: "+warning.Error())
	}
	return report, err
}

// guard takes the lock, where there is one to take. What it has to say goes into
// the ledger when the run has begun.
func (r *run) guard(ctx context.Context, lost func(error)) (release func() error, err error) {
	nothing := func() error { return nil }
	if r.opts.Guard == nil {
		return nothing, nil
	}
	who := Lease{
		Site: r.opts.Site.Name, Owner: r.st.seal([]byte("lease")), Host: hostname(), PID: os.Getpid(), Actor: r.st.ledger.actor.Name,
	}
	short, cancel := context.WithTimeoutCause(ctx, guardTimeout, fmt.Errorf("no answer within %s", guardTimeout))
	defer cancel()
	hold, err := r.opts.Guard(short, who, lost)
	if held, ok := errors.AsType[*HeldError](err); ok {
		return nothing, held
	}
	if err != nil {
		if ctx.Err() != nil {
			return nothing, &InterruptedError{Product: r.checklist.Product, Err: ctx.Err(), Cause: context.Cause(ctx)}
		}
		if short.Err() != nil {
			err = context.Cause(short)
		}
		text := r.redact.text(err.Error())
		r.warnings = append(r.warnings, "no lock against other machines: "+text+"; make sure that nobody else installs this site")
		r.leaseFact = map[string]any{"guarded": false, "reason": text}
		return nothing, nil
	}
	if hold.Former != nil {
		r.leaseFact = map[string]any{
			"guarded": true, "taken_from": map[string]any{
				"host": hold.Former.Host, "pid": hold.Former.PID, "actor": hold.Former.Actor,
				"since": hold.Former.Since.UTC().Format(time.RFC3339), "expires": hold.Former.Expires.UTC().Format(time.RFC3339),
			}, "reason": hold.Why, "broken": hold.Broken,
		}
	}
	return func() error {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), guardTimeout)
		defer cancel()
		return hold.Release(end)
	}, nil
}

// compare holds the record against its copy.
func (r *run) compare(ctx context.Context) error {
	if r.opts.Compare == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, guardTimeout, fmt.Errorf("no answer within %s", guardTimeout))
	defer cancel()
	warning, err := r.opts.Compare(ctx, r.published(r.opts.Now()))
	if fork, ok := errors.AsType[*ForkError](err); ok {
		return fork
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		warning = "the record was not compared with its copy: " + r.redact.text(err.Error())
	}
	if warning != "" {
		r.warnings = append(r.warnings, warning)
	}
	return nil
}

// published says what there is to copy, or to compare.
func (r *run) published(at time.Time) Published {
	hashes := r.st.memory.hashes
	p := Published{
		Dir: r.opts.State, Site: r.opts.Site.Name, Head: r.st.ledger.head, At: at,
		Known: func(h Head) bool { return h.Seq > 0 && h.Seq <= int64(len(hashes)) && hashes[h.Seq-1] == h.Hash },
	}
	if r.st.run != nil {
		p.RunID = r.st.run.RunID
	}
	return p
}

// noteLease writes down what became of the lock, where that is worth it.
func (r *run) noteLease() error {
	if r.leaseFact == nil {
		return nil
	}
	fact := r.leaseFact
	r.leaseFact = nil
	return r.st.record("", eventLease, fact)
}

// publish copies the record to where it survives this machine. That it cannot
// is a warning: the run is over.
func (r *run) publish(ctx context.Context, report *Report) {
	if r.opts.Publish == nil || report == nil || report.Ledger == nil {
		return
	}
	if _, lost := errors.AsType[*LostError](context.Cause(ctx)); lost {
		report.Warnings = append(report.Warnings, "the ledger was not copied to the registry, which belongs to another run now")
		return
	}
	limit := publishTimeout
	if ctx.Err() != nil {
		limit = publishStopped
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), limit, fmt.Errorf("no end after %s", limit))
	defer cancel()
	warning, err := r.opts.Publish(ctx, r.published(report.FinishedAt))
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		text := r.redact.text(err.Error())
		warning = "the ledger was not copied to the registry: " + text + "; it lies in " + r.opts.State + " alone: keep a copy of that directory, or run again when the registry can be reached"
	}
	if warning != "" {
		report.Warnings = append(report.Warnings, warning)
	}
}
