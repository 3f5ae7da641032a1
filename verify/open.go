package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/opencontainers/go-digest"
	"golang.org/x/mod/semver"
)

// Options are the facts that signed conditions are held against.
type Options struct {
	Site    string    // this site's name; "" refuses bundles made for particular sites
	Floor   int64     // oldest release this site may go back to, beside the policy's
	Now     time.Time // zero means the present
	Version string    // of this tool, "v1.2.3"; anything else meets no minTool
	// AnySite lets a bundle with an audience be read without being at one of
	// its sites: for verifying and mirroring on the way, never for installing.
	AnySite bool
}

// Open opens a bundle, a .tar.zst or a layout directory, and returns it if the
// policy trusts it: HEAD is read within its limits, signatures (in HEAD and
// beside the file) are checked over the raw index, and only then is the index
// parsed, strictly, and META read and checked. "Open" means signed and
// complete; VerifyAll means every byte intact. No byte is written.
func Open(ctx context.Context, path string, p *Policy, o Options) (*Bundle, error) {
	if p == nil || len(p.signers) == 0 {
		return nil, &NoPolicyError{}
	}
	f, err := bundle.OpenFile(path)
	if err != nil {
		return nil, err
	}
	b, err := open(ctx, f, path, p, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("verify %s: %w", path, err), f.Close())
	}
	return b, nil
}

func open(ctx context.Context, f *bundle.File, path string, p *Policy, o Options) (*Bundle, error) {
	beside, err := sidecars(path)
	if err != nil {
		return nil, err
	}
	head := f.Head()
	b, err := trust(head, slices.Concat(head.Signatures, beside), p, o)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if b.graph, err = f.ReadGraph(b.index); err != nil {
		return nil, contentError(err)
	}
	if err := f.Locate(b.graph); err != nil {
		return nil, err
	}
	b.link()
	b.file.set(f)
	return b, nil
}

// trust checks signatures, then parses the index and holds its conditions
// against the facts.
func trust(head archive.Head, sigs []archive.Signature, p *Policy, o Options) (*Bundle, error) {
	signers, err := p.check(head.Index, sigs)
	if err != nil {
		return nil, err
	}
	idx, err := bundle.ParseIndex(head.Index)
	if err != nil {
		return nil, &IndexError{Err: err}
	}
	if err := p.admit(idx.Info, o); err != nil {
		return nil, err
	}
	return &Bundle{
		index:    idx,
		info:     Info{Digest: digest.FromBytes(head.Index), Info: idx.Info},
		decision: Decision{Policy: p.name, Signers: signers},
	}, nil
}

// admit checks what the signed annotations demand.
func (p *Policy) admit(i bundle.Info, o Options) error {
	now := o.Now
	if now.IsZero() {
		now = time.Now()
	}
	if len(p.doc.Products) > 0 && !slices.Contains(p.doc.Products, i.Product) {
		return &RefusedError{Rule: "product", Detail: fmt.Sprintf("it carries %q, the policy accepts %s", i.Product, quoteAll(p.doc.Products))}
	}
	if floor := max(p.doc.Release.AtLeast, o.Floor); i.Release < floor {
		return &RefusedError{Rule: "release", Detail: fmt.Sprintf("its release is %d, the oldest accepted here is %d", i.Release, floor)}
	}
	if !i.Expires.IsZero() && now.After(i.Expires) {
		return &RefusedError{Rule: "expired", Detail: fmt.Sprintf("it expired on %s", i.Expires.Format(time.RFC3339))}
	}
	if len(i.Audience) > 0 && !o.AnySite && (o.Site == "" || !slices.Contains(i.Audience, o.Site)) {
		return &RefusedError{Rule: "audience", Detail: fmt.Sprintf("it is made for %s, this site is %q", quoteAll(i.Audience), o.Site)}
	}
	if i.MinTool != "" && olderThan(o.Version, i.MinTool) {
		return &RefusedError{Rule: "tool", Detail: fmt.Sprintf("it asks for airlock %s or later, this is %s", i.MinTool, o.Version)}
	}
	return nil
}

// olderThan is true also where either is no version: what cannot be compared is
// not known to be new enough.
func olderThan(have, want string) bool {
	v := func(s string) string { return "v" + strings.TrimPrefix(s, "v") }
	return !semver.IsValid(v(have)) || !semver.IsValid(v(want)) || semver.Compare(v(have), v(want)) < 0
}

// contentError types errors of manifests that were read after the signature:
// bytes that differ from what is signed, and signed documents of no use.
func contentError(err error) error {
	if de, ok := errors.AsType[*archive.DigestError](err); ok {
		return &ContentError{Desc: bundle.Descriptor{Digest: de.Want.Digest, Size: de.Want.Size}, Err: err}
	}
	if ge, ok := errors.AsType[*bundle.GraphError](err); ok {
		return &IndexError{Err: ge}
	}
	return err
}

// link builds the maps behind Fetch and Predecessors.
func (b *Bundle) link() {
	b.descs = map[digest.Digest]bundle.Descriptor{}
	b.predecessors = map[digest.Digest][]bundle.Descriptor{}
	for _, e := range b.index.Entries {
		if _, seen := b.descs[e.Digest]; seen {
			continue
		}
		b.descs[e.Digest] = e.Descriptor
		n := b.graph.Nodes[e.Digest]
		points := slices.Concat(n.Children, n.Blobs())
		if n.Subject != nil {
			points = append(points, *n.Subject)
		}
		done := map[digest.Digest]bool{}
		for _, d := range points {
			if !done[d.Digest] {
				done[d.Digest] = true
				b.predecessors[d.Digest] = append(b.predecessors[d.Digest], e.Descriptor)
			}
		}
	}
	for _, e := range b.index.Entries {
		for _, d := range b.graph.Nodes[e.Digest].Blobs() {
			if _, ok := b.descs[d.Digest]; !ok {
				b.descs[d.Digest] = bundle.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
			}
		}
	}
}

// Stream verifies a bundle that comes through a pipe: signatures first, then
// every byte in file order. Where w is not nil the bytes read are written to it
// as they pass; they may be trusted only after Stream returned without error.
// Where r or w fails, its error is the cause that is returned, not one of the
// bundle's.
func Stream(ctx context.Context, r io.Reader, w io.Writer, p *Policy, o Options, l bundle.Listener) (Info, Decision, error) {
	if p == nil || len(p.signers) == 0 {
		return Info{}, Decision{}, &NoPolicyError{}
	}
	src := &tee{r: r, w: w}
	b, err := stream(ctx, src, p, o, l)
	if src.err != nil { // it came first: what was made of it is not the cause
		return Info{}, Decision{}, src.err
	}
	if err != nil {
		return Info{}, Decision{}, err
	}
	return b.info, b.decision, nil
}

func stream(ctx context.Context, r io.Reader, p *Policy, o Options, l bundle.Listener) (*Bundle, error) {
	s, head, err := archive.NewStream(r)
	if err != nil {
		return nil, err
	}
	b, err := trust(head, head.Signatures, p, o)
	if err != nil {
		return nil, err
	}
	return b, b.stream(ctx, s, l)
}

// tee writes what it reads to w, if there is one, and remembers what went wrong
// with either of them, which is no fault of the bundle. An early end is: that
// is what a cut transfer looks like.
type tee struct {
	r   io.Reader
	w   io.Writer
	err error
}

// Read implements io.Reader.
func (t *tee) Read(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	n, err := t.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.err = fmt.Errorf("read bundle: %w", err)
	}
	if t.w == nil || n == 0 {
		return n, cmp.Or(t.err, err)
	}
	m, werr := t.w.Write(p[:n])
	if werr == nil && m < n {
		werr = io.ErrShortWrite
	}
	if werr != nil {
		t.err = fmt.Errorf("write bundle: %w", werr)
		return 0, t.err
	}
	return n, cmp.Or(t.err, err)
}

func (b *Bundle) stream(ctx context.Context, s *archive.Stream, l bundle.Listener) error {
	if err := s.LocateMeta(b.index.Manifests()); err != nil {
		return err
	}
	seen := 0
	g, err := bundle.ReadGraph(b.index, func(d bundle.Descriptor) (io.ReadCloser, error) {
		seen++
		return io.NopCloser(s.NextStored(archive.Blob{Digest: d.Digest, Size: d.Size})), nil
	})
	if err != nil {
		return contentError(err)
	}
	b.graph = g
	if err := s.Locate(g.Contents); err != nil {
		return err
	}
	var total int64
	for _, blob := range slices.Concat(g.Contents.Meta, g.Contents.Placed, g.Contents.Packed) {
		total += blob.Size
	}
	l.Send(bundle.Event{Op: "verify", Total: total})
	for _, blob := range slices.Concat(g.Contents.Meta[seen:], g.Contents.Placed) {
		if err := b.name(hashBlob(ctx, s.NextStored(blob), blob, l)); err != nil {
			return err
		}
	}
	for _, blob := range g.Contents.Packed {
		if err := b.name(hashBlob(ctx, s.NextPacked(blob), blob, l)); err != nil {
			return err
		}
	}
	return s.End()
}
