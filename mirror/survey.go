package mirror

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// survey asks the target, refuses what it will not take, then asks the registry
// for every tag. It changes nothing.
func (e *engine) survey(ctx context.Context) error {
	state, err := e.target.Inspect(ctx, e.request())
	if err != nil {
		return fmt.Errorf("inspect %s: %w", e.plan.To, e.opts.explain(err))
	}
	e.state = state
	fatal := slices.DeleteFunc(slices.Clone(state.Notices), func(n target.Notice) bool { return !n.Fatal })
	if len(fatal) > 0 {
		return &RefusedError{Target: e.plan.To, Notices: fatal}
	}
	if state.CrossMount == target.MountNever {
		e.noMount.Store(true)
	}
	return e.inspect(ctx)
}

// request says what goes where.
func (e *engine) request() target.Request {
	needs := map[string]*target.Need{}
	for _, j := range e.jobs {
		n := needs[j.repo.path]
		if n == nil {
			n = &target.Need{Name: j.repo.path}
			needs[j.repo.path] = n
		}
		n.Tags = append(n.Tags, j.item.Tag)
		for _, c := range j.item.cosig {
			n.Tags = append(n.Tags, c.tag)
		}
		for m := range j.item.manifests() {
			n.Manifests++
			n.Bytes += m.desc.Size
		}
		for _, b := range j.item.Blobs {
			n.Bytes += b.Size
		}
	}
	var r target.Request
	for _, n := range needs {
		slices.Sort(n.Tags)
		n.Tags = slices.Compact(n.Tags)
		r.Repositories = append(r.Repositories, *n)
	}
	slices.SortFunc(r.Repositories, func(a, b target.Need) int { return cmp.Compare(a.Name, b.Name) })
	return r
}

// inspect asks for every tag. It returns an error only if the registry cannot
// be talked to at all; what concerns one item is kept there.
func (e *engine) inspect(ctx context.Context) error {
	look := func(ctx context.Context, j *job) error {
		j.err = e.look(ctx, j)
		if fatal(j.err) || ctx.Err() != nil {
			return j.err
		}
		return nil
	}
	jobs := e.jobs
	if len(jobs) > 0 {
		// One alone first: directories lock accounts out after a few wrong passwords.
		if err := look(ctx, jobs[0]); err != nil {
			return err
		}
		jobs = jobs[1:]
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(e.opts.workers() + e.opts.extra())
	for _, j := range jobs {
		g.Go(func() error { return look(ctx, j) })
	}
	return g.Wait()
}

// look fills a job with what is missing.
func (e *engine) look(ctx context.Context, j *job) error {
	it := j.item
	state, err := e.lookAt(ctx, j, it.Tag, it.Root.Digest)
	j.state = state
	if err != nil {
		return err
	}
	for _, c := range it.cosig {
		state, err := e.lookAt(ctx, j, c.tag, c.node.desc.Digest)
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

// lookAt compares what a tag names with what it should. A repository that is
// not there is not asked: some registries answer as if the login were wrong.
func (e *engine) lookAt(ctx context.Context, j *job, tag string, want digest.Digest) (State, error) {
	seen := SeenTag{Tag: tag, Want: want}
	defer func() { j.seen = append(j.seen, seen) }()
	if e.state.Repositories[j.repo.path] == target.Missing {
		return Absent, nil
	}
	got, found, err := e.head(ctx, j.repo, tag)
	switch {
	case err != nil:
		return Unknown, fmt.Errorf("look at %s:%s: %w", j.repo.name, tag, e.opts.about(err, j.repo.name+":"+tag))
	case !found:
		return Absent, nil
	}
	seen.Have = got
	if got != want {
		return Conflict, &ConflictError{Target: j.repo.name + ":" + tag, Existing: got, Want: want}
	}
	return Same, nil
}

// head is repo.head, repeated where that may help.
func (e *engine) head(ctx context.Context, r *repo, reference string) (got digest.Digest, found bool, err error) {
	err = e.try(ctx, func() error {
		got, found, err = r.head(ctx, reference)
		return err
	})
	return got, found, err
}

// missing lists the referrers that the repository lacks or does not list. What
// a registry lists through its API is there; an index under the fallback tag
// may list what is gone. Manifests that cosign finds by tag were looked at by tag.
func (e *engine) missing(ctx context.Context, r *repo, it *Item) ([]*node, error) {
	lacking := map[*node]bool{}
	for _, f := range families(it.refs) {
		unlisted, err := e.unlisted(ctx, r, f)
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", r.name, e.opts.about(err, r.name))
		}
		for _, n := range unlisted {
			lacking[n] = true
		}
	}
	for _, n := range it.refs {
		if lacking[n] || it.tagged(n) || n.subject != "" && r.referrers.Load() == referrersAPI {
			continue
		}
		object := r.name + "@" + n.desc.Digest.String()
		got, found, err := e.head(ctx, r, n.desc.Digest.String())
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", object, e.opts.about(err, object))
		}
		if found && got != n.desc.Digest {
			return nil, misnamed(object, got)
		}
		lacking[n] = !found
	}
	return slices.DeleteFunc(slices.Clone(it.refs), func(n *node) bool { return !lacking[n] }), nil
}

func nodesOf(list []tagged) []*node {
	nodes := make([]*node, len(list))
	for i, t := range list {
		nodes[i] = t.node
	}
	return nodes
}
