package mirror

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/verify"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// source is what mirroring and serving ask of a verified bundle. Exported
// functions name *verify.Bundle, so that nothing unverified gets in.
type source interface {
	Info() verify.Info
	Items() iter.Seq2[bundle.Entry, error]
	Fetch(ctx context.Context, desc bundle.Descriptor) (io.ReadCloser, error)
	Manifest(d digest.Digest) (raw []byte, desc bundle.Descriptor, ok bool)
	Predecessors(ctx context.Context, desc bundle.Descriptor) ([]bundle.Descriptor, error)
}

// node is a carried manifest with what it points at.
type node struct {
	desc        bundle.Descriptor // digest, size and media type
	raw         []byte
	children    []bundle.Descriptor // of an index
	blobs       []bundle.Descriptor // config and layers of a manifest
	subject     digest.Digest       // empty without one
	derivedFrom digest.Digest       // empty unless Airlock chose platforms
	artifact    string              // as the referrers API reports it
	annotations map[string]string
}

// graph reads manifests of a bundle, each once. It is not safe for concurrent
// use.
type graph struct {
	src   source
	nodes map[digest.Digest]*node
}

func newGraph(src source) *graph {
	return &graph{src: src, nodes: map[digest.Digest]*node{}}
}

// node returns the carried manifest d.
func (g *graph) node(d digest.Digest) (*node, error) {
	if n, ok := g.nodes[d]; ok {
		return n, nil
	}
	raw, desc, ok := g.src.Manifest(d)
	if !ok {
		return nil, fmt.Errorf("manifest %s is not in the bundle", d)
	}
	var m struct {
		ArtifactType string               `json:"artifactType"`
		Config       *ocispec.Descriptor  `json:"config"`
		Layers       []ocispec.Descriptor `json:"layers"`
		Manifests    []ocispec.Descriptor `json:"manifests"`
		Subject      *ocispec.Descriptor  `json:"subject"`
		Annotations  map[string]string    `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("decode manifest %s: %w", d, err)
	}
	n := &node{
		desc:        bundle.Descriptor{MediaType: desc.MediaType, Digest: d, Size: int64(len(raw))},
		raw:         raw,
		children:    m.Manifests,
		derivedFrom: digest.Digest(m.Annotations[bundle.AnnotationDerivedFrom]),
		artifact:    m.ArtifactType,
		annotations: m.Annotations,
	}
	if m.Config != nil {
		n.blobs = append(n.blobs, *m.Config)
		// distribution-spec 1.1, "Listing Referrers".
		n.artifact = cmp.Or(n.artifact, m.Config.MediaType)
	}
	n.blobs = append(n.blobs, m.Layers...)
	if m.Subject != nil {
		n.subject = m.Subject.Digest
	}
	g.nodes[d] = n
	return n, nil
}

// closure appends d and all manifests below it to order, children first, each
// once. seen holds what order has already.
func (g *graph) closure(d digest.Digest, seen map[digest.Digest]bool, order []*node) ([]*node, error) {
	return g.descend(d, seen, order, 0)
}

func (g *graph) descend(d digest.Digest, seen map[digest.Digest]bool, order []*node, depth int) ([]*node, error) {
	if seen[d] {
		return order, nil
	}
	if depth > archive.MaxDepth {
		return nil, fmt.Errorf("index %s: indexes nest deeper than %d", d, archive.MaxDepth)
	}
	seen[d] = true
	n, err := g.node(d)
	if err != nil {
		return nil, err
	}
	for _, c := range n.children {
		if order, err = g.descend(c.Digest, seen, order, depth+1); err != nil {
			return nil, fmt.Errorf("index %s: %w", d, err)
		}
	}
	return append(order, n), nil
}

// referrers lists the carried manifests whose subject is d, by digest.
func (g *graph) referrers(ctx context.Context, d bundle.Descriptor) ([]*node, error) {
	preds, err := g.src.Predecessors(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("find referrers of %s: %w", d.Digest, err)
	}
	var list []*node
	for _, p := range preds {
		n, err := g.node(p.Digest)
		if err != nil {
			return nil, err
		}
		if n.subject == d.Digest {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b *node) int { return cmp.Compare(a.desc.Digest, b.desc.Digest) })
	return slices.CompactFunc(list, func(a, b *node) bool { return a.desc.Digest == b.desc.Digest }), nil
}

// attached appends to order the referrers of every manifest in order, and
// theirs, each after what it refers to and after its own children.
func (g *graph) attached(ctx context.Context, seen map[digest.Digest]bool, order []*node) ([]*node, error) {
	for i := 0; i < len(order); i++ {
		refs, err := g.referrers(ctx, order[i].desc)
		if err != nil {
			return nil, err
		}
		for _, r := range refs {
			if order, err = g.closure(r.desc.Digest, seen, order); err != nil {
				return nil, err
			}
		}
	}
	return order, nil
}
