package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Signer signs the raw bytes of index.json. The names of what it returns mean
// nothing.
type Signer func(ctx context.Context, index []byte) ([]archive.Signature, error)

// CreateOptions says how to write a bundle.
type CreateOptions struct {
	Output      string // must not exist
	Sign        Signer // nil makes an unsigned bundle, which nothing installs
	Concurrency int    // downloads at once; less than 1 means 6
	Listener    Listener
}

// Result tells what Create did.
type Result struct {
	Size    int64         // of the file, in bytes
	Sum     digest.Digest // SHA-256 of the file
	Written int64         // to disk, the spool not counted
	Reused  int           // blobs that an interrupted run had written
	Blobs   int
}

// SpaceError says that the output's file system is too small.
type SpaceError struct {
	Dir        string
	Need, Have int64 // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("write to %s: %d MB needed, %d MB free", e.Dir, e.Need/1e6, e.Have/1e6)
}

// Create writes the bundle of a plan to o.Output: every blob is read once,
// hashed on its way and written once, at its final place. An interrupted
// Create leaves Output.partial and its journal; the same plan goes on from
// there and ends in the same bytes.
func Create(ctx context.Context, p *Plan, o CreateOptions) (Result, error) {
	if _, err := os.Lstat(o.Output); err == nil {
		return Result{}, fmt.Errorf("create %s: %w", o.Output, os.ErrExist)
	}
	var head archive.Head
	head.Index = p.Index
	if o.Sign != nil {
		// Before any download: a wrong password or an unreachable KMS costs seconds, not hours.
		sigs, err := o.Sign(ctx, p.Index)
		if err != nil {
			return Result{}, fmt.Errorf("sign index.json: %w", err)
		}
		head.Signatures = sigs
	}
	if err := p.checkSpace(o.Output); err != nil {
		return Result{}, err
	}
	w, err := archive.Create(o.Output, archive.Plan{Index: len(p.Index), Contents: p.Contents, Record: string(p.Lock)})
	if err != nil {
		return Result{}, err
	}
	if err := w.Follow(head); err != nil {
		return Result{}, errors.Join(err, w.Close())
	}
	c := creator{plan: p, w: w, listener: o.Listener, limit: o.Concurrency}
	if c.limit < 1 {
		c.limit = 6
	}
	if err := c.fill(ctx); err != nil {
		return Result{}, errors.Join(err, w.Close())
	}
	if err := w.Commit(head); err != nil {
		return Result{}, errors.Join(err, w.Close())
	}
	fi, err := os.Stat(o.Output)
	if err != nil {
		return Result{}, err
	}
	return Result{Size: fi.Size(), Sum: w.Sum(), Written: w.Written(), Reused: c.reused, Blobs: c.blobs}, nil
}

// checkSpace compares what is still to be written with what is free.
func (p *Plan) checkSpace(output string) error {
	need := archive.HeadSize(len(p.Index))
	for _, list := range [][]archive.Blob{p.Contents.Meta, p.Contents.Placed, p.Contents.Packed} {
		for _, b := range list {
			need += b.Size + 1024
		}
	}
	if fi, err := os.Stat(output + ".partial"); err == nil {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			need -= st.Blocks * 512
		}
	}
	dir := filepath.Dir(output)
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return &os.PathError{Op: "write to", Path: dir, Err: err}
	}
	if have := int64(st.Bavail) * int64(st.Bsize); have < need { //nolint:unconvert // its type differs between systems
		return &SpaceError{Dir: dir, Need: need, Have: have}
	}
	return nil
}

// creator fills one file.
type creator struct {
	plan     *Plan
	w        *archive.Writer
	listener Listener
	limit    int
	mu       sync.Mutex
	reused   int
	blobs    int
}

// fill writes META and PLACED with several workers in file order of starting,
// and PACKED beside them, one blob after the other.
func (c *creator) fill(ctx context.Context) error {
	var total int64
	placed := append(append([]archive.Blob{}, c.plan.Contents.Meta...), c.plan.Contents.Placed...)
	for _, b := range placed {
		total += b.Size
	}
	for _, b := range c.plan.Contents.Packed {
		total += b.Size
	}
	c.listener.Send(Event{Op: "fetch", Total: total})
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.limit + 1)
	g.Go(func() error { return c.pack(gctx) })
	for _, b := range placed {
		if gctx.Err() != nil {
			break
		}
		if c.skip(b) {
			continue
		}
		g.Go(func() error { return c.retry(gctx, b, c.place) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

func (c *creator) skip(b archive.Blob) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blobs++
	if !c.w.Done(b) {
		return false
	}
	c.reused++
	c.listener.Send(Event{Op: "fetch", Object: c.plan.describe(b), Bytes: b.Size, Done: true, Reused: true})
	return true
}

func (c *creator) pack(ctx context.Context) error {
	for _, b := range c.plan.Contents.Packed {
		if c.skip(b) {
			continue
		}
		err := c.retry(ctx, b, func(ctx context.Context, b archive.Blob) error {
			rc, err := c.plan.open(ctx, b)
			if err != nil {
				return err
			}
			defer rc.Close()
			return c.w.Pack(c.watch(ctx, b, rc))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *creator) place(ctx context.Context, b archive.Blob) error {
	rc, err := c.plan.open(ctx, b)
	if err != nil {
		return err
	}
	defer rc.Close()
	w, err := c.w.Place(b)
	if err != nil {
		return err
	}
	buf := make([]byte, 128<<10)
	// The reader is wrapped, so that io.CopyBuffer cannot bypass the buffer.
	if _, err := io.CopyBuffer(w, c.watch(ctx, b, rc), buf); err != nil {
		return err
	}
	return w.Close()
}

// attempts is how often one blob is tried: connections break in the middle of
// a body, where no lower layer can repeat the request.
const attempts = 4

func (c *creator) retry(ctx context.Context, b archive.Blob, do func(context.Context, archive.Blob) error) error {
	for i := 1; ; i++ {
		err := do(ctx, b)
		if err == nil {
			c.listener.Send(Event{Op: "fetch", Object: c.plan.describe(b), Done: true})
			return nil
		}
		if i == attempts || ctx.Err() != nil || !brokenBody(err) {
			return fmt.Errorf("%s: blob %s: %w", c.plan.describe(b), b.Digest, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(i*i) * 200 * time.Millisecond):
		}
	}
}

// bodyError marks an error that came out of the source's body, not out of
// opening it or of writing the file.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// brokenBody reports whether another attempt may help: the body broke off, or
// ended too early.
func brokenBody(err error) bool {
	if _, ok := errors.AsType[*bodyError](err); ok {
		return true
	}
	de, ok := errors.AsType[*archive.DigestError](err)
	return ok && de.Got.Size < de.Want.Size
}

// watch passes a body on, tells the listener of bytes, and ends with ctx.
func (c *creator) watch(ctx context.Context, b archive.Blob, r io.Reader) io.Reader {
	return &watchReader{ctx: ctx, r: r, listener: c.listener, object: c.plan.describe(b)}
}

type watchReader struct {
	ctx      context.Context
	r        io.Reader
	listener Listener
	object   string
}

func (w *watchReader) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.r.Read(p)
	w.listener.Send(Event{Op: "fetch", Object: w.object, Bytes: int64(n)})
	if err != nil && err != io.EOF {
		err = &bodyError{err}
	}
	return n, err
}

// describe names the item a blob belongs to, for people.
func (p *Plan) describe(b archive.Blob) string {
	o := p.openers[b]
	if o.pin.Ref != "" {
		return o.pin.Kind + " " + o.pin.Ref
	}
	return o.pin.Kind + " " + o.pin.Name
}

// open opens a blob of the plan, from the spool where it was made or fetched
// already.
func (p *Plan) open(ctx context.Context, b archive.Blob) (io.ReadCloser, error) {
	o, ok := p.openers[b]
	if !ok {
		return nil, fmt.Errorf("no entry brings it")
	}
	for _, m := range o.pin.Manifests {
		if m.Digest == b.Digest && m.Raw != nil {
			return io.NopCloser(bytes.NewReader(m.Raw)), nil
		}
	}
	if o.source == nil || p.spool.Has(o.desc) {
		return p.spool.Open(o.desc)
	}
	return o.source.Open(ctx, o.pin, o.desc)
}

// readManifest returns the bytes of a manifest, checked, and keeps them in the
// spool where they had to be fetched.
func (p *Plan) readManifest(ctx context.Context, d Descriptor) ([]byte, error) {
	rc, err := p.open(ctx, blobOf(d))
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	raw, err := io.ReadAll(io.LimitReader(rc, d.Size+1))
	if err != nil {
		return nil, err
	}
	got, err := p.spool.AddBytes(d.MediaType, raw)
	if err != nil {
		return nil, err
	}
	if got.Digest != d.Digest || got.Size != d.Size {
		return nil, &archive.DigestError{Want: blobOf(d), Got: blobOf(got)}
	}
	return raw, nil
}
