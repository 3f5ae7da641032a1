package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// SignatureReserve is the room left in HEAD for signatures, in file bytes. A
// key signature takes 1.5 KiB, a keyless one about 20 KiB; more signatures can
// always lie beside the file.
const SignatureReserve = 128 << 10

// headAlign makes META start at a page.
const headAlign = 4096

// Layout is the content of the oci-layout entry (image-spec 1.1, image-layout.md).
const Layout = `{"imageLayoutVersion":"1.0.0"}`

// TrustedRoot is the content of the trusted_root.json entry: an empty root,
// which cosign 2.6 demands offline even to check a plain key. It is not
// evidence; verify never reads it.
const TrustedRoot = `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}` + "\n"

// Names of the entries of HEAD.
const (
	nameLayout      = "oci-layout"
	nameIndex       = "index.json"
	nameTrustedRoot = "trusted_root.json"
	dirSignatures   = "signatures/"
)

// Head is what can be read before trust: raw index and signatures.
type Head struct {
	Index      []byte
	Signatures []Signature
}

// Signature is one file under signatures/. Its name means nothing.
type Signature struct {
	Name string // without the directory
	Data []byte
}

// HeadSize returns the file bytes of HEAD for an index of that many bytes.
func HeadSize(index int) int64 {
	tar := entrySize(int64(len(Layout))) + entrySize(int64(index)) + entrySize(int64(len(TrustedRoot)))
	n := storedLen(tar) + SignatureReserve
	return (n + headAlign - 1) / headAlign * headAlign
}

// encode returns the whole of HEAD, size bytes, slack included.
func (h Head) encode(size int64) ([]byte, error) {
	var tar bytes.Buffer
	add := func(name string, data []byte) {
		hdr := tarHeader(name, int64(len(data)))
		tar.Write(hdr[:])
		tar.Write(data)
		tar.Write(make([]byte, entrySize(int64(len(data)))-tarBlock-int64(len(data))))
	}
	add(nameLayout, []byte(Layout))
	add(nameIndex, h.Index)
	for _, s := range h.Signatures {
		if err := checkSignatureName(s.Name); err != nil {
			return nil, err
		}
		add(dirSignatures+s.Name, s.Data)
	}
	add(nameTrustedRoot, []byte(TrustedRoot))
	out := appendStored(make([]byte, 0, size), tar.Bytes())
	slack := size - int64(len(out)) - skippableHead
	if slack < 0 {
		return nil, fmt.Errorf("signatures take %d bytes more than HEAD reserves: put the last ones beside the file", -slack)
	}
	out = binary.LittleEndian.AppendUint32(out, slackMagic)
	out = binary.LittleEndian.AppendUint32(out, uint32(slack))
	return append(out, make([]byte, slack)...), nil
}

func checkSignatureName(name string) error {
	if name == "" || len(name) > 80 || strings.ContainsAny(name, "/\\\x00") || strings.HasPrefix(name, ".") {
		return &FormatError{Offset: -1, Entry: dirSignatures + name, Err: ErrEntryName}
	}
	return nil
}

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
	var frame []byte
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
		case m != zstdMagic:
			if n == 0 {
				return nil, 0, 0, &FormatError{Offset: 0, Err: ErrNotBundle, Detail: "it does not start with a zstd frame"}
			}
			return nil, 0, 0, &FormatError{Offset: n, Err: ErrFrame, Detail: "neither a frame nor slack in HEAD"}
		}
		frame, err = readFrame(io.MultiReader(bytes.NewReader(magic[:4]), r), frame, n, MaxHead)
		if err != nil {
			return nil, 0, 0, notBundleAtStart(err, n)
		}
		start := len(tar)
		if tar, err = appendRawBlocks(tar, frame, n); err != nil {
			return nil, 0, 0, notBundleAtStart(err, n)
		}
		if !bytes.Equal(frame, appendStored(nil, tar[start:])) {
			return nil, 0, 0, &FormatError{Offset: n, Err: ErrFrame, Detail: "blocks of HEAD"}
		}
		n += int64(len(frame))
		if n > MaxHead {
			return nil, 0, 0, &FormatError{Offset: n, Err: ErrLimit, Detail: fmt.Sprintf("HEAD over %d bytes", MaxHead)}
		}
	}
}

// headEnd turns an end of file in HEAD into its class.
func headEnd(err error, n int64) error {
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	if n == 0 {
		return &FormatError{Offset: 0, Err: ErrNotBundle, Detail: "it is empty"}
	}
	return &FormatError{Offset: n, Err: ErrTruncated}
}

// notBundleAtStart tells an ordinary .tar.zst, whose first frame is compressed,
// from a damaged bundle.
func notBundleAtStart(err error, n int64) error {
	if fe, ok := errors.AsType[*FormatError](err); ok && n == 0 && (fe.Err == ErrFrame || fe.Err == ErrWindow) {
		return &FormatError{Offset: 0, Err: ErrNotBundle, Detail: fe.Error()}
	}
	return err
}

// appendRawBlocks appends the content of a frame that consists of raw blocks.
func appendRawBlocks(dst, frame []byte, offset int64) ([]byte, error) {
	if [frameHead]byte(frame) != storedFrameHead {
		return nil, frameError(frame, offset)
	}
	for b := frame[frameHead:]; len(b) > 0; {
		v := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		size := int(v >> 3)
		if v>>1&3 != 0 || size > blockSize {
			return nil, &FormatError{Offset: offset, Err: ErrFrame, Detail: "HEAD holds a block that is not raw"}
		}
		dst = append(dst, b[blockHead:blockHead+size]...)
		b = b[blockHead+size:]
	}
	return dst, nil
}

// readSlack reads n bytes that must be zero.
func readSlack(r io.Reader, offset, n int64) error {
	buf := make([]byte, 32<<10)
	for n > 0 {
		b := buf[:min(n, int64(len(buf)))]
		if _, err := io.ReadFull(r, b); err == io.EOF || err == io.ErrUnexpectedEOF {
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
// canonical, framing canonical.
func parseHead(tar []byte) (Head, error) {
	var h Head
	p := headParser{rest: tar}
	layout, err := p.entry(nameLayout, int64(len(Layout)))
	if err != nil {
		return Head{}, err
	}
	if string(layout) != Layout {
		return Head{}, &FormatError{Offset: -1, Entry: nameLayout, Err: ErrNotBundle, Detail: "unknown layout version"}
	}
	if h.Index, err = p.entry(nameIndex, MaxIndex); err != nil {
		return Head{}, err
	}
	seen := map[string]bool{}
	for {
		name, size, err := p.peek()
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
		if seen[sig] {
			return Head{}, &FormatError{Offset: -1, Entry: name, Err: ErrEntryDuplicate}
		}
		seen[sig] = true
		if len(seen) > MaxSignatures {
			return Head{}, &FormatError{Offset: -1, Entry: name, Err: ErrLimit, Detail: fmt.Sprintf("more than %d signatures", MaxSignatures)}
		}
		data, err := p.entry(name, min(size, MaxSignature))
		if err != nil {
			return Head{}, err
		}
		h.Signatures = append(h.Signatures, Signature{Name: sig, Data: data})
	}
	if _, err := p.entry(nameTrustedRoot, MaxTrustedRoot); err != nil {
		return Head{}, err
	}
	if len(p.rest) > 0 {
		name, _, err := p.peek()
		if err != nil {
			return Head{}, err
		}
		if name == nameLayout || name == nameIndex || name == nameTrustedRoot {
			return Head{}, &FormatError{Offset: -1, Entry: name, Err: ErrEntryDuplicate}
		}
		return Head{}, &FormatError{Offset: -1, Entry: name, Err: ErrEntryUnknown, Detail: "in HEAD"}
	}
	return h, nil
}

type headParser struct{ rest []byte }

// peek returns the next entry's name and size.
func (p *headParser) peek() (string, int64, error) {
	if len(p.rest) < tarBlock {
		return "", 0, &FormatError{Offset: -1, Err: ErrTruncated, Detail: "HEAD lacks entries"}
	}
	return readHeader(p.rest[:tarBlock], -1)
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
	return data, nil
}
