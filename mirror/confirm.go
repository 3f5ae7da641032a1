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
		return fmt.Errorf("look at %s: %w", object, e.opts.about(err, object))
	case !found:
		return &VerifyError{Object: object, Err: errVanished}
	case got != want && reference == want.String():
		return misnamed(object, got)
	case got != want:
		return &ConflictError{Target: object, Existing: got, Want: want}
	}
	return nil
}

// misnamed is the error of a registry that answers a question for one digest
// with another: a tag can name other content, a digest cannot.
func misnamed(object string, got digest.Digest) error {
	return &VerifyError{Object: object, Err: fmt.Errorf("the registry answers that it is %s, which cannot be", got)}
}

// readBack reads what the level asks for out of every repository and sends
// again what does not come back. What then does not come back the same fails
// the items that hold it. A sample that is missing casts doubt on its
// repository: all of that is read.
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
	var list []content
	for _, path := range slices.Sorted(maps.Keys(e.repos)) {
		r := e.repos[path]
		list = append(list, toRead(level, r, jobs[r])...)
	}
	bad := e.readEach(ctx, list)
	if level == VerifySample {
		var whole []content
		for _, b := range bad {
			whole = append(whole, toRead(VerifyFull, b.repo, jobs[b.repo])...)
		}
		bad = e.readEach(ctx, whole)
	}
	for _, b := range e.mend(ctx, jobs, bad) {
		blame(jobs[b.repo], b.desc.Digest, &VerifyError{Object: b.name(), Err: e.unread(b)})
	}
}

// unread is why something was not read, for people.
func (e *engine) unread(l lack) error {
	if status(l.err) == http.StatusNotFound {
		return errVanished
	}
	return e.opts.about(l.err, l.name())
}

// content is something to read back.
type content struct {
	repo     *repo
	desc     bundle.Descriptor
	manifest bool
}

// name is registry/repository@digest.
func (c content) name() string { return c.repo.name + "@" + c.desc.Digest.String() }

// lack is content that did not come back, with the error as it came.
type lack struct {
	content
	err error
}

// readEach reads and hashes content, all of it whatever happens to some.
func (e *engine) readEach(ctx context.Context, list []content) []lack {
	var g errgroup.Group
	g.SetLimit(e.opts.workers())
	var mu sync.Mutex
	var bad []lack
	for _, c := range list {
		g.Go(func() error {
			if err := e.readOne(ctx, c); err != nil {
				mu.Lock()
				defer mu.Unlock()
				bad = append(bad, lack{c, err})
			}
			return nil // the others are read all the same
		})
	}
	_ = g.Wait() // no function returns an error
	return bad
}

// toRead lists what a level reads of one repository, each digest once.
func toRead(level Level, r *repo, jobs []*job) []content {
	blobs := map[digest.Digest]content{}
	all := map[digest.Digest]content{}
	for _, j := range jobs {
		for _, b := range j.item.Blobs {
			blobs[b.Digest] = content{repo: r, desc: b}
		}
		for n := range j.item.manifests() {
			all[n.desc.Digest] = content{repo: r, desc: n.desc, manifest: true}
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

// holds reports whether a digest is among what the item needs.
func (j *job) holds(d digest.Digest) bool {
	for n := range j.item.manifests() {
		if n.desc.Digest == d {
			return true
		}
	}
	return slices.ContainsFunc(j.item.Blobs, func(b bundle.Descriptor) bool { return b.Digest == d })
}

// blame fails the items that hold a digest.
func blame(jobs []*job, d digest.Digest, err error) {
	for _, j := range jobs {
		if j.err == nil && j.holds(d) {
			j.err = err
		}
	}
}

// readOne reads and hashes a blob or manifest.
func (e *engine) readOne(ctx context.Context, c content) error {
	if err := e.flow.acquire(ctx); err != nil {
		return err
	}
	defer e.flow.release()
	return e.try(ctx, func() error { return c.repo.read(ctx, c) })
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
