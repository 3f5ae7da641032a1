package archive

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// known reports whether err is one that a parser of outside bytes may return.
func known(err error) bool {
	_, ok := errors.AsType[*FormatError](err)
	return ok
}

func FuzzReadHead(f *testing.F) {
	for _, h := range []Head{tinyHead(), {Index: []byte("{}")}, {Index: bytes.Repeat([]byte(" "), 140_000)}} {
		seed, err := h.encode(HeadSize(len(h.Index)) - SignatureReserve + 4096)
		if err != nil {
			f.Fatal(err)
		}
		if _, n, err := ReadHead(bytes.NewReader(seed)); err != nil || n != int64(len(seed)) {
			f.Fatalf("seed: %d of %d bytes, %v", n, len(seed), err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		h, n, err := ReadHead(r)
		if err != nil {
			if !known(err) {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		// What is accepted is the one encoding of what was read, but for the length of the slack.
		if again, err := h.encode(n); err != nil || !bytes.Equal(again, data[:n]) {
			t.Fatalf("accepted %d bytes that are not canonical: %v", n, err)
		}
		if int(n) != len(data)-r.Len() {
			t.Fatalf("read %d bytes, says %d", len(data)-r.Len(), n)
		}
	})
}

// FuzzStream reads the same bytes as a file and as a stream: random access never
// accepts what the stream refuses, and the other way round.
func FuzzStream(f *testing.F) {
	seed, c := smallFile(f)
	if err := errors.Join(readStream(seed, c), readFile(f, seed, c)); err != nil {
		f.Fatalf("seed: %v", err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		stream, random := readStream(data, c), readFile(t, data, c)
		if (stream == nil) != (random == nil) {
			t.Fatalf("stream: %v; at random: %v", stream, random)
		}
	})
}

// smallFile is a whole file with a short slack, so that a fuzzer gets around in it.
func smallFile(f *testing.F) ([]byte, Contents) {
	const head = 8192
	out, err := tinyHead().encode(head)
	if err != nil {
		f.Fatal(err)
	}
	entry := func(data []byte) (Blob, []byte) {
		b := Blob{digest.FromBytes(data), int64(len(data))}
		e := append(h2(blobName(b), b.Size), data...)
		return b, append(e, make([]byte, entrySize(b.Size)-int64(len(e)))...)
	}
	meta, m := entry([]byte("{}"))
	placed, p := entry(filled(700))
	packed, k := entry(filled(900))
	out = append(append(out, appendStored(nil, m)...), appendStored(nil, p)...)
	z, err := newFrameEncoder()
	if err != nil {
		f.Fatal(err)
	}
	at, frame := int64(len(out)), z.EncodeAll(k, nil)
	out = append(append(out, frame...), encodeTail([]uint32{uint32(len(frame))}, at)...)
	return out, Contents{Meta: []Blob{meta}, Placed: []Blob{placed}, Packed: []Blob{packed}}
}

func readStream(data []byte, c Contents) error {
	s, _, err := NewStream(bytes.NewReader(data))
	if err != nil {
		return err
	}
	for _, b := range slices.Concat(c.Meta, c.Placed) {
		if err := checkBlob(s.NextStored(b), b); err != nil {
			return err
		}
	}
	for _, b := range c.Packed {
		if err := checkBlob(s.NextPacked(b), b); err != nil {
			return err
		}
	}
	return s.End()
}

func readFile(t testing.TB, data []byte, c Contents) error {
	path := t.TempDir() + "/f"
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r, _, err := Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.Locate(c); err != nil {
		return err
	}
	for _, b := range slices.Concat(c.Meta, c.Placed, c.Packed) {
		rc, err := r.Open(b)
		if err != nil {
			return err
		}
		if err := checkBlob(rc, b); err != nil {
			return err
		}
	}
	return nil
}

func checkBlob(r io.Reader, b Blob) error {
	data, err := io.ReadAll(io.LimitReader(r, b.Size+1))
	if err != nil {
		return err
	}
	if digest.FromBytes(data) != b.Digest {
		return &DigestError{Want: b}
	}
	// The end of the entry, its padding, comes after the last byte.
	_, err = io.Copy(io.Discard, r)
	return err
}

func frameSeeds(f *testing.F) [][]byte {
	z, err := newFrameEncoder()
	if err != nil {
		f.Fatal(err)
	}
	sum, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(true), zstd.WithEncoderConcurrency(1))
	if err != nil {
		f.Fatal(err)
	}
	return [][]byte{
		z.EncodeAll(bytes.Repeat([]byte("a"), 1024), nil),
		z.EncodeAll(filled(300_000), nil),
		sum.EncodeAll([]byte("checksummed"), nil),
		appendStored(nil, filled(1000)),
	}
}

func FuzzReadFrame(f *testing.F) {
	for _, seed := range frameSeeds(f) {
		if frame, err := readFrame(bytes.NewReader(append(bytes.Clone(seed), "rest"...)), nil, 0, packedMaxFrame); err != nil || !bytes.Equal(frame, seed) {
			f.Fatalf("seed: %d of %d bytes, %v", len(frame), len(seed), err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		frame, err := readFrame(r, nil, 0, 1<<16)
		if err != nil {
			if !known(err) {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		if len(frame) > 1<<16 || len(frame) != len(data)-r.Len() || !bytes.HasPrefix(data, frame) {
			t.Fatalf("frame of %d bytes out of %d, %d left", len(frame), len(data), r.Len())
		}
	})
}

func FuzzDecodeFrame(f *testing.F) {
	dec, err := newFrameDecoder()
	if err != nil {
		f.Fatal(err)
	}
	for i, want := range []int64{1024, 300_000} {
		seed := frameSeeds(f)[i]
		if out, err := decodeFrame(dec, seed, nil, want); err != nil || int64(len(out)) != want {
			f.Fatalf("seed: %d bytes, %v", len(out), err)
		}
		f.Add(seed, want)
	}
	f.Fuzz(func(t *testing.T, frame []byte, want int64) {
		want = max(tarBlock, min(want, packedContent))
		out, err := decodeFrame(dec, frame, nil, want)
		if err != nil && !known(err) {
			t.Fatalf("%T %v", err, err)
		}
		if err == nil && int64(len(out)) != want {
			t.Fatalf("%d bytes, want %d", len(out), want)
		}
	})
}

func FuzzParseTable(f *testing.F) {
	l := &layout{packed: 4096, frames: 3}
	seed := encodeTail([]uint32{100, 200, 300}, 4096)
	if sizes, err := parseTable(seed, l, 1<<20); err != nil || !slices.Equal(sizes, []uint32{100, 200, 300}) {
		f.Fatal(sizes, err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, tail []byte) {
		if len(tail) != len(seed) { // the caller reads exactly that much
			return
		}
		sizes, err := parseTable(tail, l, 1<<20)
		if err != nil {
			if !known(err) {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		if !bytes.Equal(encodeTail(sizes, 4096), tail) {
			t.Fatal("accepted a table that is not canonical")
		}
	})
}

func FuzzReadHeader(f *testing.F) {
	for _, size := range []int64{0, 1, tarOctalMax, tarOctalMax + 1, MaxBlob} {
		seed := h2("blobs/sha256/x", size)
		if name, got, err := readHeader(seed, 0); err != nil || name != "blobs/sha256/x" || got != size {
			f.Fatal(name, got, err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < tarBlock {
			return
		}
		name, size, err := readHeader(data[:tarBlock], 0)
		if err != nil {
			if !known(err) {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		if !bytes.Equal(h2(name, size), data[:tarBlock]) {
			t.Fatal("accepted a header that is not canonical")
		}
	})
}
