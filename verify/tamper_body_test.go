package verify_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// members lies in the tar headers of META and PLACED.
func members() []tamperCase {
	long := strings.Repeat("n", 300)
	var out []tamperCase
	for _, h := range []struct {
		name string
		want refusal
		h    tar.Header
	}{
		{"symlink", class(archive.ErrEntryType), tar.Header{Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}},
		{"hard link", class(archive.ErrEntryType), tar.Header{Typeflag: tar.TypeLink, Linkname: "index.json"}},
		{"device", class(archive.ErrEntryType), tar.Header{Typeflag: tar.TypeBlock, Devmajor: 8}},
		{"directory", class(archive.ErrEntryType), tar.Header{Typeflag: tar.TypeDir}},
		{"parent name", class(archive.ErrEntryName), tar.Header{Typeflag: tar.TypeReg, Name: "../x"}},
		{"absolute name", class(archive.ErrEntryName), tar.Header{Typeflag: tar.TypeReg, Name: "/etc/passwd"}},
		{"other name", class(archive.ErrEntryUnknown), tar.Header{Typeflag: tar.TypeReg, Name: "blobs/sha256/" + strings.Repeat("0", 64)}},
		{"index.json", class(archive.ErrEntryUnknown), tar.Header{Typeflag: tar.TypeReg, Name: "index.json"}},
	} {
		replace := func(m *member, f *forgery) {
			forged := h.h
			if forged.Name == "" {
				forged.Name = m.name
			}
			m.header = f.header(forged)
		}
		out = append(out,
			tamperCase{name: h.name + " in META", want: h.want, make: func(f *forgery) []byte {
				replace(&f.stored[0], f)
				return f.encode()
			}},
			tamperCase{name: h.name + " in PLACED", want: both(content, h.want), late: true, make: func(f *forgery) []byte {
				replace(&f.stored[len(f.stored)-1], f)
				return f.encode()
			}},
			tamperCase{name: h.name + " in PACKED", want: both(content, h.want), late: true, make: func(f *forgery) []byte {
				replace(&f.packed[0], f)
				return f.encode()
			}})
	}
	for name, format := range map[string]tar.Format{"pax": tar.FormatPAX, "GNU": tar.FormatGNU} {
		long := func(m *member, f *forgery) {
			m.header = f.header(tar.Header{Typeflag: tar.TypeReg, Name: long, Format: format})
		}
		out = append(out,
			// A manifest is smaller than a block, so the longer entry shows in the framing.
			tamperCase{name: name + " long name in META", want: class(archive.ErrFrame), make: func(f *forgery) []byte {
				long(&f.stored[0], f)
				return f.encode()
			}},
			tamperCase{name: name + " long name in PLACED", want: both(content, class(archive.ErrEntryType)), late: true, make: func(f *forgery) []byte {
				m := &f.stored[len(f.stored)-1]
				long(m, f)
				m.data = m.data[:len(m.data)+512-len(m.header)]
				return f.encode()
			}})
	}
	return out
}

// withFrame is a case in which every packed frame is what frame returns.
func withFrame(name string, want refusal, frame func(f *forgery, content []byte) []byte) tamperCase {
	return tamperCase{name: name, want: want, late: true, make: func(f *forgery) []byte {
		f.frame = func(content []byte) []byte { return frame(f, content) }
		return f.encode()
	}}
}

func encoded(content []byte, o ...zstd.EOption) []byte {
	z, err := zstd.NewWriter(nil, append([]zstd.EOption{zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true)}, o...)...)
	if err != nil {
		panic(err)
	}
	return z.EncodeAll(content, nil)
}

// rle is a frame with the given header and blocks of 128 KiB that take four bytes each.
func rle(head []byte, blocks int) []byte {
	out := bytes.Clone(head)
	for i := range blocks {
		v := forgedBlock<<3 | 1<<1
		if i == blocks-1 {
			v |= 1
		}
		out = append(out, byte(v), byte(v>>8), byte(v>>16), 0)
	}
	return out
}

func frames() []tamperCase {
	magic := []byte{0x28, 0xB5, 0x2F, 0xFD}
	claim := func(n uint32) []byte { return binary.LittleEndian.AppendUint32(append(bytes.Clone(magic), 0xA0), n) }
	return []tamperCase{
		withFrame("frame bomb of RLE blocks", both(content, class(archive.ErrBomb)), func(_ *forgery, c []byte) []byte {
			canonical := encoded(c)
			n := 9
			if len(c) < 256+1<<16 {
				n = 7
			}
			return rle(canonical[:n], 1000)
		}),
		withFrame("frame bomb that claims", both(content, class(archive.ErrBomb)), func(*forgery, []byte) []byte { return rle(claim(1<<30), 1000) }),
		withFrame("frame bomb without content size", both(content, class(archive.ErrFrame)), func(*forgery, []byte) []byte {
			return rle(append(bytes.Clone(magic), 0x00, 12<<3), 1000)
		}),
		withFrame("window bomb", both(content, class(archive.ErrWindow)), func(_ *forgery, c []byte) []byte {
			return rle(append(bytes.Clone(magic), 0x00, 0xF8), 1)
		}),
		withFrame("checksum", both(content, class(archive.ErrFrame)), func(_ *forgery, c []byte) []byte { return encoded(c, zstd.WithEncoderCRC(true)) }),
		withFrame("not single segment", both(content, class(archive.ErrFrame)), func(_ *forgery, c []byte) []byte {
			return encoded(c, zstd.WithSingleSegment(false))
		}),
		withFrame("short frame", both(content, class(archive.ErrBomb)), func(_ *forgery, c []byte) []byte { return encoded(c[:len(c)-512]) }),
		withFrame("skippable frame", both(content, class(archive.ErrFrame)), func(*forgery, []byte) []byte { return skippable(nil, 0x184D2A50, []byte("x")) }),
		{name: "frame over the limit", want: class(archive.ErrTable), stream: both(content, class(archive.ErrLimit)), make: func(f *forgery) []byte {
			f.frame = func(c []byte) []byte {
				out := encoded(c)[:7]
				for range 40 {
					v := forgedBlock << 3
					out = append(append(out, byte(v), byte(v>>8), byte(v>>16)), make([]byte, forgedBlock)...)
				}
				return append(out, 1, 0, 0)
			}
			return f.encode()
		}},
		{name: "window bomb in PLACED", want: both(content, class(archive.ErrFrame)), late: true, make: func(f *forgery) []byte {
			file := f.encode()
			file[f.region[layer(f)]+5] = 0xF8
			return file
		}},
		{name: "RLE block in PLACED", want: both(content, class(archive.ErrFrame)), late: true, make: func(f *forgery) []byte {
			file := f.encode()
			file[f.region[layer(f)]+6] |= 1 << 1
			return file
		}},
		{name: "compressed HEAD", want: class(archive.ErrNotBundle), make: func(f *forgery) []byte {
			var head []byte
			for _, m := range f.head {
				head = append(head, f.tar(m)...)
			}
			return append(encoded(head), f.encode()[f.region["slack"]-8:]...)
		}},
		{name: "ordinary tar.zst", want: class(archive.ErrNotBundle), make: func(*forgery) []byte { return encoded(make([]byte, 10240)) }},
		{name: "tar", want: class(archive.ErrNotBundle), make: func(f *forgery) []byte { return f.tar(f.head[1]) }},
	}
}

// withTable is a case in which the table lies.
func withTable(name string, c tamperCase, lie func(sizes []uint32, packed uint64) ([]uint32, uint64)) tamperCase {
	c.name = name
	c.make = func(f *forgery) []byte {
		f.table = lie
		return f.encode()
	}
	return c
}

func tables() []tamperCase {
	table := tamperCase{want: class(archive.ErrTable)}
	return []tamperCase{
		withTable("frame sizes shifted", tamperCase{want: content, late: true, stream: class(archive.ErrTable)}, func(s []uint32, at uint64) ([]uint32, uint64) {
			s[0]++
			s[1]--
			return s, at
		}),
		withTable("frame sizes too small", tamperCase{want: class(archive.ErrTrailing), stream: class(archive.ErrTable)}, func(s []uint32, at uint64) ([]uint32, uint64) {
			s[0]--
			return s, at
		}),
		withTable("frame size zero", tamperCase{want: content, late: true, stream: class(archive.ErrTable)}, func(s []uint32, at uint64) ([]uint32, uint64) {
			s[1] += s[0]
			s[0] = 0
			return s, at
		}),
		withTable("frame size huge", table, func(s []uint32, at uint64) ([]uint32, uint64) {
			s[0] = 1<<32 - 1
			return s, at
		}),
		withTable("one frame more", table, func(s []uint32, at uint64) ([]uint32, uint64) { return append(s, 0), at }),
		withTable("one frame less", tamperCase{want: class(archive.ErrTable), stream: class(archive.ErrTruncated)}, func(s []uint32, at uint64) ([]uint32, uint64) { return s[:1], at }),
		withTable("packed offset", table, func(s []uint32, at uint64) ([]uint32, uint64) { return s, at + 1 }),
		withTable("packed offset beyond any file", table, func(s []uint32, _ uint64) ([]uint32, uint64) { return s, 1<<64 - 1 }),
	}
}

// manifestOf replaces the image's manifest.
func (f *forgery) manifestOf(mediaType string, doc any) {
	f.t.Helper()
	raw, err := json.Marshal(doc)
	if err != nil {
		f.t.Fatal(err)
	}
	f.index.Entries[0].Descriptor = bundle.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	f.stored[0] = member{name: "blobs/sha256/" + digest.FromBytes(raw).Encoded(), data: raw}
	f.resign()
}

func (f *forgery) image() ocispec.Manifest {
	f.t.Helper()
	var m ocispec.Manifest
	if err := json.Unmarshal(f.stored[0].data, &m); err != nil {
		f.t.Fatal(err)
	}
	return m
}

// withBody is a case that changes blobs, or what is signed about them.
func withBody(name string, c tamperCase, change func(f *forgery)) tamperCase {
	c.name = name
	c.make = func(f *forgery) []byte {
		change(f)
		return f.encode()
	}
	return c
}

func indexes() []tamperCase {
	early, late := tamperCase{want: index}, tamperCase{want: differs, late: true}
	return append(graphs(early),
		withBody("blob swapped for another of the same size", late, func(f *forgery) {
			n := len(f.stored)
			f.stored[n-1].data = f.stored[n-2].data
		}),
		withBody("two blobs in each other's place", tamperCase{want: both(content, class(archive.ErrEntryUnknown)), late: true}, func(f *forgery) {
			n := len(f.stored)
			f.stored[n-1], f.stored[n-2] = f.stored[n-2], f.stored[n-1]
		}),
		withBody("header says more than the signed size", tamperCase{want: both(content, class(archive.ErrEntrySize)), late: true}, func(f *forgery) {
			m := &f.stored[len(f.stored)-1]
			m.header = f.header(tar.Header{Typeflag: tar.TypeReg, Name: m.name, Size: int64(len(m.data)) + 1})
		}),
		withBody("signed manifest size is not its header's", tamperCase{want: class(archive.ErrEntrySize)}, func(f *forgery) {
			f.index.Entries[0].Size--
			f.resign()
		}),
		withBody("signed manifest size is not its content's", tamperCase{want: differs}, func(f *forgery) {
			f.index.Entries[0].Size--
			f.resign()
			f.stored[0].data = f.stored[0].data[:len(f.stored[0].data)-1]
		}),
		withBody("signed layer size is not its content's", late, func(f *forgery) {
			m := f.image()
			m.Layers[2].Size--
			f.manifestOf(ocispec.MediaTypeImageManifest, m)
			f.stored[len(f.stored)-1].data = f.stored[len(f.stored)-1].data[:149_999]
		}),
		withBody("unlisted blob in PLACED", tamperCase{want: class(archive.ErrTable), stream: both(content, class(archive.ErrFrame))}, func(f *forgery) {
			f.stored = append(f.stored, member{name: "blobs/sha256/" + digest.FromString("x").Encoded(), data: []byte("x")})
		}),
		withBody("unlisted blob in PACKED", tamperCase{want: class(archive.ErrTable)}, func(f *forgery) {
			f.packed = append(f.packed, member{name: "blobs/sha256/" + digest.FromString("x").Encoded(), data: []byte("x")})
		}),
		withBody("blob missing in PLACED", tamperCase{want: class(archive.ErrTruncated)}, func(f *forgery) {
			f.stored = f.stored[:len(f.stored)-1]
		}),
		withBody("blob missing in PACKED", tamperCase{want: class(archive.ErrTable), stream: both(content, class(archive.ErrFrame))}, func(f *forgery) {
			f.packed = f.packed[:1]
		}),
		withBody("blob that claims 1 TiB", tamperCase{want: class(archive.ErrTruncated), stream: content}, func(f *forgery) {
			m := f.image()
			m.Layers[2].Size = archive.MaxBlob
			f.manifestOf(ocispec.MediaTypeImageManifest, m)
		}))
}

// graphs lies in signed documents.
func graphs(early tamperCase) []tamperCase {
	asIndex := func(children ...bundle.Descriptor) ocispec.Index {
		return ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children}
	}
	return []tamperCase{
		withBody("blob with two sizes", early, func(f *forgery) {
			m := f.image()
			twin := m.Layers[0]
			twin.Size++
			m.Layers = append(m.Layers, twin)
			f.manifestOf(ocispec.MediaTypeImageManifest, m)
		}),
		withBody("blob over the limit", early, func(f *forgery) {
			m := f.image()
			m.Layers[0].Size = archive.MaxBlob + 1
			f.manifestOf(ocispec.MediaTypeImageManifest, m)
		}),
		withBody("blob of negative size", early, func(f *forgery) {
			m := f.image()
			m.Layers[0].Size = -1
			f.manifestOf(ocispec.MediaTypeImageManifest, m)
		}),
		withBody("manifest over the limit", early, func(f *forgery) {
			f.index.Entries[0].Size = archive.MaxManifest + 1
			f.resign()
		}),
		withBody("manifest that is no JSON", early, func(f *forgery) { f.manifestOf(ocispec.MediaTypeImageManifest, "text") }),
		withBody("index with layers", early, func(f *forgery) {
			f.manifestOf(ocispec.MediaTypeImageIndex, map[string]any{"schemaVersion": 2, "layers": f.image().Layers})
		}),
		withBody("manifest that says it is an index", early, func(f *forgery) { f.manifestOf(ocispec.MediaTypeImageManifest, asIndex()) }),
		withBody("digest of another kind", early, func(f *forgery) {
			m := f.image()
			m.Layers[0].Digest = digest.SHA512.FromString("x")
			f.manifestOf(ocispec.MediaTypeImageManifest, m)
		}),
		withBody("indexes nested too deep", early, func(f *forgery) {
			child := f.index.Entries[0].Descriptor
			var deep []member
			for i := range archive.MaxDepth + 2 {
				raw, err := json.Marshal(asIndex(child))
				if err != nil {
					f.t.Fatal(err)
				}
				child = bundle.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
				deep = append(deep, member{name: "blobs/sha256/" + child.Digest.Encoded(), data: raw})
				ref := fmt.Sprintf("example.com/deep:%d", i)
				f.index.Entries = append(f.index.Entries, bundle.Entry{Descriptor: child, Role: bundle.RoleRoot, Item: bundle.Item{Kind: bundle.KindImage, Name: ref, Ref: ref}})
			}
			f.stored = append(f.stored[:2:2], append(deep, f.stored[2:]...)...)
			f.resign()
		}),
		withBody("reference of two manifests", early, func(f *forgery) {
			f.index.Entries[1].Ref = f.index.Entries[0].Ref
			f.resign()
		}),
		withBody("manifest listed twice", early, func(f *forgery) {
			f.index.Entries = append(f.index.Entries, f.index.Entries[0])
			f.resign()
		}),
		withBody("manifest of two media types", early, func(f *forgery) {
			e := f.index.Entries[0]
			e.MediaType, e.Ref, e.Name = ocispec.MediaTypeImageIndex, "example.com/b:1", "b"
			f.index.Entries = append(f.index.Entries, e)
			f.resign()
		}),
		withBody("index not canonical", early, func(f *forgery) { f.sign(append(f.head[1].data, '\n')) }),
	}
}
