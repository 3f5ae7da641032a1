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
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// engine carries out a plan against one registry.
type engine struct {
	src   source
	opts  Options
	host  string
	jobs  []*job
	repos map[string]*repo
	pause func(ctx context.Context, attempt int, err error) error // between attempts

	patch   atomic.Bool // the registry takes no monolithic PUT
	noMount atomic.Bool // the registry refuses mount requests

	mu     sync.Mutex
	result Result
}

// job is an item on its way. Only the goroutine that works on it writes it.
type job struct {
	item  *Item
	repo  *repo
	state State
	err   error
	done  bool // it is there

	// What is missing at the target.
	body  []*node
	refs  []*node
	cosig []tagged
	blobs []bundle.Descriptor
}

// idle reports whether nothing is missing.
func (j *job) idle() bool { return j.state == Same && len(j.refs) == 0 && len(j.cosig) == 0 }

// writes counts the manifests and tags still to be written and the last look.
func (j *job) writes() int {
	if j.idle() {
		return 0
	}
	n := len(j.body) + len(j.refs) + len(j.cosig)
	if j.state != Same && n > len(j.body) {
		n++ // the root goes by digest first, then by tag
	}
	return n + 1
}

func newEngine(src source, o Options, plan *Plan) (*engine, error) {
	if o.Hosts == nil {
		return nil, errors.New("mirror: no client for the target registry")
	}
	e := &engine{src: src, opts: o, host: plan.host, repos: map[string]*repo{}, pause: pause}
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

// run looks at every tag, then sends what is missing.
func (e *engine) run(ctx context.Context) error {
	if err := e.inspect(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tasks := e.schedule()
	var wg sync.WaitGroup
	wg.Go(func() { e.sendBlobs(ctx, tasks) })
	slots := make(chan struct{}, e.opts.workers())
	for _, j := range e.jobs {
		if j.err != nil || j.idle() {
			continue
		}
		wg.Go(func() {
			if j.err = e.finish(ctx, j, tasks, slots); fatal(j.err) {
				cancel(j.err)
			}
		})
	}
	wg.Wait()
	return e.conclude(ctx)
}

// conclude counts and joins the errors of items. Items that only stopped
// because another's error stopped the run are not listed again.
func (e *engine) conclude(ctx context.Context) error {
	var errs []error
	cause := context.Cause(ctx)
	if cause != nil {
		errs = append(errs, cause)
	}
	for _, j := range e.jobs {
		switch {
		case j.err != nil:
			e.result.Failed++
			if cause == nil || !errors.Is(j.err, cause) && !errors.Is(j.err, context.Canceled) {
				errs = append(errs, j.err)
			}
			continue
		case j.idle():
			e.result.Unchanged++
		default:
			e.result.Pushed++
		}
		j.done = true
	}
	if e.result.Failed == 0 {
		return nil
	}
	if done := e.result.Unchanged + e.result.Pushed; done > 0 {
		return &PartialError{Done: done, Total: len(e.jobs), Errs: errs}
	}
	return errors.Join(errs...)
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

// inspect asks for every tag. It returns an error only if the registry cannot
// be talked to at all; what concerns one item is kept there.
func (e *engine) inspect(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(e.opts.workers())
	for _, j := range e.jobs {
		g.Go(func() error {
			j.err = e.look(ctx, j)
			if fatal(j.err) || ctx.Err() != nil {
				return j.err
			}
			return nil
		})
	}
	return g.Wait()
}

// look fills a job with what is missing.
func (e *engine) look(ctx context.Context, j *job) error {
	it := j.item
	state, err := e.tagState(ctx, j.repo, it.Tag, it.Root.Digest)
	j.state = state
	if err != nil {
		return err
	}
	for _, c := range it.cosig {
		state, err := e.tagState(ctx, j.repo, c.tag, c.node.desc.Digest)
		if err != nil {
			j.state = state
			return err
		}
		if state == Absent {
			j.cosig = append(j.cosig, c)
		}
	}
	if j.state == Absent {
		j.body, j.refs, j.blobs = it.body, it.refs, it.Blobs
		return nil
	}
	// The tag is right, so what it names is complete. Signatures may have been
	// added since: a later bundle carries the same image with more of them.
	if j.refs, err = e.missing(ctx, j.repo, it); err != nil {
		return err
	}
	j.blobs = distinctBlobs(slices.Concat(j.refs, nodesOf(j.cosig)))
	return nil
}

func (e *engine) tagState(ctx context.Context, r *repo, tag string, want digest.Digest) (State, error) {
	got, found, err := r.head(ctx, tag)
	switch {
	case err != nil:
		return Unknown, fmt.Errorf("look at %s:%s: %w", r.name, tag, e.opts.explain(err))
	case !found:
		return Absent, nil
	case got != want:
		return Conflict, &ConflictError{Target: e.host + "/" + r.path + ":" + tag, Existing: got, Want: want}
	}
	return Same, nil
}

// missing lists the referrers that the repository lacks. Manifests that cosign
// finds by tag are looked at by tag.
func (e *engine) missing(ctx context.Context, r *repo, it *Item) ([]*node, error) {
	var list []*node
	for _, n := range it.refs {
		if slices.ContainsFunc(it.cosig, func(t tagged) bool { return t.node == n }) {
			continue
		}
		_, found, err := r.head(ctx, n.desc.Digest.String())
		if err != nil {
			return nil, fmt.Errorf("look at %s@%s: %w", r.name, n.desc.Digest, e.opts.explain(err))
		}
		if !found {
			list = append(list, n)
		}
	}
	return list, nil
}

func nodesOf(list []tagged) []*node {
	nodes := make([]*node, len(list))
	for i, t := range list {
		nodes[i] = t.node
	}
	return nodes
}

// finish pushes an item's manifests and tags once its blobs are there.
func (e *engine) finish(ctx context.Context, j *job, tasks map[digest.Digest]*blobTask, slots chan struct{}) error {
	for _, b := range j.blobs {
		if err := tasks[b.Digest].done[j.repo.path].wait(ctx); err != nil {
			return fmt.Errorf("push %s:%s: %w", j.repo.name, j.item.Tag, err)
		}
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := e.manifests(ctx, j); err != nil {
		return fmt.Errorf("push %s:%s: %w", j.repo.name, j.item.Tag, e.opts.explain(err))
	}
	state, err := e.tagState(ctx, j.repo, j.item.Tag, j.item.Root.Digest)
	if err == nil && state != Same {
		err = fmt.Errorf("verify %s:%s: the registry took it and does not have it", j.repo.name, j.item.Tag)
	}
	return err
}

// manifests writes an item's manifests in the order in which each is complete
// when it is written, tags last.
func (e *engine) manifests(ctx context.Context, j *job) error {
	body := j.body
	if j.state == Absent && len(j.refs) == 0 && len(j.cosig) == 0 {
		// Nothing comes between the root and its tag: one write does for both.
		body = body[:len(body)-1]
	}
	for _, n := range body {
		if err := j.repo.pushOnce(ctx, n); err != nil {
			return err
		}
	}
	for _, n := range j.refs {
		if slices.ContainsFunc(j.item.cosig, func(t tagged) bool { return t.node == n }) {
			continue // written by its tag
		}
		if err := j.repo.pushOnce(ctx, n); err != nil {
			return err
		}
	}
	for _, c := range j.cosig {
		if err := j.repo.put(ctx, c.node, c.tag); err != nil {
			return err
		}
	}
	if j.state == Same {
		return nil
	}
	return j.repo.put(ctx, j.item.body[len(j.item.body)-1], j.item.Tag)
}
