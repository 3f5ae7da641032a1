package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// engine carries out a plan against one registry.
type engine struct {
	src    source
	opts   Options
	target Target
	plan   *Plan
	host   string
	jobs   []*job
	repos  map[string]*repo
	state  target.State // what the target said
	rec    *record
	flow   *flow
	small  *flow                                                   // for what is small: flow itself, or one beside it
	pacer  *pacer                                                  // for writing manifests
	pause  func(ctx context.Context, attempt int, err error) error // between attempts
	stop   context.CancelCauseFunc                                 // ends the run where no item can fare better

	way     atomic.Int32 // how bodies are sent, remembered for the host
	reached atomic.Bool  // the registry answered in this run
	noMount atomic.Bool  // the registry does not mount, or does not say what it has
	mending atomic.Bool  // what is sent now did not come back before

	mu      sync.Mutex
	result  Result
	healing sync.Mutex // one item at a time takes back what the record had wrong
}

// job is an item on its way. Only the goroutine that works on it writes it.
type job struct {
	item  *Item
	repo  *repo
	state State
	err   error
	done  bool      // it is there
	sick  bool      // something of it did not come back and was sent again
	seen  []SeenTag // what the registry has under the tags
	// unlisted is what refers to it and cannot be found in the registry.
	unlisted []*ReferrersError

	// What is missing at the target.
	body  []*node
	refs  []*node
	cosig []tagged
	blobs []bundle.Descriptor
}

// name is the item's place, for people.
func (j *job) name() string { return j.repo.name + ":" + j.item.Tag }

// idle reports whether nothing is missing.
func (j *job) idle() bool { return j.state == Same && len(j.refs) == 0 && len(j.cosig) == 0 }

// writes counts the requests that write manifests and tags and look at them.
func (j *job) writes() int {
	if j.idle() {
		return 0
	}
	n := 2 * (len(j.body) + len(j.refs))
	switch {
	case j.state == Same:
		n++ // the look at its tag
	case len(j.refs) > 0:
		n++ // the root goes by digest first, then by tag
	}
	return n
}

func newEngine(src source, o Options, plan *Plan) (*engine, error) {
	if o.Hosts == nil {
		return nil, errors.New("mirror: no client for the target registry")
	}
	t := o.target()
	e := &engine{
		src: src, opts: o, target: t, plan: plan, host: plan.host, repos: map[string]*repo{},
		flow: newFlow(o.workers()), pacer: newPacer(t.Limits().ManifestsPerSecond), pause: pause,
	}
	e.small = e.flow
	if n := o.extra(); n > 0 {
		e.small = newFlow(n)
	}
	for i := range plan.Items {
		it := &plan.Items[i]
		r, ok := e.repos[it.Repository]
		if !ok {
			var err error
			if r, err = newRepo(o.Hosts, plan.host, it.Repository); err != nil {
				return nil, err
			}
			e.repos[it.Repository] = r
		}
		e.jobs = append(e.jobs, &job{item: it, repo: r})
	}
	return e, nil
}

// run looks at everything, asks allow, then makes and sends what is missing.
func (e *engine) run(ctx context.Context, allow func() error) error {
	var err error
	if e.rec, err = openRecord(e.opts.Record, e.plan.Bundle, e.plan.To); err != nil {
		return err
	}
	if err := e.survey(ctx); err != nil {
		return e.failed(err)
	}
	if allow != nil {
		if err := allow(); err != nil {
			return err
		}
	}
	if err := e.prepare(ctx); err != nil {
		return e.failed(err)
	}
	if e.opts.Shard.Count > 0 {
		return e.runShard(ctx)
	}
	return e.push(ctx)
}

// prepare makes what the target said is missing.
func (e *engine) prepare(ctx context.Context) error {
	if len(e.state.Actions) == 0 {
		return nil
	}
	if err := e.target.Prepare(ctx, e.state.Actions); err != nil {
		return fmt.Errorf("prepare %s: %w", e.plan.To, e.opts.explain(err))
	}
	for _, a := range e.state.Actions {
		e.rec.add(fact{Kind: factRepository, Repository: a.Name})
	}
	return nil
}

// push sends blobs, then manifests, then reads back.
func (e *engine) push(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	e.stop = cancel
	tasks := e.schedule()
	var wg sync.WaitGroup
	wg.Go(func() { e.sendBlobs(ctx, tasks) })
	for _, j := range e.jobs {
		if j.err != nil || j.idle() {
			continue
		}
		wg.Go(func() {
			if j.err = e.finish(ctx, j, tasks); fatal(j.err) {
				cancel(j.err)
			}
		})
	}
	wg.Wait()
	e.readBack(ctx)
	return e.conclude(ctx)
}

// conclude counts and joins the errors of items. Items that only stopped
// because another's error stopped the run are not listed again.
func (e *engine) conclude(ctx context.Context) error {
	t := tally{of: "items", cause: context.Cause(ctx)}
	for _, j := range e.jobs {
		t.add(j.name(), j.err)
		if j.err != nil {
			e.result.Failed++
			continue
		}
		if j.idle() && !j.sick {
			e.result.Unchanged++
		} else {
			e.result.Pushed++
		}
		j.done = true
		for _, u := range j.unlisted {
			t.lack(u)
		}
	}
	return t.err()
}

// failed is the error of a run that ended before anything was sent: it lists
// the items that are not known to be there.
func (e *engine) failed(err error) error {
	if _, ok := errors.AsType[*RefusedError](err); ok {
		return err // it speaks of the whole bundle
	}
	var missing []string
	for _, j := range e.jobs {
		if j.state != Same {
			missing = append(missing, j.name())
		}
	}
	if len(missing) == 0 {
		return err
	}
	return &FailedError{Of: "items", Missing: missing, Errs: []error{err}}
}

// fatal reports whether no other item can fare better.
func fatal(err error) bool {
	if _, ok := errors.AsType[*remote.UnreachableError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*remote.TLSError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*remote.PlainHTTPError](err); ok {
		return true
	}
	// Being forbidden may concern one repository, being unknown does not.
	if a, ok := errors.AsType[*remote.AuthError](err); ok {
		s, ok := errors.AsType[*remote.StatusError](a.Err)
		return !ok || s.Status == http.StatusUnauthorized
	}
	return false
}

// finish pushes an item's manifests and tags once its blobs are there. Where
// the record claimed more than the registry has, that is sent again, once.
func (e *engine) finish(ctx context.Context, j *job, tasks map[digest.Digest]*blobTask) error {
	for _, b := range j.blobs {
		if err := tasks[b.Digest].done[j.repo.path].wait(ctx); err != nil {
			return fmt.Errorf("push %s: %w", j.name(), err)
		}
	}
	doubt, err := e.name(ctx, j)
	if err == nil || doubt == certain {
		return err
	}
	healed, herr := e.heal(ctx, j, doubt)
	if herr != nil {
		return fmt.Errorf("push %s: %w", j.name(), e.opts.about(herr, j.name()))
	}
	if !healed {
		return err
	}
	_, err = e.name(ctx, j)
	return err
}

// name writes manifests and tags and looks whether they are there. It also says
// whether what it built on may be the reason for its error.
func (e *engine) name(ctx context.Context, j *job) (doubt, error) {
	if err := e.small.acquire(ctx); err != nil {
		return certain, err
	}
	err := e.manifests(ctx, j)
	e.small.release()
	if err != nil {
		return doubtful(err), fmt.Errorf("push %s: %w", j.name(), e.opts.about(err, j.name()))
	}
	err = e.confirm(ctx, j)
	return doubtful(err), err
}

// doubt is what an error makes of what was believed before it.
type doubt int

const (
	certain     doubt = iota
	doubtRecord       // the record may be wrong
	doubtBlobs        // the registry says that a blob is not there
)

// doubtful reports what an error casts doubt on: the registry lacks a blob or a
// child of a manifest. Not all of them say so with the code that the
// distribution-spec has for it.
func doubtful(err error) doubt {
	if hasCode(err, errcode.ErrorCodeManifestBlobUnknown) {
		return doubtBlobs
	}
	s := status(err)
	if s == http.StatusBadRequest || s == http.StatusNotFound || errors.Is(err, errVanished) {
		return doubtRecord
	}
	return certain
}

// heal forgets what the record claims of an item, asks again for what is in
// doubt, and sends what is missing. It reports whether anything was.
func (e *engine) heal(ctx context.Context, j *job, d doubt) (bool, error) {
	e.healing.Lock()
	defer e.healing.Unlock()
	healed := d == doubtBlobs
	for _, n := range slices.Concat(j.body, j.refs) {
		f := fact{Kind: factManifest, Repository: j.repo.path, Digest: n.desc.Digest}
		if e.rec.recalled(f) {
			e.rec.forget(f)
			healed = true
		}
	}
	for _, b := range j.blobs {
		f := fact{Kind: factBlob, Repository: j.repo.path, Digest: b.Digest}
		recalled := e.rec.recalled(f)
		if !recalled && d != doubtBlobs {
			continue
		}
		if recalled {
			e.rec.forget(f)
		}
		healed = true
		if err := e.bring(ctx, e.flow, j.repo, nil, b); err != nil {
			return healed, fmt.Errorf("blob %s: %w", b.Digest, err)
		}
	}
	return healed, nil
}

// manifests writes an item's manifests in the order in which each is complete
// when it is written, tags last.
func (e *engine) manifests(ctx context.Context, j *job) error {
	body := j.body
	if j.state == Absent && len(j.refs) == 0 && len(j.cosig) == 0 && j.item.body[len(j.item.body)-1].subject == "" {
		// Nothing comes between the root and its tag: one write does for both.
		body = body[:len(body)-1]
	}
	for _, n := range body {
		if err := e.putOnce(ctx, j.repo, n); err != nil {
			return err
		}
	}
	for _, n := range j.refs {
		if j.item.tagged(n) {
			continue // written by its tag
		}
		if err := e.putOnce(ctx, j.repo, n); err != nil {
			return err
		}
	}
	for _, c := range j.cosig {
		if err := e.put(ctx, j.repo, c.node, c.tag); err != nil {
			return err
		}
	}
	if err := e.relate(ctx, j); err != nil {
		return err
	}
	if j.state == Same {
		return nil
	}
	return e.put(ctx, j.repo, j.item.body[len(j.item.body)-1], j.item.Tag)
}

// put writes a manifest under a tag or digest, when it is its turn.
func (e *engine) put(ctx context.Context, r *repo, n *node, reference string) error {
	return e.try(ctx, func() error {
		if err := e.pacer.wait(ctx); err != nil {
			return err
		}
		return r.put(ctx, n, reference)
	})
}

// putOnce writes a manifest by digest, once for all items that hold it, and not
// at all where the record has it.
func (e *engine) putOnce(ctx context.Context, r *repo, n *node) error {
	f := fact{Kind: factManifest, Repository: r.path, Digest: n.desc.Digest}
	if e.rec.recalled(f) {
		return nil
	}
	err := r.once(ctx, n.desc.Digest, func() error { return e.put(ctx, r, n, n.desc.Digest.String()) })
	if err == nil {
		e.rec.add(f)
	}
	return err
}
