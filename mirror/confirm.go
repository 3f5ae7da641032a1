package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"

	"github.com/airlock-project/airlock/bundle"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// maxSample is the largest blob that VerifySample reads back.
const maxSample = 256 << 20

// confirm asks for all that was written for an item, and notes its tag.
func (e *engine) confirm(ctx context.Context, j *job) error {
	root := j.item.Root.Digest
	for _, n := range slices.Concat(j.body, j.refs) {
		if n.desc.Digest == root || j.item.tagged(n) {
			continue // its tag stands for it
		}
		// A referrer is only of use if it is there under its digest.
		if err := e.expect(ctx, j.repo, n.desc.Digest.String(), n.desc.Digest); err != nil {
			return err
		}
	}
	for _, c := range j.cosig {
		if err := e.expect(ctx, j.repo, c.tag, c.node.desc.Digest); err != nil {
			return err
		}
		e.rec.add(fact{Kind: factTag, Repository: j.repo.path, Tag: c.tag, Digest: c.node.desc.Digest})
	}
	if err := e.expect(ctx, j.repo, j.item.Tag, root); err != nil {
		return err
	}
	e.rec.add(fact{Kind: factTag, Repository: j.repo.path, Tag: j.item.Tag, Digest: root})
	return nil
}

// expect asks for a tag or digest that must name want.
func (e *engine) expect(ctx context.Context, r *repo, reference string, want digest.Digest) error {
	object := r.name + ":" + reference
	if reference == want.String() {
		object = r.name + "@" + reference
	}
	got, found, err := e.head(ctx, r, reference)
	switch {
	case err != nil:
		return fmt.Errorf("look at %s: %w", object, e.opts.explain(err))
	case !found:
		return &VerifyError{Object: object, Err: errVanished}
	case got != want:
		return &ConflictError{Target: object, Existing: got, Want: want}
	}
	return nil
}

// readBack reads what the level asks for out of every repository. What does not
// come back the same fails the items that hold it.
func (e *engine) readBack(ctx context.Context) {
	level := cmp.Or(e.opts.Verify, VerifyHead)
	if level == VerifyHead || ctx.Err() != nil {
		return
	}
	jobs := map[*repo][]*job{}
	for _, j := range e.jobs {
		if j.err == nil {
			jobs[j.repo] = append(jobs[j.repo], j)
		}
	}
	var g errgroup.Group
	g.SetLimit(e.opts.workers())
	var mu sync.Mutex
	for _, path := range slices.Sorted(maps.Keys(e.repos)) {
		r := e.repos[path]
		for _, c := range e.toRead(level, jobs[r]) {
			g.Go(func() error {
				if err := e.readOne(ctx, r, c); err != nil {
					mu.Lock()
					defer mu.Unlock()
					blame(jobs[r], c.desc.Digest, err)
				}
				return nil // the others are read all the same
			})
		}
	}
	_ = g.Wait() // no function returns an error
}

// content is something to read back.
type content struct {
	desc     bundle.Descriptor
	manifest bool
}

// toRead lists what a level reads of one repository, each digest once.
func (e *engine) toRead(level Level, jobs []*job) []content {
	blobs := map[digest.Digest]content{}
	all := map[digest.Digest]content{}
	for _, j := range jobs {
		for _, b := range j.item.Blobs {
			blobs[b.Digest] = content{desc: b}
		}
		for n := range j.item.manifests() {
			all[n.desc.Digest] = content{desc: n.desc, manifest: true}
		}
	}
	if level == VerifyFull {
		maps.Copy(all, blobs)
		return slices.Collect(maps.Values(all))
	}
	maps.DeleteFunc(blobs, func(_ digest.Digest, c content) bool { return c.desc.Size > maxSample })
	if len(blobs) == 0 {
		return nil
	}
	keys := slices.Sorted(maps.Keys(blobs))
	return []content{blobs[keys[rand.IntN(len(keys))]]}
}

// blame fails the items that hold a digest.
func blame(jobs []*job, d digest.Digest, err error) {
	for _, j := range jobs {
		holds := slices.ContainsFunc(j.item.Blobs, func(b bundle.Descriptor) bool { return b.Digest == d })
		for n := range j.item.manifests() {
			holds = holds || n.desc.Digest == d
		}
		if holds && j.err == nil {
			j.err = err
		}
	}
}

// readOne reads and hashes a blob or manifest.
func (e *engine) readOne(ctx context.Context, r *repo, c content) error {
	if err := e.flow.acquire(ctx); err != nil {
		return err
	}
	defer e.flow.release()
	if err := e.try(ctx, func() error { return r.read(ctx, c) }); err != nil {
		return &VerifyError{Object: r.name + "@" + c.desc.Digest.String(), Err: e.opts.explain(err)}
	}
	return nil
}

// errDiffers is the cause where other bytes came back than were sent.
var errDiffers = errors.New("other content came back")

func (r *repo) read(ctx context.Context, c content) error {
	what := "/blobs/"
	if c.manifest {
		what = "/manifests/"
	}
	req, err := r.request(ctx, http.MethodGet, r.base+what+c.desc.Digest.String(), nil)
	if err != nil {
		return err
	}
	if c.manifest {
		req.Header.Set("Accept", acceptManifests)
	}
	resp, err := r.Client.Do(req)
	if err != nil {
		return err
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusOK {
		return readError(resp)
	}
	h := digest.SHA256.Digester()
	n, err := io.Copy(h.Hash(), io.LimitReader(resp.Body, c.desc.Size+1))
	if err != nil {
		return err
	}
	if n != c.desc.Size || h.Digest() != c.desc.Digest {
		return errDiffers
	}
	return nil
}
