package chart

import (
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"
)

// storedGzip writes a gzip member (RFC 1952) of stored deflate blocks (RFC
// 1951, 3.2.4). Helm reads charts as gzip only, and the standard library's
// compressor changes its output between releases; stored blocks never do.
type storedGzip struct {
	w    io.Writer
	crc  hash.Hash32
	size uint32
	buf  []byte
	err  error
}

// maxStored is the longest stored block that RFC 1951 allows.
const maxStored = 65535

func newStoredGzip(w io.Writer) *storedGzip {
	z := &storedGzip{w: w, crc: crc32.NewIEEE(), buf: make([]byte, 0, maxStored)}
	// No flags, no time, unknown operating system.
	z.put([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255})
	return z
}

// Write implements io.Writer.
func (z *storedGzip) Write(p []byte) (int, error) {
	z.crc.Write(p)
	z.size += uint32(len(p)) // modulo 2^32, as RFC 1952 says
	for rest := p; len(rest) > 0 && z.err == nil; {
		if len(z.buf) == maxStored {
			z.block(false)
		}
		n := min(len(rest), maxStored-len(z.buf))
		z.buf = append(z.buf, rest[:n]...)
		rest = rest[n:]
	}
	return len(p), z.err
}

// Close writes the last block and the trailer. It does not close w.
func (z *storedGzip) Close() error {
	z.block(true)
	var t [8]byte
	binary.LittleEndian.PutUint32(t[:4], z.crc.Sum32())
	binary.LittleEndian.PutUint32(t[4:], z.size)
	z.put(t[:])
	return z.err
}

func (z *storedGzip) block(final bool) {
	var h [5]byte
	if final {
		h[0] = 1
	}
	n := uint16(len(z.buf))
	binary.LittleEndian.PutUint16(h[1:3], n)
	binary.LittleEndian.PutUint16(h[3:5], ^n)
	z.put(h[:])
	z.put(z.buf)
	z.buf = z.buf[:0]
}

func (z *storedGzip) put(p []byte) {
	if z.err == nil {
		_, z.err = z.w.Write(p)
	}
}
