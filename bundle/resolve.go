package bundle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/manifests"
	"golang.org/x/sync/errgroup"
)

// Plan is a definition resolved: everything that will be carried, by digest.
type Plan struct {
	Info      Info
	Sources   []Source
	Pins      [][]Pin // Pins[i] belongs to Sources[i]
	Lock      []byte  // airlock.lock
	Index     []byte  // index.json
	Contents  archive.Contents
	manifests []Descriptor
	lockPin   Pin
	spool     *Spool
	openers   map[archive.Blob]opener
}

// opener remembers which source opens a blob.
type opener struct {
	source Source // nil: the spool
	pin    Pin
	desc   Descriptor
}

// ResolveOptions says what to resolve.
type ResolveOptions struct {
	Info       Info   // Created and Lock are filled in
	Definition string // digest of the definition's meaning
	Sources    []Source
	Locked     *manifests.Lock // pins to keep; nil resolves everything anew
	Created    time.Time       // used where nothing is locked
	Spool      *Spool
	Listener   Listener
}

// resolveConcurrency bounds the sources resolved at once: they mostly wait for
// registries.
const resolveConcurrency = 4

// ChangedError says that an entry no longer yields what the lock records.
type ChangedError struct {
	Entry string
	Item  string
	Want  string
	Got   string
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s: %s is %s, the lock says %s", e.Entry, e.Item, e.Got, e.Want)
}

// MissingImage is an image that an item names and nothing carries.
type MissingImage struct {
	Image string
	Where []string // "chart cert-manager: Deployment/cert-manager spec…"
}

// MissingImagesError lists what must be added to the definition, or ignored in
// it with a reason.
type MissingImagesError struct{ Images []MissingImage }

func (e *MissingImagesError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d images are named but not carried:", len(e.Images))
	for _, m := range e.Images {
		fmt.Fprintf(&b, "\n  %s\n    %s", m.Image, strings.Join(m.Where, "\n    "))
	}
	return b.String()
}

// Resolve pins every source, checks that the definition is complete, and
// computes the bundle's index and file order. Its result depends on the pins
// alone: not on the order in which sources answered, nor on the clock where a
// lock is given.
func Resolve(ctx context.Context, o ResolveOptions) (*Plan, error) {
	p := &Plan{Info: o.Info, Sources: o.Sources, Pins: make([][]Pin, len(o.Sources)), spool: o.Spool}
	p.Info.Created = o.Created.UTC().Truncate(time.Second)
	if o.Locked != nil {
		t, err := time.Parse(time.RFC3339, o.Locked.Created)
		if err != nil {
			return nil, fmt.Errorf("lock: created: %w", err)
		}
		p.Info.Created = t
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(resolveConcurrency)
	for i, s := range o.Sources {
		g.Go(func() error {
			o.Listener.Send(Event{Op: "resolve", Object: s.Origin()})
			pins, err := resolveOne(gctx, s, o.Locked)
			if err != nil {
				return err
			}
			p.Pins[i] = pins
			o.Listener.Send(Event{Op: "resolve", Object: s.Origin(), Done: true})
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := p.checkComplete(ctx); err != nil {
		return nil, err
	}
	if err := p.writeLock(o.Definition); err != nil {
		return nil, err
	}
	return p, p.arrange(ctx)
}

func resolveOne(ctx context.Context, s Source, lock *manifests.Lock) ([]Pin, error) {
	var locked []Pin
	if lock != nil {
		var err error
		if locked, err = Locked(lock, s.Origin()); err != nil {
			return nil, err
		}
		if len(locked) == 0 {
			return nil, &ChangedError{Entry: s.Origin(), Item: "the entry", Want: "absent", Got: "present"}
		}
	}
	pins, err := s.Resolve(ctx, locked)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", s.Origin(), err)
	}
	if lock == nil {
		return pins, nil
	}
	return pins, compareLocked(s.Origin(), locked, pins)
}

// compareLocked refuses pins that are not the locked ones.
func compareLocked(entry string, want, got []Pin) error {
	if len(want) != len(got) {
		return &ChangedError{Entry: entry, Item: "number of items", Want: fmt.Sprint(len(want)), Got: fmt.Sprint(len(got))}
	}
	same := func(a, b Descriptor) bool {
		return a.Digest == b.Digest && a.Size == b.Size && a.MediaType == b.MediaType
	}
	for i := range want {
		w, g := want[i], got[i]
		if w.Item != g.Item {
			return &ChangedError{Entry: entry, Item: "item", Want: w.Kind + " " + w.Ref, Got: g.Kind + " " + g.Ref}
		}
		if len(g.Manifests) > 0 && len(w.Manifests) > 0 && !same(w.Manifests[0].Descriptor, g.Manifests[0].Descriptor) {
			return &ChangedError{Entry: entry, Item: w.Kind + " " + w.Name, Want: w.Manifests[0].Digest.String(), Got: g.Manifests[0].Digest.String()}
		}
		if !slices.EqualFunc(w.Manifests, g.Manifests, func(a, b Manifest) bool {
			return same(a.Descriptor, b.Descriptor) && a.Role == b.Role && a.Ref == b.Ref
		}) ||
			!slices.EqualFunc(w.Blobs, g.Blobs, same) {
			return &ChangedError{Entry: entry, Item: w.Kind + " " + w.Name, Want: "another closure", Got: "this one"}
		}
	}
	return nil
}

// all returns every pin in the order of the definition, the lock's last.
func (p *Plan) all() []Pin {
	return append(slices.Concat(p.Pins...), p.lockPin)
}

// checkComplete finds images that charts name and nothing carries.
func (p *Plan) checkComplete(ctx context.Context) error {
	carried := map[string]bool{}
	for _, pin := range slices.Concat(p.Pins...) {
		if pin.Kind != KindImage && pin.Kind != KindTool {
			continue
		}
		for _, m := range pin.Manifests {
			for _, name := range carriedNames(pin.Ref, m) {
				carried[name] = true
			}
		}
	}
	var missing []MissingImage
	for i, s := range p.Sources {
		d, ok := s.(Discoverer)
		if !ok {
			continue
		}
		for _, pin := range p.Pins[i] {
			refs, err := d.Discover(ctx, pin)
			if err != nil {
				return fmt.Errorf("discover images of %s %s: %w", pin.Kind, pin.Name, err)
			}
			for _, r := range refs {
				if !carried[normalImage(r.Image)] {
					missing = addMissing(missing, r.Image, fmt.Sprintf("%s %s: %s", pin.Kind, pin.Name, r.Where))
				}
			}
		}
	}
	if len(missing) > 0 {
		return &MissingImagesError{Images: missing}
	}
	return nil
}

func addMissing(list []MissingImage, image, where string) []MissingImage {
	for i := range list {
		if list[i].Image == image {
			list[i].Where = append(list[i].Where, where)
			return list
		}
	}
	return append(list, MissingImage{Image: image, Where: []string{where}})
}

// carriedNames lists the normal forms under which a carried manifest may be
// named: by its reference, and by its repository and digest.
func carriedNames(ref string, m Manifest) []string {
	repo, _, _ := splitImage(normalImage(ref))
	names := []string{repo + "@" + m.Digest.String()}
	if m.Role == RoleRoot {
		names = append(names, normalImage(ref))
	}
	return names
}

// normalImage is the form in which two spellings of an image reference are
// equal: host and library/ spelled out, :latest where there is neither tag nor
// digest, the digest alone where there is one.
func normalImage(ref string) string {
	repo, tag, dig := splitImage(ref)
	first, rest, ok := strings.Cut(repo, "/")
	switch {
	case !ok:
		repo = "docker.io/library/" + repo
	case first == "index.docker.io":
		repo = "docker.io/" + rest
	case !strings.ContainsAny(first, ".:") && first != "localhost":
		repo = "docker.io/" + repo
	}
	if rest, ok := strings.CutPrefix(repo, "docker.io/"); ok && !strings.Contains(rest, "/") {
		repo = "docker.io/library/" + rest
	}
	if dig != "" {
		return repo + "@" + dig
	}
	if tag == "" {
		tag = "latest"
	}
	return repo + ":" + tag
}

// splitImage cuts a reference into repository, tag and digest.
func splitImage(ref string) (repo, tag, dig string) {
	repo, dig, _ = strings.Cut(ref, "@")
	if i := strings.LastIndexByte(repo, ':'); i > strings.LastIndexByte(repo, '/') {
		repo, tag = repo[:i], repo[i+1:]
	}
	return repo, tag, dig
}

// writeLock makes the lock and pins it as an artifact of the bundle.
func (p *Plan) writeLock(definition string) error {
	lock := NewLock(definition, p.Info.Created, p.Sources, p.Pins)
	var err error
	if p.Lock, err = lock.Encode(); err != nil {
		return err
	}
	layer, err := p.spool.AddBytes(MediaTypeLock, p.Lock)
	if err != nil {
		return err
	}
	m, err := PackArtifact(p.spool, MediaTypeLock, Descriptor{}, []Descriptor{layer}, nil)
	if err != nil {
		return err
	}
	p.Info.Lock = layer.Digest
	m.Ref = "lock/" + p.Info.Product + ":" + p.Info.Version
	p.lockPin = Pin{Item: Item{Kind: KindLock, Name: "airlock.lock", Ref: m.Ref}, Manifests: []Manifest{m}, Blobs: []Descriptor{EmptyConfig(), layer}}
	return nil
}

// arrange computes the index and the order of the file. Manifests that a lock
// only names are fetched now: their bytes say what configs and layers there are.
func (p *Plan) arrange(ctx context.Context) error {
	entries := Entries(p.all())
	var err error
	if p.Index, err = EncodeIndex(p.Info, entries); err != nil {
		return err
	}
	if _, err := ParseIndex(p.Index); err != nil {
		return fmt.Errorf("check the new index: %w", err)
	}
	if len(p.Index) > archive.MaxIndex {
		return fmt.Errorf("index.json has %d bytes, at most %d are allowed: carry fewer images", len(p.Index), archive.MaxIndex)
	}
	p.openers = map[archive.Blob]opener{}
	for i, s := range p.Sources {
		for _, pin := range p.Pins[i] {
			p.note(s, pin)
		}
	}
	p.note(nil, p.lockPin)
	for _, e := range entries {
		p.manifests = append(p.manifests, e.Descriptor)
	}
	p.Contents, err = Contents(p.manifests, func(d Descriptor) (Node, error) {
		raw, err := p.readManifest(ctx, d)
		if err != nil {
			return Node{}, fmt.Errorf("read manifest %s: %w", d.Digest, err)
		}
		return parse(d, raw)
	})
	if err != nil {
		return err
	}
	for _, b := range slices.Concat(p.Contents.Meta, p.Contents.Placed, p.Contents.Packed) {
		if _, ok := p.openers[b]; !ok {
			return fmt.Errorf("blob %s is named by a manifest but no entry brings it", b.Digest)
		}
	}
	return nil
}

func (p *Plan) note(s Source, pin Pin) {
	for _, m := range pin.Manifests {
		p.openers[blobOf(m.Descriptor)] = opener{s, pin, m.Descriptor}
	}
	for _, b := range pin.Blobs {
		if _, ok := p.openers[blobOf(b)]; !ok {
			p.openers[blobOf(b)] = opener{s, pin, b}
		}
	}
}
