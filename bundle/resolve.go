package bundle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/manifests"
)

// Plan is a definition resolved: everything that will be carried, by digest.
type Plan struct {
	Info      Info
	Sources   []Source
	Specs     []Spec  // as given to Resolve
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

// Spec is what a definition asks of a source. It decides whether a pin made
// for another edition of the definition still answers the question.
type Spec struct {
	Digest  string // of everything in the definition that shapes the pins; goes into the lock
	Fetched bool   // what is asked for comes from elsewhere by name, so that asking again may answer otherwise
}

// ResolveOptions says what to resolve.
type ResolveOptions struct {
	Info       Info   // Created and Lock are filled in
	Definition string // digest of the definition's meaning
	Sources    []Source
	Specs      []Spec          // Specs[i] belongs to Sources[i]; nil where no lock will be kept to in part
	Locked     *manifests.Lock // every pin to keep; nil resolves anew
	Previous   *manifests.Lock // without Locked: fetched entries whose Spec did not change keep their pins
	Created    time.Time       // used without Locked
	Spool      *Spool
	Listener   Listener
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
	if len(e.Images) == 1 {
		b.WriteString("1 image is named but not carried:")
	} else {
		fmt.Fprintf(&b, "%d images are named but not carried:", len(e.Images))
	}
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
	p := &Plan{Info: o.Info, Sources: o.Sources, Specs: o.Specs, Pins: make([][]Pin, len(o.Sources)), spool: o.Spool}
	p.Info.Created = o.Created.UTC().Truncate(time.Second)
	if o.Locked != nil {
		t, err := time.Parse(time.RFC3339, o.Locked.Created)
		if err != nil {
			return nil, fmt.Errorf("lock: created: %w", err)
		}
		p.Info.Created = t
	}
	if err := o.pin(ctx, p.Pins); err != nil {
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
	lock := NewLock(definition, p.Info.Created, p.Sources, p.Specs, p.Pins)
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
