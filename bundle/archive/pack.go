package archive

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
)

func digestOf(h hash.Hash) digest.Digest { return digest.NewDigest(digest.SHA256, h) }

// NextPacked returns the next blob that Pack wants, in file order; ok is false
// after the last. Where a frame begins depends on all before it, so PACKED is
// written in order.
func (w *Writer) NextPacked() (b Blob, ok bool) {
	if i := w.layout.firstPacked + w.packed; i < len(w.layout.order) {
		return w.layout.order[i].blob, true
	}
	return Blob{}, false
}

// Pack compresses the blob that NextPacked named out of r and appends it. An
// error leaves the Writer where it was: the same blob may be packed again.
func (w *Writer) Pack(r io.Reader) error {
	b, ok := w.NextPacked()
	if !ok {
		return errors.New("pack: every blob of PACKED is written")
	}
	h := sha256.New()
	hdr := tarHeader(blobName(b), b.Size)
	counted := &countReader{r: io.TeeReader(io.LimitReader(r, b.Size+1), h)}
	entry := io.MultiReader(bytes.NewReader(hdr[:]), counted, &padReader{n: entrySize(b.Size) - tarBlock - b.Size})
	sizes, end, err := w.packFrames(entry, packedFrames(b.Size))
	if err != nil {
		return err
	}
	// Where the entry fills its last frame, nobody has looked beyond the blob yet.
	if _, err := io.Copy(io.Discard, counted); err != nil {
		return err
	}
	if err := checkDigest(b, counted.n, h); err != nil {
		return err
	}
	rec := journalRecord{Packed: b.Digest.String(), Offset: w.end, Frames: sizes}
	w.sizes, w.end = append(w.sizes, sizes...), end
	w.packed++
	w.sum.reach(w.layout.byName[b.Digest], end, true)
	return w.journal.record(w.f, rec, b.Size)
}

// packFrames compresses r in pieces of packedContent on all cores and writes
// the frames in order.
func (w *Writer) packFrames(r io.Reader, want int) (sizes []uint32, end int64, err error) {
	end = w.end
	type frame struct {
		in, out []byte
	}
	batch := make([]frame, len(w.workers))
	for len(sizes) < want {
		n := min(len(batch), want-len(sizes))
		for i := range n {
			if batch[i].in == nil {
				batch[i].in = make([]byte, packedContent)
			}
			m, err := io.ReadFull(r, batch[i].in[:packedContent])
			if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
				return nil, 0, err
			}
			batch[i].in = batch[i].in[:m]
		}
		done := make(chan struct{})
		for i := range n {
			go func() {
				batch[i].out = w.workers[i].EncodeAll(batch[i].in, batch[i].out[:0])
				done <- struct{}{}
			}()
		}
		for range n {
			<-done
		}
		for i := range n {
			if _, err := w.f.WriteAt(batch[i].out, end); err != nil {
				return nil, 0, fmt.Errorf("write bundle: %w", err)
			}
			end += int64(len(batch[i].out))
			w.written.Add(int64(len(batch[i].out)))
			sizes = append(sizes, uint32(len(batch[i].out)))
		}
	}
	return sizes, end, nil
}

// padReader yields n zeros.
type padReader struct{ n int64 }

func (p *padReader) Read(b []byte) (int, error) {
	if p.n == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(b)), p.n)
	clear(b[:n])
	p.n -= n
	return int(n), nil
}
