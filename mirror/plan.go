package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/verify"
	"github.com/opencontainers/go-digest"
)

// Plan says what of a bundle goes where. Making one moves nothing and asks no
// registry.
type Plan struct {
	Bundle digest.Digest // of the bundle's index.json
	To     string        // registry and prefix
	Items  []Item        // by place
	// LeftOut counts what stays in the bundle: signatures and other referrers of
	// an index that was cut down to chosen platforms, and manifests without a
	// reference. Registries refuse an index with absent children, so what speaks
	// of it can be checked in the bundle only.
	LeftOut int

	host string // of To
}

// Item is one tag of the target and all that has to be there before it.
type Item struct {
	Place     // repository with the prefix, and tag
	Root      bundle.Descriptor
	Origins   []Origin // the references that end up here
	Platforms []string // of an index, sorted
	Blobs     []bundle.Descriptor

	sources []string // repositories of Origins

	body  []*node // children first, the root last
	refs  []*node // referrers and what they need, in the order of pushing
	cosig []tagged
}

// Origin is a reference of the bundle.
type Origin struct {
	Kind   string
	Ref    string        // as written
	Digest digest.Digest // what Ref resolved to; differs from the root where platforms were chosen
}

// tagged is a manifest that cosign finds by tag.
type tagged struct {
	tag  string
	node *node
}

// CollisionError says that two references with different content would get the
// same place.
type CollisionError struct {
	Place Place
	A, B  string // the references, with their digests
}

func (e *CollisionError) Error() string {
	return fmt.Sprintf("place %s: %s and %s differ but would get the same name", e.Place, e.A, e.B)
}

// cosignTag is the name under which cosign keeps what belongs to a digest.
var cosignTag = regexp.MustCompile(`^sha256-([0-9a-f]{64})\.(sig|att|sbom)$`)

// MakePlan maps every reference of a bundle to its place. All collisions and
// illegal names are reported together.
func MakePlan(ctx context.Context, b *verify.Bundle, o Options) (*Plan, error) {
	return makePlan(ctx, b, o)
}

func makePlan(ctx context.Context, src source, o Options) (*Plan, error) {
	host, prefix, err := parseTo(o.To)
	if err != nil {
		return nil, err
	}
	limits := o.target().Limits()
	p := &planner{
		graph: newGraph(src), limits: limits, host: host, items: map[Place]*Item{}, tags: map[Place]Origin{},
		mapper: &mapper{Mapping: o.Mapping, host: host, prefix: prefix, limits: limits, used: map[string]bool{}},
	}
	if err := p.read(); err != nil {
		return nil, err
	}
	if err := errors.Join(append(p.problems, p.mapper.unused())...); err != nil {
		return nil, err
	}
	plan := &Plan{Bundle: src.Info().Digest, To: strings.TrimSuffix(o.To, "/"), host: host}
	for _, place := range slices.SortedFunc(maps.Keys(p.items), comparePlaces) {
		it := p.items[place]
		if err := p.fill(ctx, it); err != nil {
			return nil, fmt.Errorf("plan %s: %w", place, err)
		}
		plan.Items = append(plan.Items, *it)
	}
	if err := errors.Join(p.problems...); err != nil {
		return nil, err
	}
	plan.LeftOut = p.leftOut(plan.Items)
	return plan, nil
}

func comparePlaces(a, b Place) int {
	return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Tag, b.Tag))
}

// planner collects a plan and what is wrong with it.
type planner struct {
	*graph
	mapper   *mapper
	limits   target.Limits
	host     string
	items    map[Place]*Item
	tags     map[Place]Origin // every tag that will be written
	cosign   []cosigned
	extra    map[digest.Digest]bool // referrers, cosign manifests, items without reference
	problems []error
}

// cosigned is a cosign tag of the bundle, not yet assigned to an item.
type cosigned struct {
	source  string // the repository it comes from
	tag     string
	subject digest.Digest
	digest  digest.Digest
	ref     string
}

// read sorts the entries of the index.
func (p *planner) read() error {
	p.extra = map[digest.Digest]bool{}
	for e, err := range p.src.Items() {
		if err != nil {
			return fmt.Errorf("read bundle: %w", err)
		}
		switch {
		case e.Role == bundle.RoleRoot && e.Ref != "":
			if err := p.addRoot(e); err != nil {
				p.problems = append(p.problems, err)
			}
		case e.Role == bundle.RoleCosignTag && e.Ref != "":
			p.extra[e.Digest] = true
			if err := p.addCosign(e); err != nil {
				p.problems = append(p.problems, err)
			}
		case e.Role == bundle.RoleRoot, e.Role == bundle.RoleReferrer, e.Role == bundle.RoleCosignTag:
			p.extra[e.Digest] = true
		}
	}
	return nil
}

// claim notes that a tag is going to be written and refuses a second meaning.
func (p *planner) claim(at Place, ref string, d digest.Digest) error {
	was, ok := p.tags[at]
	if ok && was.Digest != d {
		return &CollisionError{Place: at, A: fmt.Sprintf("%q (%s)", was.Ref, was.Digest), B: fmt.Sprintf("%q (%s)", ref, d)}
	}
	p.tags[at] = Origin{Ref: ref, Digest: d}
	return nil
}

func (p *planner) addRoot(e bundle.Entry) error {
	at, err := p.mapper.place(e)
	if err != nil {
		return err
	}
	r, err := parseReference(e.Item)
	if err != nil {
		return fmt.Errorf("map %s %q: %w", e.Kind, e.Ref, err)
	}
	if err := p.claim(at, e.Ref, e.Digest); err != nil {
		return err
	}
	n, err := p.node(e.Digest)
	if err != nil {
		return fmt.Errorf("plan %s %q: %w", e.Kind, e.Ref, err)
	}
	it := p.items[at]
	if it == nil {
		it = &Item{Place: at, Root: n.desc}
		p.items[at] = it
	}
	it.sources = append(it.sources, r.repository())
	o := Origin{Kind: e.Kind, Ref: e.Ref, Digest: cmp.Or(n.derivedFrom, e.Digest)}
	if !slices.Contains(it.Origins, o) {
		it.Origins = append(it.Origins, o)
	}
	return nil
}

func (p *planner) addCosign(e bundle.Entry) error {
	// It goes where its subject goes, wherever that is mapped to.
	r, err := parseReference(e.Item)
	if err != nil {
		return fmt.Errorf("map %s %q: %w", e.Kind, e.Ref, err)
	}
	m := cosignTag.FindStringSubmatch(r.tag)
	if m == nil {
		return fmt.Errorf("map %s %q: %q is not a tag that cosign makes", e.Kind, e.Ref, r.tag)
	}
	p.cosign = append(p.cosign, cosigned{
		source: r.repository(), tag: r.tag, subject: digest.NewDigestFromEncoded(digest.SHA256, m[1]), digest: e.Digest, ref: e.Ref,
	})
	return nil
}

// fill computes what has to be at the target before the item's tag.
func (p *planner) fill(ctx context.Context, it *Item) error {
	seen := map[digest.Digest]bool{}
	order, err := p.closure(it.Root.Digest, seen, nil)
	if err != nil {
		return err
	}
	body := len(order)
	if order, err = p.attached(ctx, seen, order); err != nil {
		return err
	}
	// A signature made with cosign may itself carry referrers, and the other way
	// round: go on until nothing new turns up.
	for before := -1; before != len(order); {
		before = len(order)
		if order, err = p.fillCosign(ctx, it, seen, order); err != nil {
			return err
		}
	}
	it.body, it.refs = order[:body], order[body:]
	it.Blobs = distinctBlobs(order)
	it.Platforms = platforms(it.body[body-1])
	most := cmp.Or(p.limits.ManifestMax, 4<<20)
	for _, n := range order {
		if n.desc.Size > most {
			return fmt.Errorf("manifest %s has %d bytes, %s takes %d", n.desc.Digest, n.desc.Size, p.host, most)
		}
	}
	for _, b := range it.Blobs {
		if p.limits.BlobMax > 0 && b.Size > p.limits.BlobMax {
			return fmt.Errorf("blob %s has %d bytes, %s takes %d", b.Digest, b.Size, p.host, p.limits.BlobMax)
		}
	}
	return nil
}

func (p *planner) fillCosign(ctx context.Context, it *Item, seen map[digest.Digest]bool, order []*node) ([]*node, error) {
	for _, c := range p.cosign {
		if !slices.Contains(it.sources, c.source) || !seen[c.subject] {
			continue
		}
		if slices.ContainsFunc(it.cosig, func(t tagged) bool { return t.tag == c.tag }) {
			continue
		}
		if err := p.claim(Place{Repository: it.Repository, Tag: c.tag}, c.ref, c.digest); err != nil {
			return nil, err
		}
		n, err := p.node(c.digest)
		if err != nil {
			return nil, err
		}
		it.cosig = append(it.cosig, tagged{tag: c.tag, node: n})
		if order, err = p.closure(c.digest, seen, order); err != nil {
			return nil, err
		}
	}
	return p.attached(ctx, seen, order)
}

// leftOut counts the manifests that belong to no item.
func (p *planner) leftOut(items []Item) int {
	left := maps.Clone(p.extra)
	for i := range items {
		for n := range items[i].manifests() {
			delete(left, n.desc.Digest)
		}
	}
	return len(left)
}

// manifests yields everything the item pushes, in order.
func (it *Item) manifests() func(yield func(*node) bool) {
	return func(yield func(*node) bool) {
		for _, list := range [][]*node{it.body, it.refs} {
			for _, n := range list {
				if !yield(n) {
					return
				}
			}
		}
	}
}

// tagged reports whether a manifest is pushed under a tag of cosign's.
func (it *Item) tagged(n *node) bool {
	return slices.ContainsFunc(it.cosig, func(t tagged) bool { return t.node == n })
}

// distinctBlobs lists configs and layers in order of first mention.
func distinctBlobs(order []*node) []bundle.Descriptor {
	var list []bundle.Descriptor
	seen := map[digest.Digest]bool{}
	for _, n := range order {
		for _, b := range n.blobs {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				list = append(list, bundle.Descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size})
			}
		}
	}
	return list
}

// platforms lists what an index offers, without attestation manifests.
func platforms(root *node) []string {
	var list []string
	for _, c := range root.children {
		if c.Platform == nil || c.Platform.OS == "unknown" || c.Platform.OS == "" {
			continue
		}
		s := c.Platform.OS + "/" + c.Platform.Architecture
		if c.Platform.Variant != "" {
			s += "/" + c.Platform.Variant
		}
		list = append(list, s)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// relocation writes down where the items went.
func (p *Plan) relocation(done func(*Item) bool) manifests.RelocationMap {
	m := manifests.RelocationMap{
		APIVersion: manifests.APIVersion,
		Kind:       manifests.KindRelocationMap,
		Bundle:     p.Bundle.String(),
		Target:     p.To,
		Entries:    []manifests.Relocation{},
	}
	for i := range p.Items {
		it := &p.Items[i]
		if !done(it) {
			continue
		}
		var refs []string
		for _, n := range it.refs {
			refs = append(refs, n.desc.Digest.String())
		}
		slices.Sort(refs)
		for _, o := range it.Origins {
			m.Entries = append(m.Entries, manifests.Relocation{
				Kind:         o.Kind,
				Source:       o.Ref,
				SourceDigest: o.Digest.String(),
				Target:       p.host + "/" + it.Place.String(),
				Digest:       it.Root.Digest.String(),
				Platforms:    it.Platforms,
				Referrers:    refs,
			})
		}
	}
	slices.SortFunc(m.Entries, func(a, b manifests.Relocation) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Target, b.Target))
	})
	return m
}
