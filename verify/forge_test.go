package verify_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/verify/sign"
	"github.com/klauspost/compress/zstd"
)

// A forgery is a bundle taken apart, to be put together again with lies in it.
// Its encoder is written after FORMAT.md, not after package archive, and takes
// tar headers from the standard library: a second opinion on the format.
type forgery struct {
	t      *testing.T
	key    *sign.Key
	pub    string
	index  bundle.Index
	head   []member
	slack  []byte // content of the skippable frame
	stored []member
	packed []member
	// frame compresses one packed frame.
	frame func(content []byte) []byte
	// table lies in the table, tail in what follows the last frame.
	table  func(sizes []uint32, packed uint64) ([]uint32, uint64)
	tail   func(tail []byte) []byte
	region map[string]int // offsets of what encode wrote, by name
}

// member is a tar entry.
type member struct {
	name   string
	data   []byte
	header []byte // nil: the canonical one
	pad    byte
}

const (
	forgedBlock = 128 << 10
	forgedFrame = 32 << 20
	forgedChunk = 4 << 20
)

// forge makes a bundle of one image with two PLACED layers around a PACKED one and takes it apart.
func forge(t *testing.T, sizes ...int) *forgery {
	t.Helper()
	if len(sizes) == 0 {
		sizes = []int{150_000, 70_000, 150_000}
	}
	spool := fixture.Spool(t)
	k, pub := fixture.Key(t)
	path := filepath.Join(t.TempDir(), "whole.tar.zst")
	p := fixture.Plan(t, spool, image(t, spool, "example.com/a:1", 1, sizes...))
	if _, err := bundle.Create(t.Context(), p, bundle.CreateOptions{Output: path, Sign: fixture.Signer(k)}); err != nil {
		t.Fatal(err)
	}
	f := &forgery{t: t, key: k, pub: pub}
	f.takeApart(path)
	if got, want := f.encode(), read(t, path); !bytes.Equal(got, want) {
		t.Fatalf("the forgery without a lie has %d bytes and differs from the bundle of %d bytes", len(got), len(want))
	}
	return f
}

// clone returns a copy for another test to lie in.
func (f *forgery) clone(t *testing.T) *forgery {
	c := &forgery{t: t, key: f.key, pub: f.pub, index: f.index}
	c.index.Entries = slices.Clone(f.index.Entries)
	c.head, c.stored, c.packed = slices.Clone(f.head), slices.Clone(f.stored), slices.Clone(f.packed)
	return c
}

func (f *forgery) takeApart(path string) {
	f.t.Helper()
	file, err := bundle.OpenFile(path)
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	h := file.Head()
	if f.index, err = bundle.ParseIndex(h.Index); err != nil {
		f.t.Fatal(err)
	}
	g, err := file.ReadGraph(f.index)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := file.Locate(g); err != nil {
		f.t.Fatal(err)
	}
	f.head = []member{{name: "oci-layout", data: []byte(archive.Layout)}, {name: "index.json", data: h.Index}}
	for _, s := range h.Signatures {
		f.head = append(f.head, member{name: "signatures/" + s.Name, data: s.Data})
	}
	f.head = append(f.head, member{name: "trusted_root.json", data: []byte(archive.TrustedRoot)})
	take := func(blobs []archive.Blob) (out []member) {
		for _, b := range blobs {
			rc, err := file.Open(b)
			if err != nil {
				f.t.Fatal(err)
			}
			data, err := io.ReadAll(rc)
			if err != nil {
				f.t.Fatal(err)
			}
			rc.Close()
			out = append(out, member{name: "blobs/sha256/" + b.Digest.Encoded(), data: data})
		}
		return out
	}
	f.stored = append(take(g.Contents.Meta), take(g.Contents.Placed)...)
	f.packed = take(g.Contents.Packed)
}

// sign replaces index.json and the signature over it.
func (f *forgery) sign(index []byte) {
	f.t.Helper()
	sig, err := f.key.Blob(index)
	if err != nil {
		f.t.Fatal(err)
	}
	f.head[1].data, f.head[2].data = index, sig
}

// resign encodes and signs f.index.
func (f *forgery) resign() {
	f.t.Helper()
	raw, err := bundle.EncodeIndex(f.index.Info, f.index.Entries)
	if err != nil {
		f.t.Fatal(err)
	}
	f.sign(raw)
}

// encode writes the file and notes where things lie.
func (f *forgery) encode() []byte {
	f.region = map[string]int{}
	var headTar []byte
	for _, m := range f.head {
		headTar = append(headTar, f.tar(m)...)
	}
	out := stored(headTar)
	slack := f.slack
	if slack == nil {
		// The reserve holds the signatures; HEAD ends at a page.
		var unsigned []byte
		for _, m := range []member{f.head[0], f.head[1], {name: "trusted_root.json", data: []byte(archive.TrustedRoot)}} {
			unsigned = append(unsigned, f.tar(m)...)
		}
		size := (len(stored(unsigned)) + archive.SignatureReserve + 4095) / 4096 * 4096
		slack = make([]byte, max(0, size-len(out)-8))
	}
	out = skippable(out, 0x184D2A50, slack)
	f.region["slack"] = len(out) - len(slack)
	f.region["meta"] = len(out)
	for _, m := range f.stored {
		f.region[m.name] = len(out)
		out = append(out, stored(f.tar(m))...)
	}
	packed := len(out)
	f.region["packed"] = packed
	var sizes []uint32
	for _, m := range f.packed {
		f.region[m.name] = len(out)
		for content := f.tar(m); len(content) > 0; {
			n := min(forgedChunk, len(content))
			frame := f.compress(content[:n])
			sizes = append(sizes, uint32(len(frame)))
			out = append(out, frame...)
			content = content[n:]
		}
	}
	f.region["marks"] = len(out)
	tail := stored(make([]byte, 1024))
	f.region["table"] = len(out) + len(tail)
	at := uint64(packed)
	if f.table != nil {
		sizes, at = f.table(sizes, at)
	}
	var table []byte
	for _, n := range sizes {
		table = binary.LittleEndian.AppendUint32(table, n)
	}
	table = binary.LittleEndian.AppendUint64(table, at)
	table = binary.LittleEndian.AppendUint32(table, uint32(len(sizes)))
	table = append(append(table, make([]byte, 12)...), 'A', 'I', 'R', 'L', 'O', 'C', 'K', 1)
	tail = skippable(tail, 0x184D2A5E, table)
	if f.tail != nil {
		tail = f.tail(tail)
	}
	return append(out, tail...)
}

func (f *forgery) compress(content []byte) []byte {
	if f.frame != nil {
		return f.frame(content)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(forgedChunk), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
	if err != nil {
		f.t.Fatal(err)
	}
	return z.EncodeAll(content, nil)
}

func (f *forgery) tar(m member) []byte {
	out := m.header
	if out == nil {
		out = f.header(tar.Header{Typeflag: tar.TypeReg, Name: m.name, Size: int64(len(m.data))})
	}
	out = append(bytes.Clone(out), m.data...)
	for len(out)%512 != 0 {
		out = append(out, m.pad)
	}
	return out
}

// header returns the standard library's header blocks in ustar, or in the
// format that h names.
func (f *forgery) header(h tar.Header) []byte {
	f.t.Helper()
	h.Mode, h.ModTime = 0o644, time.Unix(315532800, 0)
	if h.Format == tar.FormatUnknown {
		h.Format = tar.FormatUSTAR
	}
	var buf bytes.Buffer
	if err := tar.NewWriter(&buf).WriteHeader(&h); err != nil {
		f.t.Fatal(err)
	}
	return buf.Bytes()
}

// stored frames content in raw blocks of 128 KiB, 256 of them to a frame.
func stored(content []byte) (out []byte) {
	for pos := 0; pos < len(content); {
		if pos%forgedFrame == 0 {
			out = append(out, 0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x38)
		}
		n := min(forgedBlock, len(content)-pos)
		v := n << 3
		if pos+n == len(content) || (pos+n)%forgedFrame == 0 {
			v |= 1
		}
		out = append(append(out, byte(v), byte(v>>8), byte(v>>16)), content[pos:pos+n]...)
		pos += n
	}
	return out
}

func skippable(out []byte, magic uint32, content []byte) []byte {
	out = binary.LittleEndian.AppendUint32(out, magic)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(content)))
	return append(out, content...)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
