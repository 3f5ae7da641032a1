package archive

import (
	"bytes"
	"encoding/binary"
	"fmt"
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
// which cosign 2.6 demands offline even to check a plain key. No signature covers
// it, so readers accept no other content.
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
