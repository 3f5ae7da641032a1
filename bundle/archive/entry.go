package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// chunker yields the content of an entry's frames piece by piece, each valid
// until the next call; io.EOF after the last.
type chunker interface {
	next() ([]byte, error)
}

// entryReader yields a blob's content out of its tar entry: it insists on the
// canonical header and on zero padding, and strips both. It does not hash.
type entryReader struct {
	src    chunker
	blob   Blob
	have   []byte
	pos    int64 // content bytes yielded
	opened bool
	err    error
}

// Read implements io.Reader.
func (e *entryReader) Read(p []byte) (int, error) {
	b, err := e.chunk()
	if err != nil {
		return 0, err
	}
	n := copy(p, b)
	e.have = e.have[n:]
	e.pos += int64(n)
	return n, nil
}

// WriteTo implements io.WriterTo without copying chunks.
func (e *entryReader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		b, err := e.chunk()
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(b)
		total += int64(n)
		e.have = e.have[n:]
		e.pos += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// chunk returns content that has been read and not yet yielded.
func (e *entryReader) chunk() ([]byte, error) {
	if e.err == nil && !e.opened {
		e.opened = true
		e.err = e.header()
	}
	for e.err == nil && e.pos < e.blob.Size {
		if len(e.have) > 0 {
			return e.have[:min(int64(len(e.have)), e.blob.Size-e.pos)], nil
		}
		e.have, e.err = e.src.next()
		if errors.Is(e.err, io.EOF) {
			e.err = io.ErrUnexpectedEOF
		}
	}
	if e.err == nil {
		e.err = e.padding()
	}
	return nil, e.err
}

// header consumes the tar header, which must be the one that the signed size
// and digest demand.
func (e *entryReader) header() error {
	b, err := e.src.next()
	if err != nil {
		return err
	}
	want := tarHeader(blobName(e.blob), e.blob.Size)
	if [tarBlock]byte(b) != want {
		return headerError(b[:tarBlock], e.blob)
	}
	e.have = b[tarBlock:]
	return nil
}

// headerError says how a header differs from the expected one.
func headerError(b []byte, want Blob) error {
	name, size, err := readHeader(b, -1)
	switch {
	case err != nil:
		return err
	case name != blobName(want):
		return &FormatError{Offset: -1, Entry: name, Err: ErrEntryUnknown, Detail: fmt.Sprintf("want %q here", blobName(want))}
	default:
		return &FormatError{Offset: -1, Entry: name, Err: ErrEntrySize, Detail: fmt.Sprintf("%d bytes, signed are %d", size, want.Size)}
	}
}

// padding consumes the rest of the entry, which must be zeros.
func (e *entryReader) padding() error {
	for {
		for _, c := range e.have {
			if c != 0 {
				return &FormatError{Offset: -1, Entry: blobName(e.blob), Err: ErrSlack, Detail: "tar padding"}
			}
		}
		var err error
		if e.have, err = e.src.next(); err != nil {
			return err // io.EOF is the normal end
		}
	}
}

// packedReader yields the content of packed frames.
type packedReader struct {
	frame func() ([]byte, error) // the next whole frame
	dec   *zstd.Decoder
	total int64
	pos   int64
	buf   []byte
}

func (p *packedReader) next() ([]byte, error) {
	if p.pos == p.total {
		return nil, io.EOF
	}
	frame, err := p.frame()
	if err != nil {
		return nil, err
	}
	want := min(packedContent, p.total-p.pos)
	if p.buf, err = decodeFrame(p.dec, frame, p.buf, want); err != nil {
		return nil, err
	}
	p.pos += want
	return p.buf, nil
}

// newFrameDecoder returns a decoder whose memory is bounded whatever a frame claims.
func newFrameDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxWindow(MaxWindow), zstd.WithDecoderMaxMemory(packedContent))
}

// decodeFrame decodes one whole frame that must hold exactly want bytes.
func decodeFrame(dec *zstd.Decoder, frame, buf []byte, want int64) ([]byte, error) {
	if !bytes.HasPrefix(frame, packedHead(want)) {
		return nil, packedHeadError(frame, want)
	}
	if int64(cap(buf)) < want {
		buf = make([]byte, 0, want)
	}
	out, err := dec.DecodeAll(frame, buf[:0])
	// The header is canonical: a block larger than the window is one larger than the content.
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) || int64(len(out)) > want {
		return nil, &FormatError{Offset: -1, Err: ErrBomb, Detail: fmt.Sprintf("frame holds more than %d bytes", want)}
	}
	if err != nil {
		return nil, &FormatError{Offset: -1, Err: ErrFrame, Detail: "packed frame: " + err.Error()}
	}
	if int64(len(out)) != want {
		return nil, &FormatError{Offset: -1, Err: ErrFrame, Detail: fmt.Sprintf("packed frame holds %d bytes, want %d", len(out), want)}
	}
	return out, nil
}

// packedHeadError says how a frame's header differs from the canonical one.
func packedHeadError(frame []byte, want int64) error {
	var h zstd.Header
	err := h.Decode(frame)
	switch {
	case err == nil && h.WindowSize > MaxWindow:
		return &FormatError{Offset: -1, Err: ErrWindow, Detail: fmt.Sprintf("%d bytes, at most %d allowed", h.WindowSize, MaxWindow)}
	case err == nil && h.HasFCS && h.FrameContentSize != uint64(want):
		return &FormatError{Offset: -1, Err: ErrBomb, Detail: fmt.Sprintf("frame claims %d bytes, want %d", h.FrameContentSize, want)}
	default:
		return &FormatError{Offset: -1, Err: ErrFrame, Detail: "header of a packed frame"}
	}
}
