package archive

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// Plan is everything a file's layout follows from.
type Plan struct {
	Index    int // length of index.json in bytes
	Contents Contents
	Record   string // first record of the journal: the lock this file is made from
}

// Writer writes a bundle file, every blob once and at its final place, under
// the name path.partial with a journal beside it. Place may be called from
// several goroutines; Pack and Commit from one.
type Writer struct {
	path    string
	f       *os.File
	head    int64
	layout  *layout
	journal *journal
	resumed map[string]bool // digests that an earlier run wrote whole
	sizes   []uint32        // packed frames written, in order
	packed  int             // blobs packed
	end     int64           // where the next packed frame goes
	workers []*zstd.Encoder
	written atomic.Int64
	sum     *summer // nil without Follow
	closed  bool
}

// DigestError says that content is not what its descriptor promises.
type DigestError struct {
	Want, Got Blob
}

func (e *DigestError) Error() string {
	if e.Want.Size != e.Got.Size {
		return fmt.Sprintf("size mismatch of %s: want %d bytes, got %d", e.Want.Digest, e.Want.Size, e.Got.Size)
	}
	return fmt.Sprintf("digest mismatch: want %s, got %s", e.Want.Digest, e.Got.Digest)
}

// Create starts path.partial, or goes on with the one an interrupted run of the
// same plan left. It refuses when another process writes the same file. The
// path itself is not touched before Commit.
func Create(path string, p Plan) (*Writer, error) {
	head := HeadSize(p.Index)
	l, err := newLayout(head, p.Contents)
	if err != nil {
		return nil, err
	}
	j, records, err := openJournal(path+".partial.journal", p.Record)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path+".partial", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, errors.Join(err, j.close())
	}
	w := &Writer{path: path, f: f, head: head, layout: l, journal: j, resumed: map[string]bool{}, end: l.packed}
	if err := w.resume(records); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	for range min(runtime.GOMAXPROCS(0), maxPackers) {
		z, err := newFrameEncoder()
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.workers = append(w.workers, z)
	}
	return w, nil
}

// maxPackers bounds the frames compressed at once: each takes about 12 MiB.
const maxPackers = 4

// newFrameEncoder compresses packed frames. EncodeAll's output depends on its
// input and these options only.
func newFrameEncoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithWindowSize(packedContent),
		zstd.WithSingleSegment(true),
		zstd.WithEncoderCRC(false))
}

// Done reports whether an earlier run wrote b and it was read back whole.
func (w *Writer) Done(b Blob) bool { return w.resumed[b.Digest.String()] }

// Written returns the bytes this Writer wrote to disk so far, journal excluded.
func (w *Writer) Written() int64 { return w.written.Load() }

// Place returns a writer for a blob of META or PLACED. Its Close succeeds only
// if exactly the promised bytes were written. Placing a blob again starts over.
func (w *Writer) Place(b Blob) (io.WriteCloser, error) {
	e, err := w.layout.find(b)
	if err != nil {
		return nil, err
	}
	if e.region == regionPacked {
		return nil, fmt.Errorf("place blob %s: it belongs to PACKED", b.Digest)
	}
	w.journal.forget(b.Digest.String())
	w.sum.restart(w.layout.byName[b.Digest])
	pw := &placeWriter{w: w, e: e, h: sha256.New(), total: entrySize(b.Size), at: e.offset}
	hdr := tarHeader(blobName(b), b.Size)
	return pw, pw.put(hdr[:])
}

// placeWriter frames one blob and writes it at its place.
type placeWriter struct {
	w     *Writer
	e     extent
	h     hash.Hash
	n     int64 // content bytes
	total int64 // entry bytes in all
	pos   int64 // entry bytes framed
	at    int64 // file offset of the next flush
	buf   []byte
	head  int // where in buf the open block's header is
}

// flushSize is how much a placeWriter gathers before it writes: a few blocks,
// so that many may run at once within little memory.
const flushSize = 4 * (blockSize + blockHead)

func (p *placeWriter) Write(b []byte) (int, error) {
	if p.n+int64(len(b)) > p.e.blob.Size {
		return 0, &DigestError{Want: p.e.blob, Got: Blob{Size: p.n + int64(len(b))}}
	}
	p.h.Write(b)
	p.n += int64(len(b))
	return len(b), p.put(b)
}

// put frames entry bytes.
func (p *placeWriter) put(b []byte) error {
	for len(b) > 0 {
		if p.pos%blockSize == 0 {
			if err := p.startBlock(); err != nil {
				return err
			}
		}
		n := min(int64(len(b)), blockSize-p.pos%blockSize)
		p.buf = append(p.buf, b[:n]...)
		p.pos += n
		b = b[n:]
	}
	return nil
}

// startBlock opens a block: its size follows from the position.
func (p *placeWriter) startBlock() error {
	if len(p.buf)+frameHead+blockHead+blockSize > flushSize+frameHead {
		if err := p.flush(); err != nil {
			return err
		}
	}
	if p.buf == nil {
		p.buf = make([]byte, 0, min(flushSize+frameHead, storedLen(p.total)))
	}
	if p.pos%frameSize == 0 {
		p.buf = append(p.buf, storedFrameHead[:]...)
	}
	n := min(blockSize, p.total-p.pos)
	var h [blockHead]byte
	putBlockHead(h[:], int(n), lastBlock(p.pos, n, p.total))
	p.buf = append(p.buf, h[:]...)
	return nil
}

func (p *placeWriter) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	if _, err := p.w.f.WriteAt(p.buf, p.at); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	p.at += int64(len(p.buf))
	p.w.written.Add(int64(len(p.buf)))
	p.buf = p.buf[:0]
	p.w.sum.reach(p.w.layout.byName[p.e.blob.Digest], p.at, p.pos == p.total)
	return nil
}

// Close checks size and digest and writes what is left.
func (p *placeWriter) Close() error {
	if err := checkDigest(p.e.blob, p.n, p.h); err != nil {
		return err
	}
	if err := p.put(make([]byte, p.total-p.pos)); err != nil {
		return err
	}
	if err := p.flush(); err != nil {
		return err
	}
	return p.w.journal.record(p.w.f, journalRecord{Blob: p.e.blob.Digest.String()}, p.e.blob.Size)
}

func checkDigest(want Blob, n int64, h hash.Hash) error {
	got := Blob{Digest: digestOf(h), Size: n}
	if got != want {
		return &DigestError{Want: want, Got: got}
	}
	return nil
}

// Commit writes HEAD and TABLE, makes the data durable and gives the file its
// name. Every blob must have been written.
func (w *Writer) Commit(h Head) error {
	if missing := w.missing(); missing > 0 {
		return fmt.Errorf("commit %s: %d blobs are not written", w.path, missing)
	}
	head, err := h.encode(w.head)
	if err != nil {
		return err
	}
	tail := encodeTail(w.sizes, w.layout.packed)
	if _, err := w.f.WriteAt(tail, w.end); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	if err := w.f.Truncate(w.end + int64(len(tail))); err != nil {
		return fmt.Errorf("truncate bundle: %w", err)
	}
	if _, err := w.f.WriteAt(head, 0); err != nil {
		return fmt.Errorf("write head: %w", err)
	}
	w.written.Add(int64(len(head) + len(tail)))
	if err := w.settle(head, w.end+int64(len(tail))); err != nil {
		return err
	}
	// Somebody may have put a file there in the hours since Create was asked to.
	if _, err := os.Lstat(w.path); err == nil {
		return fmt.Errorf("commit %s: %w", w.path, os.ErrExist)
	}
	if err := os.Rename(w.path+".partial", w.path); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(w.path)); err != nil {
		return err
	}
	if err := os.Remove(w.journal.f.Name()); err != nil {
		return err
	}
	return w.Close()
}

// settle makes the file durable, and its sum final meanwhile.
func (w *Writer) settle(head []byte, size int64) error {
	var g errgroup.Group
	g.Go(func() error { return w.sum.finish(head, size) })
	g.Go(func() error {
		if err := w.f.Sync(); err != nil {
			return fmt.Errorf("sync bundle: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// missing counts the blobs that are neither written nor resumed.
func (w *Writer) missing() int {
	return len(w.layout.order) - w.journal.count()
}

// Close releases the file and keeps what was written for a later run; after
// Commit it does nothing.
func (w *Writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.sum.abort()
	return errors.Join(w.journal.flush(w.f), w.f.Close(), w.journal.close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
