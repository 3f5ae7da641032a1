package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/opencontainers/go-digest"
)

// catalog says what a bundle serves under which repository name. It is not
// written after newCatalog, so that concurrent use is safe.
type catalog struct {
	shelves map[string]*shelf
}

// shelf is one repository of a catalog.
type shelf struct {
	tags      map[string]*node
	ambiguous map[string]bool // tags with different content in two upstreams
	manifests map[digest.Digest]*node
	blobs     map[digest.Digest]bundle.Descriptor
	referrers map[digest.Digest][]*node // by subject, in order of digest
}

// newCatalog reads the references of a bundle. A reference that is no legal
// repository name is an error: create does not make such bundles.
func newCatalog(ctx context.Context, src source) (*catalog, error) {
	g := newGraph(src)
	c := &catalog{shelves: map[string]*shelf{}}
	var cosign []bundle.Entry
	for e, err := range src.Items() {
		if err != nil {
			return nil, fmt.Errorf("read bundle: %w", err)
		}
		switch {
		case e.Ref == "":
		case e.Role == bundle.RoleRoot:
			if err := c.add(ctx, g, e, true); err != nil {
				return nil, err
			}
		case e.Role == bundle.RoleCosignTag:
			cosign = append(cosign, e)
		}
	}
	for _, e := range cosign {
		if err := c.add(ctx, g, e, false); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// add puts an entry under all its names. Without create it only goes where
// something is already.
func (c *catalog) add(ctx context.Context, g *graph, e bundle.Entry, create bool) error {
	names, tag, err := servedNames(e)
	if err != nil {
		return err
	}
	order, err := g.closure(e.Digest, map[digest.Digest]bool{}, nil)
	if err != nil {
		return fmt.Errorf("serve %s %q: %w", e.Kind, e.Ref, err)
	}
	root := order[len(order)-1]
	seen := map[digest.Digest]bool{}
	for _, n := range order {
		seen[n.desc.Digest] = true
	}
	if order, err = g.attached(ctx, seen, order); err != nil {
		return fmt.Errorf("serve %s %q: %w", e.Kind, e.Ref, err)
	}
	for _, name := range names {
		s := c.shelves[name]
		if s == nil {
			if !create {
				continue
			}
			s = &shelf{
				tags:      map[string]*node{},
				ambiguous: map[string]bool{},
				manifests: map[digest.Digest]*node{},
				blobs:     map[digest.Digest]bundle.Descriptor{},
				referrers: map[digest.Digest][]*node{},
			}
			c.shelves[name] = s
		}
		s.put(tag, root, order)
	}
	return nil
}

// servedNames lists the repositories an entry is found under: without and with
// the upstream's host, and where Docker clients look for a name without host.
func servedNames(e bundle.Entry) (names []string, tag string, err error) {
	for _, hosts := range []HostMode{StripHost, KeepHost} {
		p, err := Map(e.Item, e.Digest, hosts)
		if err != nil {
			return nil, "", err
		}
		names, tag = append(names, p.Repository), p.Tag
	}
	if e.Kind == bundle.KindImage && names[0] == names[1] && !strings.HasPrefix(names[0], "docker.io/") {
		hub := names[0]
		if !strings.Contains(hub, "/") {
			hub = "library/" + hub
		}
		names = append(names, hub, "docker.io/"+hub)
	}
	slices.Sort(names)
	return slices.Compact(names), tag, nil
}

// put adds a tag and all that it reaches.
func (s *shelf) put(tag string, root *node, order []*node) {
	if was := s.tags[tag]; was != nil && was != root {
		s.ambiguous[tag] = true
	}
	s.tags[tag] = root
	for _, n := range order {
		if s.manifests[n.desc.Digest] != nil {
			continue
		}
		s.manifests[n.desc.Digest] = n
		if n.subject != "" {
			list := append(s.referrers[n.subject], n)
			slices.SortFunc(list, func(a, b *node) int { return strings.Compare(string(a.desc.Digest), string(b.desc.Digest)) })
			s.referrers[n.subject] = list
		}
		for _, b := range n.blobs {
			s.blobs[b.Digest] = bundle.Descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size}
		}
	}
}

// find returns the repository that a request means. ns is the upstream that a
// containerd mirror adds as a query; it decides between upstreams where it
// names one that is carried.
func (c *catalog) find(ns, name string) *shelf {
	if ns != "" {
		if s := c.shelves[hostSegment(strings.ToLower(ns))+"/"+name]; s != nil {
			return s
		}
	}
	return c.shelves[name]
}
