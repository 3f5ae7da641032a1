package archive

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Stored frames: zstd frames (RFC 8878) of raw blocks only. Every number is
// fixed, so the file offset of any byte is arithmetic.
const (
	blockSize   = 128 << 10               // raw block, the largest that RFC 8878 section 3.1.1.2.3 allows
	frameBlocks = 256                     // blocks of a full frame
	frameSize   = frameBlocks * blockSize // content of a full frame: 32 MiB
	frameHead   = 6                       // magic, frame header descriptor, window descriptor
	blockHead   = 3
	windowByte  = 7 << 3 // window descriptor: 2^(10+7) = 128 KiB

	zstdMagic      = 0xFD2FB528
	slackMagic     = 0x184D2A50 // skippable frame, RFC 8878 section 3.1.2
	tableMagic     = 0x184D2A5E
	skippableHead  = 8
	packedContent  = 4 << 20                                                // content of a full packed frame
	packedMaxFrame = packedContent + packedContent/blockSize*blockHead + 64 // the longest a packed frame can be: all blocks raw
)

// storedFrameHead is how every stored frame begins: no checksum, no content
// size, no dictionary, not single-segment.
var storedFrameHead = [frameHead]byte{0x28, 0xB5, 0x2F, 0xFD, 0x00, windowByte}

// storedLen returns the file bytes that n > 0 content bytes take in stored frames.
func storedLen(n int64) int64 {
	return n + blockHead*((n+blockSize-1)/blockSize) + frameHead*((n+frameSize-1)/frameSize)
}

// storedBlockOffset returns the file offset, relative to the first frame, of the block
// header that covers content offset pos, a multiple of blockSize; the frame
// header is counted to the first block of each frame.
func storedBlockOffset(pos int64) int64 {
	frame, in := pos/frameSize, pos%frameSize
	off := frame*(frameSize+frameBlocks*blockHead+frameHead) + in/blockSize*(blockSize+blockHead)
	if in > 0 {
		off += frameHead
	}
	return off
}

// putBlockHead writes the header of a raw block.
func putBlockHead(b []byte, size int, last bool) {
	v := uint32(size) << 3
	if last {
		v |= 1
	}
	b[0], b[1], b[2] = byte(v), byte(v>>8), byte(v>>16)
}

// appendStored appends content as stored frames.
func appendStored(dst, content []byte) []byte {
	for pos := 0; pos < len(content); {
		if pos%frameSize == 0 {
			dst = append(dst, storedFrameHead[:]...)
		}
		n := min(blockSize, len(content)-pos)
		var h [blockHead]byte
		putBlockHead(h[:], n, lastBlock(int64(pos), int64(n), int64(len(content))))
		dst = append(append(dst, h[:]...), content[pos:pos+n]...)
		pos += n
	}
	return dst
}

// lastBlock reports whether the block at pos of n bytes ends its frame.
func lastBlock(pos, n, total int64) bool {
	return pos+n == total || (pos+n)%frameSize == 0
}

// storedReader yields the content of stored frames, block by block, and
// insists on the canonical framing.
type storedReader struct {
	r      io.Reader
	offset int64 // file offset of the next byte of r, for messages
	total  int64 // content bytes in all
	pos    int64 // content bytes yielded
	buf    []byte
	have   []byte // read ahead, not yet yielded
}

// readAheadBlocks is how many blocks one read takes from the file.
const readAheadBlocks = 4

func newStoredReader(r io.Reader, offset, total int64) *storedReader {
	return &storedReader{r: r, offset: offset, total: total}
}

// next returns the content of the next block, valid until the next call, or
// io.EOF after the last.
func (s *storedReader) next() ([]byte, error) {
	if s.pos == s.total {
		return nil, io.EOF
	}
	if len(s.have) == 0 {
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
	n := min(blockSize, s.total-s.pos)
	if s.pos%frameSize == 0 {
		if [frameHead]byte(s.have) != storedFrameHead {
			return nil, frameError(s.have, s.offset-int64(len(s.have)))
		}
		s.have = s.have[frameHead:]
	}
	var want [blockHead]byte
	putBlockHead(want[:], int(n), lastBlock(s.pos, n, s.total))
	if [blockHead]byte(s.have) != want {
		return nil, &FormatError{Offset: s.offset - int64(len(s.have)), Err: ErrFrame, Detail: "block header"}
	}
	block := s.have[blockHead : blockHead+n]
	s.have = s.have[blockHead+n:]
	s.pos += n
	return block, nil
}

// fill reads the next blocks of this frame.
func (s *storedReader) fill() error {
	content := min(readAheadBlocks*blockSize, s.total-s.pos, frameSize-s.pos%frameSize)
	want := content + (content+blockSize-1)/blockSize*blockHead
	if s.pos%frameSize == 0 {
		want += frameHead
	}
	if int64(cap(s.buf)) < want {
		s.buf = make([]byte, want)
	}
	n, err := io.ReadFull(s.r, s.buf[:want])
	s.offset += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return &FormatError{Offset: s.offset, Err: ErrTruncated}
	}
	if err != nil {
		return err
	}
	s.have = s.buf[:want]
	return nil
}

// packedHead returns how a packed frame of that much content begins: single
// segment, content size stated, no checksum, no dictionary (RFC 8878 section
// 3.1.1.1). A reader compares; the window is the content, hence bounded.
func packedHead(content int64) []byte {
	h := binary.LittleEndian.AppendUint32(make([]byte, 0, 9), zstdMagic)
	if content < 256+1<<16 {
		return binary.LittleEndian.AppendUint16(append(h, 1<<6|1<<5), uint16(content-256))
	}
	return binary.LittleEndian.AppendUint32(append(h, 2<<6|1<<5), uint32(content))
}

// frameError explains bytes that are not the expected stored frame.
func frameError(b []byte, offset int64) error {
	if binary.LittleEndian.Uint32(b) != zstdMagic {
		return &FormatError{Offset: offset, Err: ErrFrame, Detail: "no zstd frame where one must start"}
	}
	return &FormatError{Offset: offset, Err: ErrFrame, Detail: fmt.Sprintf("frame header %x, want %x", b[4:frameHead], storedFrameHead[4:])}
}

// readFrame reads exactly one zstd frame, whatever its blocks, into buf and
// returns it. It reads no byte beyond the frame, so a stream can be cut into
// frames without a table. limit bounds the frame.
func readFrame(r io.Reader, buf []byte, offset int64, limit int) ([]byte, error) {
	buf = buf[:0]
	take := func(n int) error {
		if len(buf)+n > limit {
			return &FormatError{Offset: offset, Err: ErrLimit, Detail: fmt.Sprintf("frame over %d bytes", limit)}
		}
		start := len(buf)
		buf = append(buf, make([]byte, n)...)
		if _, err := io.ReadFull(r, buf[start:]); err == io.EOF || err == io.ErrUnexpectedEOF {
			return &FormatError{Offset: offset + int64(start), Err: ErrTruncated}
		} else if err != nil {
			return err
		}
		return nil
	}
	if err := take(5); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(buf) != zstdMagic {
		return nil, &FormatError{Offset: offset, Err: ErrFrame, Detail: "no zstd frame where one must start"}
	}
	fhd := buf[4]
	if err := take(frameHeaderRest(fhd)); err != nil {
		return nil, err
	}
	for last := false; !last; {
		if err := take(blockHead); err != nil {
			return nil, err
		}
		h := buf[len(buf)-blockHead:]
		v := uint32(h[0]) | uint32(h[1])<<8 | uint32(h[2])<<16
		last = v&1 == 1
		size := int(v >> 3)
		switch kind := v >> 1 & 3; {
		case kind == 3 || size > blockSize: // RFC 8878 section 3.1.1.2.4
			return nil, &FormatError{Offset: offset, Err: ErrFrame, Detail: "block header"}
		case kind == 1: // RLE: one byte, whatever the size
			size = 1
		}
		if err := take(size); err != nil {
			return nil, err
		}
	}
	if fhd&4 != 0 {
		if err := take(4); err != nil {
			return nil, err
		}
	}
	return buf, nil
}

// frameHeaderRest returns how many header bytes follow the frame header
// descriptor (RFC 8878 section 3.1.1.1.1).
func frameHeaderRest(fhd byte) int {
	single := fhd>>5&1 == 1
	n := [4]int{0, 1, 2, 4}[fhd&3]
	switch fhd >> 6 {
	case 0:
		if single {
			n++
		}
	case 1:
		n += 2
	case 2:
		n += 4
	case 3:
		n += 8
	}
	if !single {
		n++
	}
	return n
}
