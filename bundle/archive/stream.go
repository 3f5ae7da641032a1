package archive

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Stream reads a bundle from a pipe, once and in file order: NewStream reads
// HEAD, Next one blob after the other, End the rest. It needs no table.
type Stream struct {
	r      *countReader
	head   int64
	packed int64
	sizes  []uint32
	dec    *zstd.Decoder
}

// NewStream reads HEAD from r.
func NewStream(r io.Reader) (*Stream, Head, error) {
	cr := &countReader{r: r}
	h, n, err := ReadHead(cr)
	if err != nil {
		return nil, Head{}, err
	}
	dec, err := newFrameDecoder()
	if err != nil {
		return nil, Head{}, err
	}
	return &Stream{r: cr, head: n, dec: dec}, h, nil
}

// LocateMeta holds the manifests, which come first, against the same limits
// as Reader.LocateMeta does. Call it before the first NextStored.
func (s *Stream) LocateMeta(manifests []Blob) error {
	_, err := newLayout(s.head, Contents{Meta: manifests})
	return err
}

// Locate holds all that is to come against the same limits as Reader.Locate does.
func (s *Stream) Locate(c Contents) error {
	_, err := newLayout(s.head, c)
	return err
}

// NextStored returns the content of the next blob of META or PLACED. It must be
// read to its end before the next call.
func (s *Stream) NextStored(b Blob) io.Reader {
	total := entrySize(b.Size)
	return &entryReader{src: newStoredReader(s.r, s.r.n, total), blob: b}
}

// NextPacked returns the content of the next blob of PACKED. It must be read to
// its end before the next call.
func (s *Stream) NextPacked(b Blob) io.Reader {
	s.startPacked()
	var buf []byte
	return &entryReader{blob: b, src: &packedReader{dec: s.dec, total: entrySize(b.Size), frame: func() ([]byte, error) {
		var err error
		if buf, err = readFrame(s.r, buf, s.r.n, packedMaxFrame); err != nil {
			return nil, err
		}
		s.sizes = append(s.sizes, uint32(len(buf)))
		return buf, nil
	}}}
}

func (s *Stream) startPacked() {
	if s.packed == 0 {
		s.packed = s.r.n
	}
}

// End reads what follows the last blob: the end marks, the table, which must
// describe what was read, and the end of the stream.
func (s *Stream) End() error {
	s.startPacked()
	defer s.dec.Close()
	at := s.r.n
	want := encodeTail(s.sizes, s.packed)
	got := make([]byte, len(want))
	if n, err := io.ReadFull(s.r, got); err == io.EOF || err == io.ErrUnexpectedEOF {
		return &FormatError{Offset: at + int64(n), Err: ErrTruncated, Detail: "the table is not whole"}
	} else if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return &FormatError{Offset: at, Err: ErrTable}
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(s.r, 1)); err != nil {
		return fmt.Errorf("read end of bundle: %w", err)
	} else if n != 0 {
		return &FormatError{Offset: s.r.n - 1, Err: ErrTrailing}
	}
	return nil
}

type countReader struct {
	r io.Reader
	n int64
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
