package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// Reader reads a bundle file at random. It checks framing, not digests: what
// it yields is untrusted. It is safe for concurrent use once Locate returned.
type Reader struct {
	f       *os.File
	size    int64
	headLen int64
	layout  *layout
	frames  []int64 // offsets of the packed frames, and of their end
	dec     *zstd.Decoder
}

// Open opens a bundle file and reads HEAD. The Reader keeps this one handle
// until Close: the path is not opened again.
func Open(path string) (*Reader, Head, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, Head{}, err
	}
	if !fi.Mode().IsRegular() { // before opening: a named pipe would block
		return nil, Head{}, &FormatError{Offset: -1, Err: ErrNotBundle, Detail: "it is not a regular file"}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, Head{}, err
	}
	r, h, err := open(f)
	if err != nil {
		return nil, Head{}, errors.Join(err, f.Close())
	}
	return r, h, nil
}

func open(f *os.File) (*Reader, Head, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, Head{}, err
	}
	h, n, err := ReadHead(io.NewSectionReader(f, 0, fi.Size()))
	if err != nil {
		return nil, Head{}, err
	}
	dec, err := newFrameDecoder()
	if err != nil {
		return nil, Head{}, err
	}
	return &Reader{f: f, size: fi.Size(), headLen: n, dec: dec}, h, nil
}

// Close releases the file.
func (r *Reader) Close() error {
	r.dec.Close()
	return r.f.Close()
}

// Size returns the file's size in bytes.
func (r *Reader) Size() int64 { return r.size }

// LocateMeta makes the first blobs of META readable: manifests, whose sizes the
// index gives, before anything else is known.
func (r *Reader) LocateMeta(manifests []Blob) error {
	l, err := newLayout(r.headLen, Contents{Meta: manifests})
	if err != nil {
		return err
	}
	if l.packed > r.size {
		return &FormatError{Offset: r.size, Err: ErrTruncated, Detail: "META is not whole"}
	}
	r.layout = l
	return nil
}

// Locate places every blob and reads TABLE: afterwards the extents tile the
// file from its first byte to its last.
func (r *Reader) Locate(c Contents) error {
	l, err := newLayout(r.headLen, c)
	if err != nil {
		return err
	}
	frames, err := r.readTable(l)
	if err != nil {
		return err
	}
	r.layout, r.frames = l, frames
	return nil
}

// readTable reads the tar end marks, the table and the footer, and checks that
// PACKED and they end exactly where the file does.
func (r *Reader) readTable(l *layout) ([]int64, error) {
	tail := skippableHead + 4*int64(l.frames) + footerSize
	marks := storedLen(endMarks)
	if l.packed+marks+tail > r.size {
		return nil, &FormatError{Offset: r.size, Err: ErrTruncated, Detail: "blobs or table are missing"}
	}
	table := make([]byte, marks+tail)
	if _, err := r.f.ReadAt(table, r.size-int64(len(table))); err != nil {
		return nil, fmt.Errorf("read table: %w", err)
	}
	sizes, err := parseTable(table, l, r.size)
	if errors.Is(err, ErrTrailing) {
		return nil, r.explainEnd(l, err)
	}
	if err != nil {
		return nil, err
	}
	offsets := make([]int64, 0, len(sizes)+1)
	at := l.packed
	for _, n := range sizes {
		offsets = append(offsets, at)
		at += int64(n)
	}
	end := r.size - int64(len(table))
	if at < end {
		return nil, &FormatError{Offset: at, Err: ErrTrailing, Detail: fmt.Sprintf("%d bytes that no extent covers", end-at)}
	}
	if at > end {
		return nil, &FormatError{Offset: end, Err: ErrTruncated, Detail: "PACKED is not whole"}
	}
	return append(offsets, at), nil
}

// explainEnd tells a file that was cut inside PACKED from one that something
// was appended to: it walks the frames, as a reader of a stream does.
func (r *Reader) explainEnd(l *layout, err error) error {
	section := io.NewSectionReader(r.f, l.packed, r.size-l.packed)
	at := l.packed
	var buf []byte
	for range l.frames {
		var ferr error
		if buf, ferr = readFrame(section, buf, at, packedMaxFrame); errors.Is(ferr, ErrTruncated) {
			return ferr
		} else if ferr != nil {
			return err
		}
		at += int64(len(buf))
	}
	switch end := at + storedLen(endMarks) + skippableHead + 4*int64(l.frames) + footerSize; {
	case r.size < end:
		return &FormatError{Offset: r.size, Err: ErrTruncated, Detail: "the table is not whole"}
	case r.size == end:
		return &FormatError{Offset: r.size - 8, Err: ErrTable, Detail: "footer"}
	default:
		return err
	}
}

// encodeTail returns tar end marks, table and footer.
func encodeTail(sizes []uint32, packed int64) []byte {
	out := appendStored(nil, make([]byte, endMarks))
	out = binary.LittleEndian.AppendUint32(out, tableMagic)
	out = binary.LittleEndian.AppendUint32(out, uint32(4*len(sizes)+footerSize))
	for _, n := range sizes {
		out = binary.LittleEndian.AppendUint32(out, n)
	}
	out = binary.LittleEndian.AppendUint64(out, uint64(packed))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(sizes)))
	out = append(out, make([]byte, 12)...) // reserved for volumes, parity and delta
	return append(out, footerMagic[:]...)
}

// parseTable checks a tail and returns the sizes of the packed frames.
func parseTable(tail []byte, l *layout, size int64) ([]uint32, error) {
	foot := tail[len(tail)-footerSize:]
	if [8]byte(foot[24:]) != footerMagic {
		return nil, &FormatError{Offset: size - 8, Err: ErrTrailing, Detail: "the file does not end in the footer: it was cut or something was appended"}
	}
	sizes := make([]uint32, l.frames)
	at := len(tail) - footerSize - 4*l.frames
	for i := range sizes {
		sizes[i] = binary.LittleEndian.Uint32(tail[at+4*i:])
		if sizes[i] > packedMaxFrame {
			return nil, &FormatError{Offset: size - int64(len(tail)-at) + int64(4*i), Err: ErrTable, Detail: fmt.Sprintf("frame of %d bytes", sizes[i])}
		}
	}
	want := encodeTail(sizes, l.packed)
	for i := range want {
		if tail[i] != want[i] {
			return nil, &FormatError{Offset: size - int64(len(tail)) + int64(i), Err: ErrTable}
		}
	}
	return sizes, nil
}

// Open yields a blob's content, without checking its digest. The caller closes it.
func (r *Reader) Open(b Blob) (io.ReadCloser, error) {
	if r.layout == nil {
		return nil, fmt.Errorf("open blob %s: the file is not located yet", b.Digest)
	}
	e, err := r.layout.find(b)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(&entryReader{src: r.chunks(e), blob: b}), nil
}

func (r *Reader) chunks(e extent) chunker {
	total := entrySize(e.blob.Size)
	if e.region != regionPacked {
		return newStoredReader(io.NewSectionReader(r.f, e.offset, storedLen(total)), e.offset, total)
	}
	next := e.frame
	var buf []byte
	return &packedReader{dec: r.dec, total: total, frame: func() ([]byte, error) {
		at, n := r.frames[next], r.frames[next+1]-r.frames[next]
		next++
		section := io.NewSectionReader(r.f, at, n)
		var err error
		if buf, err = readFrame(section, buf, at, packedMaxFrame); err != nil {
			return nil, err
		}
		if int64(len(buf)) != n {
			return nil, &FormatError{Offset: at, Err: ErrTable, Detail: fmt.Sprintf("frame has %d bytes, the table says %d", len(buf), n)}
		}
		return buf, nil
	}}
}
