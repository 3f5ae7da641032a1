package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ReadHead reads HEAD, slack included, from the start of a file and returns it
// with its length in the file. It reads at most MaxHead bytes, interprets
// nothing but framing and entry names, and leaves r at the start of META.
func ReadHead(r io.Reader) (Head, int64, error) {
	tar, n, slack, err := readHeadFrames(r)
	if err != nil {
		return Head{}, 0, err
	}
	if err := readSlack(r, n, slack); err != nil {
		return Head{}, 0, err
	}
	h, err := parseHead(tar)
	return h, n + slack, err
}

// readHeadFrames reads stored frames up to the slack's header and returns
// their content, the bytes read and the length of the slack.
func readHeadFrames(r io.Reader) (tar []byte, n, slack int64, err error) {
	var magic [skippableHead]byte
	for {
		if _, err := io.ReadFull(r, magic[:4]); err != nil {
			return nil, 0, 0, headEnd(err, n)
		}
		switch m := binary.LittleEndian.Uint32(magic[:]); {
		case m == slackMagic && n > 0:
			if _, err := io.ReadFull(r, magic[4:]); err != nil {
				return nil, 0, 0, headEnd(err, n)
			}
			slack = int64(binary.LittleEndian.Uint32(magic[4:]))
			if n+slack > MaxHead {
				return nil, 0, 0, &FormatError{Offset: n, Err: ErrLimit, Detail: fmt.Sprintf("slack of %d bytes", slack)}
			}
			return tar, n + skippableHead, slack, nil
		case m != zstdMagic && n == 0:
			return nil, 0, 0, &FormatError{Offset: 0, Err: ErrNotBundle, Detail: "it does not start with a zstd frame"}
		case m != zstdMagic:
			return nil, 0, 0, &FormatError{Offset: n, Err: ErrFrame, Detail: "neither a frame nor slack in HEAD"}
		case len(tar)%frameSize != 0:
			return nil, 0, 0, &FormatError{Offset: n, Err: ErrFrame, Detail: "a frame after one that is not full"}
		}
		if tar, n, err = readHeadFrame(r, tar, n); err != nil {
			return nil, 0, 0, err
		}
	}
}

// readHeadFrame appends the content of one stored frame whose magic has been
// read, and returns the bytes of HEAD read so far. Until a block of the first
// frame was whole nothing says that this was ever a bundle: an ordinary
// .tar.zst is told from a damaged one there.
func readHeadFrame(r io.Reader, tar []byte, n int64) ([]byte, int64, error) {
	refuse := func(at int64, detail string) ([]byte, int64, error) {
		if len(tar) == 0 {
			return nil, 0, &FormatError{Offset: at, Err: ErrNotBundle, Detail: detail}
		}
		return nil, 0, &FormatError{Offset: at, Err: ErrFrame, Detail: detail}
	}
	head := storedFrameHead
	if _, err := io.ReadFull(r, head[4:]); err != nil {
		return nil, 0, headEnd(err, n+4)
	}
	if head != storedFrameHead {
		return refuse(n+4, fmt.Sprintf("frame header %x, want %x", head[4:], storedFrameHead[4:]))
	}
	n += frameHead
	for block := 1; ; block++ {
		var h [blockHead]byte
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return nil, 0, headEnd(err, n)
		}
		v := uint32(h[0]) | uint32(h[1])<<8 | uint32(h[2])<<16
		size, last := int(v>>3), v&1 == 1
		// Canonical: raw, full unless the last, the last where the frame is full.
		if v>>1&3 != 0 || size == 0 || size > blockSize || size < blockSize && !last || block == frameBlocks && !last {
			return refuse(n, "block header")
		}
		if n += blockHead + int64(size); n > MaxHead {
			return nil, 0, &FormatError{Offset: n, Err: ErrLimit, Detail: fmt.Sprintf("HEAD over %d bytes", MaxHead)}
		}
		start := len(tar)
		tar = slices.Grow(tar, size)[:start+size]
		if m, err := io.ReadFull(r, tar[start:]); err != nil {
			return nil, 0, headEnd(err, n-int64(size-m))
		}
		if last {
			return tar, n, nil
		}
	}
}

// headEnd turns an end of file in HEAD into its class.
func headEnd(err error, n int64) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if n == 0 {
		return &FormatError{Offset: 0, Err: ErrNotBundle, Detail: "it is empty"}
	}
	return &FormatError{Offset: n, Err: ErrTruncated}
}

// readSlack reads n bytes that must be zero.
func readSlack(r io.Reader, offset, n int64) error {
	buf := make([]byte, 32<<10)
	for n > 0 {
		b := buf[:min(n, int64(len(buf)))]
		if _, err := io.ReadFull(r, b); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return &FormatError{Offset: offset, Err: ErrTruncated}
		} else if err != nil {
			return err
		}
		for i, c := range b {
			if c != 0 {
				return &FormatError{Offset: offset + int64(i), Err: ErrSlack}
			}
		}
		offset += int64(len(b))
		n -= int64(len(b))
	}
	return nil
}

// parseHead cuts the tar content of HEAD into its entries: exactly oci-layout,
// index.json, signatures, trusted_root.json, in this order, each header
// canonical.
func parseHead(tar []byte) (Head, error) {
	var h Head
	p := headParser{rest: tar, seen: map[string]bool{}}
	if err := p.constant(nameLayout, Layout, ErrNotBundle); err != nil {
		return Head{}, err
	}
	var err error
	if h.Index, err = p.entry(nameIndex, MaxIndex); err != nil {
		return Head{}, err
	}
	for {
		name, _, err := p.peek()
		if err != nil {
			return Head{}, err
		}
		sig, ok := strings.CutPrefix(name, dirSignatures)
		if !ok {
			break
		}
		if err := checkSignatureName(sig); err != nil {
			return Head{}, err
		}
		if len(h.Signatures) == MaxSignatures {
			return Head{}, &FormatError{Offset: -1, Entry: name, Err: ErrLimit, Detail: fmt.Sprintf("more than %d signatures", MaxSignatures)}
		}
		data, err := p.entry(name, MaxSignature)
		if err != nil {
			return Head{}, err
		}
		h.Signatures = append(h.Signatures, Signature{Name: sig, Data: data})
	}
	if err := p.constant(nameTrustedRoot, TrustedRoot, ErrEntryUnknown); err != nil {
		return Head{}, err
	}
	return h, p.end()
}

// headParser takes entry after entry off the tar content of HEAD.
type headParser struct {
	rest []byte
	seen map[string]bool
}

// peek returns the next entry's name and size, and refuses one that was there
// already.
func (p *headParser) peek() (string, int64, error) {
	if len(p.rest) < tarBlock {
		return "", 0, &FormatError{Offset: -1, Err: ErrTruncated, Detail: "HEAD lacks entries"}
	}
	name, size, err := readHeader(p.rest[:tarBlock], -1)
	if err == nil && p.seen[name] {
		err = &FormatError{Offset: -1, Entry: name, Err: ErrEntryDuplicate}
	}
	return name, size, err
}

// constant consumes the next entry, which must have that name and content.
func (p *headParser) constant(name, content string, class error) error {
	data, err := p.entry(name, int64(len(content)))
	if err != nil {
		return err
	}
	if string(data) != content {
		return &FormatError{Offset: -1, Entry: name, Err: class, Detail: "its content is not the one this format has"}
	}
	return nil
}

// entry consumes the next entry, which must have that name and at most limit bytes.
func (p *headParser) entry(want string, limit int64) ([]byte, error) {
	name, size, err := p.peek()
	if err != nil {
		return nil, err
	}
	if name != want {
		return nil, &FormatError{Offset: -1, Entry: name, Err: ErrEntryUnknown, Detail: fmt.Sprintf("want %q here", want)}
	}
	if size > limit {
		return nil, &FormatError{Offset: -1, Entry: name, Err: ErrLimit, Detail: fmt.Sprintf("%d bytes, at most %d allowed", size, limit)}
	}
	if int64(len(p.rest)) < entrySize(size) {
		return nil, &FormatError{Offset: -1, Entry: name, Err: ErrTruncated, Detail: "HEAD ends inside it"}
	}
	data := p.rest[tarBlock : tarBlock+size]
	for _, c := range p.rest[tarBlock+size : entrySize(size)] {
		if c != 0 {
			return nil, &FormatError{Offset: -1, Entry: name, Err: ErrSlack, Detail: "tar padding"}
		}
	}
	p.rest = p.rest[entrySize(size):]
	p.seen[name] = true
	return data, nil
}

// end refuses entries that nothing asked for.
func (p *headParser) end() error {
	if len(p.rest) == 0 {
		return nil
	}
	name, _, err := p.peek()
	if err != nil {
		return err
	}
	return &FormatError{Offset: -1, Entry: name, Err: ErrEntryUnknown, Detail: "in HEAD"}
}
