package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Limits on what one reference may bring.
const (
	// concurrency bounds the requests of one resolve that are under way.
	concurrency = 8
	// maxManifests bounds the manifests of one item: a wide index has 40
	// children, each with a few attestations and signatures.
	maxManifests = 4096
	// maxBytes bounds their bytes, which are held in memory.
	maxBytes = 128 << 20
	// maxBlobs bounds the configs and layers of one item.
	maxBlobs = 65536
)

// resolver pins one reference. Its methods are called by one goroutine; only
// fetches run in parallel, and their results are put in order.
type resolver struct {
	fetcher
	spool   *bundle.Spool
	written string
	nodes   map[digest.Digest]*node // everything fetched
	bytes   int64
}

// wanted is a manifest to fetch and what it is to the item.
type wanted struct {
	desc bundle.Descriptor
	role string
	ref  string
	// subject is set for a referrer, which may have been deleted since it was listed.
	subject digest.Digest
}

func (r *resolver) pin(ctx context.Context) (bundle.Pin, error) {
	root, err := r.root(ctx)
	if err != nil {
		return bundle.Pin{}, err
	}
	pin := bundle.Pin{
		Item:   bundle.Item{Kind: bundle.KindImage, Name: r.written, Ref: r.written},
		Origin: r.ref.Name() + tagOf(r.ref) + "@" + root.Digest.String(),
	}
	list, err := r.carried(ctx, root)
	if err != nil {
		return bundle.Pin{}, err
	}
	subjects := slices.DeleteFunc(slices.Clone(list), func(n *node) bool { return r.nodes[n.Digest] == nil }) // not the derived index
	attached, err := r.attached(ctx, subjects)
	if err != nil {
		return bundle.Pin{}, err
	}
	list = append(list, attached...)
	for _, n := range list {
		pin.Manifests = append(pin.Manifests, n.Manifest)
	}
	pin.Blobs, err = r.blobs(ctx, list)
	return pin, err
}

func tagOf(ref remote.Reference) string {
	if ref.Tag == "" {
		return ""
	}
	return ":" + ref.Tag
}

// root fetches what the reference names: the digest if there is one, else the
// tag, else latest.
func (r *resolver) root(ctx context.Context) (*node, error) {
	reference := r.ref.Tag
	if r.ref.Digest != "" {
		reference = r.ref.Digest.String()
	} else if reference == "" {
		reference = "latest"
	}
	n, err := r.manifest(ctx, reference, nil)
	if err != nil {
		return nil, err
	}
	if r.ref.Digest != "" && n.Digest != r.ref.Digest {
		return nil, &DigestError{Object: r.object(reference), Want: r.ref.Digest, Got: n.Digest}
	}
	n.Role, n.Ref = bundle.RoleRoot, r.written
	r.nodes[n.Digest] = n
	r.bytes += n.Size
	return n, nil
}

// carried returns the root and what it consists of, the root first.
func (r *resolver) carried(ctx context.Context, root *node) ([]*node, error) {
	if !bundle.IsIndex(root.MediaType) {
		return []*node{root}, r.single(ctx, root)
	}
	list := []*node{root}
	children := root.parsed.Children
	if r.want != nil {
		keep, err := r.choose(ctx, root)
		if err != nil {
			return nil, err
		}
		children = slices.DeleteFunc(slices.Clone(children), func(d bundle.Descriptor) bool { return !keep[d.Digest] })
		if len(children) < len(root.parsed.Children) {
			derived, err := r.derived(root, keep)
			if err != nil {
				return nil, err
			}
			root.Role, root.Ref = bundle.RoleSourceIndex, ""
			list = []*node{derived, root}
		}
	}
	below, err := r.tree(ctx, children)
	return append(list, below...), err
}

// single checks and notes the platform of a manifest that stands alone.
func (r *resolver) single(ctx context.Context, n *node) error {
	if !isImageConfig(n.parsed.Config.MediaType) {
		return nil // an artifact is for every platform
	}
	raw, err := r.config(ctx, *n.parsed.Config)
	if err != nil {
		return err
	}
	n.Platform, err = configPlatform(raw)
	if err != nil {
		return &FormatError{Object: r.object(n.Digest.String()), Reason: err.Error()}
	}
	if r.want == nil {
		return nil
	}
	s := newSelection(r.want)
	s.take(n.Platform)
	return s.check(r.written)
}

// choose returns the children of root to carry. A nested index that does not
// say its platform is carried, whole, if a chosen one is in it.
func (r *resolver) choose(ctx context.Context, root *node) (map[digest.Digest]bool, error) {
	s := newSelection(r.want)
	for _, d := range root.parsed.Children {
		p := realPlatform(d)
		if p != nil || !bundle.IsIndex(d.MediaType) {
			if s.take(p) {
				s.keep[d.Digest] = true
			}
			continue
		}
		below, err := r.tree(ctx, []bundle.Descriptor{d})
		if err != nil {
			return nil, err
		}
		for _, n := range below {
			if s.take(n.Platform) {
				s.keep[d.Digest] = true
			}
		}
	}
	s.attestations(root.parsed.Children)
	return s.keep, s.check(r.written)
}

// derived makes the index of the children that are kept, as a root.
func (r *resolver) derived(root *node, keep map[digest.Digest]bool) (*node, error) {
	raw, err := derive(root.Manifest, func(d digest.Digest) bool { return keep[d] })
	if err != nil {
		return nil, err
	}
	desc, err := r.spool.AddBytes(root.MediaType, raw)
	if err != nil {
		return nil, err
	}
	parsed, err := bundle.ParseNode(root.MediaType, raw)
	if err != nil {
		return nil, fmt.Errorf("derive index: %w", err)
	}
	return &node{Manifest: bundle.Manifest{Descriptor: desc, Role: bundle.RoleRoot, Ref: r.written, Raw: raw}, parsed: parsed}, nil
}

// tree returns the manifests that descs name and all below them, level by
// level, each digest once.
func (r *resolver) tree(ctx context.Context, descs []bundle.Descriptor) ([]*node, error) {
	var out []*node
	seen := map[digest.Digest]bool{}
	for depth := 1; len(descs) > 0; depth++ {
		if depth > archive.MaxDepth {
			return nil, &FormatError{Object: r.written, Reason: fmt.Sprintf("indexes nest deeper than %d", archive.MaxDepth)}
		}
		var level []wanted
		for _, d := range descs {
			if !seen[d.Digest] {
				seen[d.Digest] = true
				level = append(level, wanted{desc: d, role: bundle.RoleChild})
			}
		}
		nodes, err := r.fetch(ctx, level)
		if err != nil {
			return nil, err
		}
		descs = nil
		for i, n := range nodes {
			if n.Platform == nil && n.Role == bundle.RoleChild {
				n.Platform = realPlatform(level[i].desc)
			}
			descs = append(descs, n.parsed.Children...)
		}
		out = append(out, nodes...)
	}
	return out, nil
}

// fetch gets manifests that are not here yet, in parallel, and returns all in
// the order asked for. A referrer that is gone is left out.
func (r *resolver) fetch(ctx context.Context, list []wanted) ([]*node, error) {
	count, size := len(r.nodes), r.bytes
	for _, w := range list {
		if r.nodes[w.desc.Digest] == nil {
			count++
			size += w.desc.Size
		}
	}
	if count > maxManifests || size > maxBytes {
		return nil, &FormatError{Object: r.written, Reason: fmt.Sprintf("it brings %d manifests of %d bytes; at most %d of %d bytes are carried for one reference", count, size, maxManifests, maxBytes)}
	}
	nodes := make([]*node, len(list))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrency)
	for i, w := range list {
		if n := r.nodes[w.desc.Digest]; n != nil {
			nodes[i] = n
			continue
		}
		g.Go(func() error {
			n, err := r.manifest(gctx, w.desc.Digest.String(), &w.desc)
			if _, gone := errors.AsType[*remote.NotFoundError](err); gone && w.subject != "" {
				return nil
			}
			if err != nil {
				return err
			}
			n.Role, n.Ref = w.role, w.ref
			nodes[i] = n
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	nodes = slices.DeleteFunc(nodes, func(n *node) bool { return n == nil })
	for _, n := range nodes {
		if r.nodes[n.Digest] == nil {
			r.nodes[n.Digest] = n
			r.bytes += n.Size
		}
	}
	return nodes, nil
}

// blobs lists configs and layers in order of first mention.
func (r *resolver) blobs(ctx context.Context, list []*node) ([]bundle.Descriptor, error) {
	var out []bundle.Descriptor
	sizes := map[digest.Digest]int64{}
	for _, n := range list {
		for _, d := range n.parsed.Blobs() {
			size, ok := sizes[d.Digest]
			if ok && size != d.Size {
				return nil, &FormatError{Object: r.object(n.Digest.String()), Reason: fmt.Sprintf("blob %s is named with sizes %d and %d", d.Digest, size, d.Size)}
			}
			if ok {
				continue
			}
			if len(sizes) == maxBlobs {
				return nil, &FormatError{Object: r.written, Reason: fmt.Sprintf("it has more than %d blobs", maxBlobs)}
			}
			sizes[d.Digest] = d.Size
			if err := r.distributable(ctx, n, d); err != nil {
				return nil, err
			}
			out = append(out, bundle.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
		}
	}
	return out, nil
}
