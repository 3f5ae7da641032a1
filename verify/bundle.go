// Package verify is the only door from bytes to trust. Open checks a bundle's
// signatures against the operator's policy before it parses anything, and
// returns a *Bundle: the proof that package mirror and package install ask for.
// Every later read of a blob is checked against its digest while it streams.
package verify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"slices"
	"sync"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Bundle is a bundle that the operator's policy trusts. Only Open makes one;
// the zero value refuses every call. It is safe for concurrent use, Close
// included: what is under way then ends in order, what comes later is refused.
type Bundle struct {
	file         hold
	index        bundle.Index
	graph        *bundle.Graph
	info         Info
	decision     Decision
	descs        map[digest.Digest]bundle.Descriptor // every blob and manifest carried
	predecessors map[digest.Digest][]bundle.Descriptor
}

// Info is what the signed index says of the bundle.
type Info struct {
	Digest digest.Digest // of index.json: the bundle's identity
	bundle.Info
}

// Decision is the outcome of checking signatures against a policy.
type Decision struct {
	Policy  string   // digest of the policy document, or "key:<fingerprint>" for a single key
	Signers []Signer // who signed, in policy order
}

// Signer is a party of the policy whose signature was found good.
type Signer struct {
	Name        string
	Role        string
	Fingerprint string // SHA-256 of the SPKI, "SHA256:" and hex
}

var errClosed = errors.New("bundle is not open: only verify.Open makes one")

// Info returns what the signed index says of the bundle.
func (b *Bundle) Info() Info { return b.info }

// Decision says who signed, under which policy, for the ledger.
func (b *Bundle) Decision() Decision { return b.decision }

// Items yields every descriptor of index.json in its order. The error is
// non-nil once, for a closed or zero Bundle.
func (b *Bundle) Items() iter.Seq2[bundle.Entry, error] {
	return func(yield func(bundle.Entry, error) bool) {
		if !b.file.isOpen() {
			yield(bundle.Entry{}, errClosed)
			return
		}
		for _, e := range b.index.Entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Fetch opens a blob or manifest by digest. Reading it to the end succeeds only
// if digest and size match: the last bytes are withheld until they do. The
// caller closes it. It implements oras-go's content.Fetcher.
func (b *Bundle) Fetch(ctx context.Context, desc bundle.Descriptor) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := b.file.acquire()
	if err != nil {
		return nil, err
	}
	r, err := b.fetch(f, desc)
	if err != nil {
		return nil, errors.Join(err, b.file.release())
	}
	return r, nil
}

// fetch opens a blob; its reader's Close releases f.
func (b *Bundle) fetch(f *bundle.File, desc bundle.Descriptor) (io.ReadCloser, error) {
	known, ok := b.descs[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("fetch %s: %w", desc.Digest, ErrNotCarried)
	}
	rc, err := f.Open(archive.Blob{Digest: known.Digest, Size: known.Size})
	if err != nil {
		return nil, b.name(blobError(known, err))
	}
	r := &verifiedReader{rc: rc, desc: known, h: sha256.New(), owner: b}
	r.closer = sync.OnceValue(func() error { return errors.Join(rc.Close(), b.file.release()) })
	return r, nil
}

// ErrNotCarried says that a digest is not in the bundle.
var ErrNotCarried = errors.New("not carried by this bundle")

// Exists reports whether the bundle carries desc.Digest.
func (b *Bundle) Exists(_ context.Context, desc bundle.Descriptor) (bool, error) {
	if !b.file.isOpen() {
		return false, errClosed
	}
	_, ok := b.descs[desc.Digest]
	return ok, nil
}

// Predecessors lists the carried manifests that point at desc: indexes that
// list it, manifests whose subject, config or layer it is.
func (b *Bundle) Predecessors(_ context.Context, desc bundle.Descriptor) ([]bundle.Descriptor, error) {
	if !b.file.isOpen() {
		return nil, errClosed
	}
	return slices.Clone(b.predecessors[desc.Digest]), nil
}

// ReadBlob returns a whole verified blob of at most 4 MiB (archive.MaxManifest).
func (b *Bundle) ReadBlob(ctx context.Context, desc bundle.Descriptor) ([]byte, error) {
	known, ok := b.descs[desc.Digest]
	if ok && known.Size > archive.MaxManifest {
		return nil, fmt.Errorf("read %s: %d bytes, at most %d are read whole", desc.Digest, known.Size, archive.MaxManifest)
	}
	rc, err := b.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

// Manifest returns the verified bytes of a carried manifest or index and its
// descriptor; ok is false if it is not carried. No I/O: manifests are in memory.
func (b *Bundle) Manifest(d digest.Digest) (raw []byte, desc bundle.Descriptor, ok bool) {
	if b.graph == nil {
		return nil, bundle.Descriptor{}, false
	}
	raw, ok = b.graph.Raw[d]
	return slices.Clone(raw), b.descs[d], ok
}

// VerifyAll reads every byte of the bundle once, on all cores, and checks it:
// every digest, and every framing byte between. Together with Open it is the
// closed-world proof: nothing is missing, nothing else is there.
func (b *Bundle) VerifyAll(ctx context.Context, l bundle.Listener) error {
	f, err := b.file.acquire()
	if err != nil {
		return err
	}
	return errors.Join(b.verifyAll(ctx, f, l), b.file.release())
}

func (b *Bundle) verifyAll(ctx context.Context, f *bundle.File, l bundle.Listener) error {
	c := b.graph.Contents
	blobs := slices.Concat(c.Meta, c.Placed, c.Packed)
	var total int64
	for _, blob := range blobs {
		total += blob.Size
	}
	l.Send(bundle.Event{Op: "verify", Total: total})
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, blob := range blobs {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return b.verifyBlob(gctx, f, blob, l) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

func (b *Bundle) verifyBlob(ctx context.Context, f *bundle.File, blob archive.Blob, l bundle.Listener) error {
	rc, err := f.Open(blob)
	if err != nil {
		return b.name(blobError(bundle.Descriptor{Digest: blob.Digest, Size: blob.Size}, err))
	}
	defer rc.Close()
	return b.name(hashBlob(ctx, rc, blob, l))
}

// name adds to a *ContentError or *ReadError which items the blob belongs to,
// so that a person knows what is damaged. It is asked on errors only.
func (b *Bundle) name(err error) error {
	if b.graph == nil {
		return err
	}
	if e, ok := errors.AsType[*ContentError](err); ok {
		e.Items = b.items(e.Desc.Digest)
	}
	if e, ok := errors.AsType[*ReadError](err); ok {
		e.Items = b.items(e.Desc.Digest)
	}
	return err
}

// items names what a blob belongs to, "image app:v1".
func (b *Bundle) items(blob digest.Digest) []string {
	var out []string
	for _, entry := range b.index.Entries {
		holds := func(d bundle.Descriptor) bool { return d.Digest == blob }
		if !holds(entry.Descriptor) && !slices.ContainsFunc(b.graph.Nodes[entry.Digest].Blobs(), holds) {
			continue
		}
		item := entry.Kind + " " + cmp.Or(entry.Ref, entry.Name)
		if !slices.Contains(out, item) {
			out = append(out, item)
		}
	}
	return out
}

// hashBlob reads r to its end and compares. The hasher is the writer, so that
// chunks reach it without a copy.
func hashBlob(ctx context.Context, r io.Reader, blob archive.Blob, l bundle.Listener) error {
	h := sha256.New()
	n, err := io.Copy(&watchWriter{ctx: ctx, w: h, l: l}, r)
	desc := bundle.Descriptor{Digest: blob.Digest, Size: blob.Size}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return blobError(desc, err)
	}
	if got := (archive.Blob{Digest: digest.NewDigest(digest.SHA256, h), Size: n}); got != blob {
		return &ContentError{Desc: desc, Err: &archive.DigestError{Want: blob, Got: got}}
	}
	return nil
}

type watchWriter struct {
	ctx context.Context
	w   io.Writer
	l   bundle.Listener
}

func (w *watchWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	w.l.Send(bundle.Event{Op: "verify", Bytes: int64(len(p))})
	return w.w.Write(p)
}

// Close releases the file, at once or with the last reader that Fetch gave. It
// is safe to call twice.
func (b *Bundle) Close() error { return b.file.close() }

// Head returns the raw signed index and the signatures that the file itself
// holds, for writing the bundle in its other form.
func (b *Bundle) Head() archive.Head {
	f, err := b.file.acquire()
	if err != nil {
		return archive.Head{}
	}
	defer b.file.release() //nolint:errcheck // Close, not Head, has a caller to tell
	return f.Head()
}
