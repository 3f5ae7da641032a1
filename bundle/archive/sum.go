package archive

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
)

// sumChunk is how much the summer reads at once.
const sumChunk = 512 << 10

// summer computes the SHA-256 of the whole file while it is written. It follows
// the prefix that has no gap, whose bytes are still in the page cache, so that
// no pass over the file comes after the last download.
type summer struct {
	f     *os.File
	order []extent
	head  []byte
	h     hash.Hash
	pos   int64 // bytes hashed; only run uses it before done is closed
	err   error // likewise
	done  chan struct{}
	sum   digest.Digest // set by finish

	mu      sync.Mutex
	moved   *sync.Cond
	at      []int64 // by extent: the file offset up to which it is written
	whole   []bool  // by extent
	next    int     // the first extent that is not whole
	upto    int64   // the file is written up to here, HEAD aside
	closed  bool    // nothing more will be written
	spoiled bool    // bytes that may have been hashed are written anew
}

// Follow starts computing the file's SHA-256 beside the writing, for Sum. Commit
// with another Head costs another pass. Call it before the first Place or Pack.
func (w *Writer) Follow(h Head) error {
	head, err := h.encode(w.head)
	if err != nil {
		return err
	}
	n := len(w.layout.order)
	s := &summer{
		f: w.f, order: w.layout.order, head: head, h: sha256.New(), pos: w.head,
		done: make(chan struct{}), at: make([]int64, n), whole: make([]bool, n), upto: w.head,
	}
	s.moved = sync.NewCond(&s.mu)
	s.h.Write(head)
	w.sum = s
	go s.run()
	for i, e := range s.order {
		switch {
		case !w.Done(e.blob):
		case e.region == regionPacked:
			s.reach(i, w.end, true) // resumed frames have no gap
		default:
			s.reach(i, e.offset+storedLen(entrySize(e.blob.Size)), true)
		}
	}
	return nil
}

// Sum returns the SHA-256 of the file after Commit, or "" if Follow was not
// called.
func (w *Writer) Sum() digest.Digest {
	if w.sum == nil {
		return ""
	}
	return w.sum.sum
}

// run hashes until nothing more comes.
func (s *summer) run() {
	defer close(s.done)
	buf := make([]byte, sumChunk)
	for s.err == nil {
		n := s.wait()
		if n <= 0 {
			return
		}
		if _, err := s.f.ReadAt(buf[:n], s.pos); err != nil {
			s.err = fmt.Errorf("read bundle: %w", err)
		}
		s.h.Write(buf[:n])
		s.pos += n
	}
}

// wait returns how much may be hashed now, or 0 at the end.
func (s *summer) wait() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.upto-s.pos < sumChunk && !s.closed {
		s.moved.Wait()
	}
	return min(s.upto-s.pos, sumChunk)
}

// reach notes that extent i is written up to the file offset at.
func (s *summer) reach(i int, at int64, whole bool) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[i], s.whole[i] = at, whole
	for s.next < len(s.order) {
		s.upto = max(s.upto, s.at[s.next])
		if !s.whole[s.next] {
			break
		}
		s.next++
	}
	s.moved.Signal()
}

// restart notes that extent i is written from its beginning again.
func (s *summer) restart(i int) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[i], s.whole[i] = 0, false
	s.next = min(s.next, i)
	if s.upto > s.order[i].offset {
		s.spoiled = true
	}
}

// finish hashes what is left of a file that is written whole.
func (s *summer) finish(head []byte, size int64) error {
	if s == nil {
		return nil
	}
	s.close(size)
	if s.err != nil {
		return s.err
	}
	if s.spoiled || !bytes.Equal(head, s.head) {
		s.h = sha256.New()
		s.h.Write(head)
		n := int64(len(head))
		if _, err := io.Copy(s.h, io.NewSectionReader(s.f, n, size-n)); err != nil {
			return fmt.Errorf("read bundle: %w", err)
		}
	}
	s.sum = digestOf(s.h)
	return nil
}

// close ends run once it has hashed up to the given offset, and waits for it.
func (s *summer) close(upto int64) {
	s.mu.Lock()
	s.upto, s.closed = upto, true
	s.mu.Unlock()
	s.moved.Signal()
	<-s.done
}

// abort ends run where it is.
func (s *summer) abort() {
	if s != nil {
		s.close(0)
	}
}
