package mirror

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/airlock-project/airlock/bundle"
	"github.com/opencontainers/go-digest"
)

// blobTask is one distinct blob and the repositories that need it.
type blobTask struct {
	desc  bundle.Descriptor
	repos []*repo // the first takes the bytes, the others mount
	from  *repo   // one that has it already, if known
	done  map[string]*promise
}

// promise is fulfilled once with the outcome of a piece of work.
type promise struct {
	ch  chan struct{}
	err error
}

func newPromise() *promise { return &promise{ch: make(chan struct{})} }

func (p *promise) fulfil(err error) {
	p.err = err
	close(p.ch)
}

func (p *promise) wait(ctx context.Context) error {
	select {
	case <-p.ch:
		return p.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// schedule collects the distinct blobs that jobs miss.
func (e *engine) schedule() map[digest.Digest]*blobTask {
	tasks := map[digest.Digest]*blobTask{}
	for _, j := range e.jobs {
		if j.err != nil {
			continue
		}
		for _, b := range j.blobs {
			t := tasks[b.Digest]
			if t == nil {
				t = &blobTask{desc: b, done: map[string]*promise{}}
				tasks[b.Digest] = t
			}
			if t.done[j.repo.path] == nil {
				t.done[j.repo.path] = newPromise()
				t.repos = append(t.repos, j.repo)
			}
		}
	}
	// An item that is there vouches for its blobs.
	for _, j := range e.jobs {
		if j.err != nil || j.state != Same {
			continue
		}
		for _, n := range j.item.body {
			for _, b := range n.blobs {
				if t := tasks[b.Digest]; t != nil {
					t.from = j.repo
				}
			}
		}
	}
	return tasks
}

// smallBlob is what waits for answers rather than for bandwidth.
const smallBlob = expectFrom

// sendBlobs works through the tasks, the largest first, with one worker that
// starts at the small end: its images are done early, and no large blob starts
// last. Extra workers start there as well and leave large blobs alone.
func (e *engine) sendBlobs(ctx context.Context, tasks map[digest.Digest]*blobTask) {
	if len(tasks) == 0 {
		return
	}
	queue := make([]*blobTask, 0, len(tasks))
	var total int64
	for _, t := range tasks {
		queue = append(queue, t)
		total += t.desc.Size * int64(len(t.repos))
	}
	slices.SortFunc(queue, func(a, b *blobTask) int {
		return cmp.Or(cmp.Compare(b.desc.Size, a.desc.Size), cmp.Compare(a.desc.Digest, b.desc.Digest))
	})
	e.opts.Listener.Send(bundle.Event{Op: "push", Object: e.opts.To, Total: total})
	var mu sync.Mutex
	next := func(smallest bool, most int64) (t *blobTask) {
		mu.Lock()
		defer mu.Unlock()
		if len(queue) == 0 {
			return nil
		}
		if t = queue[0]; !smallest {
			queue = queue[1:]
			return t
		}
		if t = queue[len(queue)-1]; t.desc.Size > most {
			return nil
		}
		queue = queue[:len(queue)-1]
		return t
	}
	var wg sync.WaitGroup
	work := func(f *flow, smallest bool, most int64) {
		for t := next(smallest, most); t != nil; t = next(smallest, most) {
			e.sendBlob(ctx, f, t)
		}
	}
	n := e.opts.workers()
	for i := range n {
		wg.Go(func() { work(e.flow, n > 1 && i == 0, math.MaxInt64) })
	}
	for range e.opts.extra() {
		wg.Go(func() { work(e.small, true, smallBlob-1) })
	}
	wg.Wait()
	e.opts.Listener.Send(bundle.Event{Op: "push", Object: e.opts.To, Done: true})
}

// sendBlob brings one blob to all repositories that need it.
func (e *engine) sendBlob(ctx context.Context, f *flow, t *blobTask) {
	from := t.from
	for _, r := range t.repos {
		err := context.Cause(ctx)
		switch {
		case err != nil:
		case e.rec.recalled(fact{Kind: factBlob, Repository: r.path, Digest: t.desc.Digest}):
			e.recall(t.desc)
		default:
			err = e.bring(ctx, f, r, from, t.desc)
		}
		if err == nil && from == nil {
			from = r
		}
		if err != nil {
			err = fmt.Errorf("blob %s: %w", t.desc.Digest, e.opts.about(err, r.name+"@"+t.desc.Digest.String()))
			if fatal(err) {
				e.stop(err)
			}
		}
		t.done[r.path].fulfil(err)
	}
}

// recall counts a blob that an earlier run noted as there.
func (e *engine) recall(desc bundle.Descriptor) {
	e.mu.Lock()
	e.result.Reused++
	e.mu.Unlock()
	p := &progress{engine: e, object: desc.Digest.String(), size: desc.Size}
	p.finish(true)
}
