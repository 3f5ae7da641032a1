package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// mend sends again, once, what a registry lost or holds as something else, and
// returns what then does not come back, and what was not read for other
// reasons. A tag names what it should all along, so none is written. Some
// registries keep what they have of a digest whatever is sent: then reading
// shows that nothing was gained.
func (e *engine) mend(ctx context.Context, jobs map[*repo][]*job, bad []lack) []lack {
	e.mending.Store(true)
	defer e.mending.Store(false)
	var left, blobs []lack
	lost := map[*repo]map[digest.Digest]bool{} // manifests
	for _, b := range bad {
		switch {
		case status(b.err) != http.StatusNotFound && !errors.Is(b.err, errDiffers):
			left = append(left, b)
		case !b.manifest:
			blobs = append(blobs, b)
		default:
			if lost[b.repo] == nil {
				lost[b.repo] = map[digest.Digest]bool{}
			}
			lost[b.repo][b.desc.Digest] = true
		}
	}
	sent, failed := e.mendBlobs(ctx, blobs)
	left = append(left, failed...)
	for r, digests := range lost {
		again, failed := e.mendManifests(ctx, r, jobs[r], digests)
		sent, left = append(sent, again...), append(left, failed...)
	}
	for _, c := range sent {
		for _, j := range jobs[c.repo] {
			j.sick = j.sick || j.holds(c.desc.Digest)
		}
	}
	return append(left, e.readEach(ctx, sent)...)
}

// mendBlobs sends blobs again.
func (e *engine) mendBlobs(ctx context.Context, list []lack) (sent []content, failed []lack) {
	var g errgroup.Group
	g.SetLimit(e.opts.workers())
	var mu sync.Mutex
	for _, b := range list {
		g.Go(func() error {
			err := e.bring(ctx, e.flow, b.repo, nil, b.desc)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, lack{b.content, fmt.Errorf("send it again: %w", e.opts.about(err, b.name()))})
			} else {
				sent = append(sent, b.content)
			}
			return nil // the others are sent all the same
		})
	}
	_ = g.Wait() // no function returns an error
	return sent, failed
}

// mendManifests writes lost manifests of a repository again, each after what it
// refers to.
func (e *engine) mendManifests(ctx context.Context, r *repo, jobs []*job, lost map[digest.Digest]bool) (sent []content, failed []lack) {
	for _, j := range jobs {
		for n := range j.item.manifests() {
			if !lost[n.desc.Digest] {
				continue
			}
			delete(lost, n.desc.Digest)
			c := content{repo: r, desc: n.desc, manifest: true}
			if err := e.put(ctx, r, n, n.desc.Digest.String()); err != nil {
				failed = append(failed, lack{c, fmt.Errorf("send it again: %w", e.opts.about(err, c.name()))})
			} else {
				sent = append(sent, c)
			}
		}
	}
	return sent, failed
}
