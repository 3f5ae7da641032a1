package mirror

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// recoverAfter is how many clean requests let one more worker start.
const recoverAfter = 20

// flow bounds how much is done at once. The bound halves when the registry
// throttles and rises again by one for every recoverAfter clean requests. It is
// safe for concurrent use.
type flow struct {
	mu    sync.Mutex
	most  int
	limit int
	busy  int
	clean int
	round int           // how often the limit was halved
	free  chan struct{} // closed when a slot may have become free
}

func newFlow(most int) *flow {
	return &flow{most: most, limit: most, free: make(chan struct{})}
}

// acquire takes a slot.
func (f *flow) acquire(ctx context.Context) error {
	for {
		f.mu.Lock()
		if f.busy < f.limit {
			f.busy++
			f.mu.Unlock()
			return nil
		}
		free := f.free
		f.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// release gives a slot back.
func (f *flow) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy--
	close(f.free)
	f.free = make(chan struct{})
}

// now is the round in which a request starts.
func (f *flow) now() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.round
}

// note learns from what became of a request. It halves the limit once for all
// requests that were under way together: eight workers that are throttled at
// once are one sign, not eight.
func (f *flow) note(round int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch s := status(err); {
	case s == http.StatusTooManyRequests || s == http.StatusServiceUnavailable:
		f.clean = 0
		if round == f.round {
			f.limit = max(1, f.limit/2)
			f.round++
		}
	case err == nil:
		if f.clean++; f.clean >= recoverAfter && f.limit < f.most {
			f.limit++
			f.clean = 0
		}
	}
}

// begin marks the start of a request; what it returns is told how it ended. All
// bounds learn from it: a registry that throttles does not say whom it means.
func (e *engine) begin() (done func(error)) {
	round, small := e.flow.now(), e.small.now()
	return func(err error) {
		if err == nil || status(err) != 0 {
			e.reached.Store(true)
		}
		e.flow.note(round, err)
		if e.small != e.flow {
			e.small.note(small, err)
		}
	}
}

// away reports whether a registry that answered in this run takes no
// connections now: it may be starting again, which takes longer than a wrong
// address is worth.
func (e *engine) away(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial" && e.reached.Load() && !errors.Is(err, context.Canceled)
}

// pacer spaces out what a registry counts per second. The zero value does not.
type pacer struct {
	every time.Duration

	mu   sync.Mutex
	next time.Time
}

func newPacer(perSecond float64) *pacer {
	if perSecond <= 0 {
		return &pacer{}
	}
	return &pacer{every: time.Duration(float64(time.Second) / perSecond)}
}

// wait returns when it is the caller's turn.
func (p *pacer) wait(ctx context.Context) error {
	if p.every == 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	turn := p.next
	if turn.Before(now) {
		turn = now
	}
	p.next = turn.Add(p.every)
	p.mu.Unlock()
	t := time.NewTimer(turn.Sub(now))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// try repeats a request that changes nothing the second time, at most
// maxAttempts times and for maxElapsed.
func (e *engine) try(ctx context.Context, request func() error) error {
	start := time.Now()
	for attempt := 1; ; attempt++ {
		done := e.begin()
		err := request()
		done(err)
		if err == nil || attempt == maxAttempts || time.Since(start) > maxElapsed || ctx.Err() != nil || !passing(err, attempt) && !e.away(err) {
			return err
		}
		if err := e.pause(ctx, attempt, err); err != nil {
			return err
		}
	}
}
