package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// The header of FORMAT.md, byte by byte; the size field and the checksum are all that varies.
func TestHeaderGolden(t *testing.T) {
	name := "blobs/sha256/" + strings.Repeat("ab", 32)
	for _, tt := range []struct {
		size      int64
		sizeField string // hex
		checksum  string
	}{
		{0, "303030303030303030303000", "025475"},
		{1000, "303030303030303137353000", "025512"},
		{tarOctalMax, "373737373737373737373700", "025612"},
		{tarOctalMax + 1, "800000000000000200000000", "024657"},
		{MaxBlob, "800000000000010000000000", "024656"},
	} {
		t.Run(fmt.Sprint(tt.size), func(t *testing.T) {
			h := tarHeader(name, tt.size)
			if got := hex.EncodeToString(h[124:136]); got != tt.sizeField {
				t.Errorf("size field %s, want %s", got, tt.sizeField)
			}
			if got := string(h[148:156]); got != tt.checksum+"\x00 " {
				t.Errorf("checksum %q, want %q", got, tt.checksum)
			}
			rest := h
			clear(rest[124:136])
			clear(rest[148:156])
			want := make([]byte, tarBlock)
			copy(want, name)
			copy(want[100:], "0000644\x000000000\x000000000\x00")
			copy(want[136:], "02263523000\x00")
			want[156] = '0'
			copy(want[257:], "ustar\x0000")
			copy(want[329:], "0000000\x000000000\x00")
			if !bytes.Equal(rest[:], want) {
				t.Errorf("header\n%x, want\n%x", rest, want)
			}
			// A stranger's reader agrees.
			got, err := tar.NewReader(bytes.NewReader(h2(name, tt.size))).Next()
			if err != nil || got.Name != name || got.Size != tt.size || got.Mode != 0o644 || got.Typeflag != tar.TypeReg {
				t.Errorf("archive/tar reads %+v, %v", got, err)
			}
			if n, size, err := readHeader(h2(name, tt.size), 0); n != name || size != tt.size || err != nil {
				t.Errorf("readHeader: %q %d %v", n, size, err)
			}
		})
	}
}

func h2(name string, size int64) []byte {
	h := tarHeader(name, size)
	return h[:]
}

// sizes are those around which framing changes.
var sizes = []int64{
	0, 1, 511, 512, 513, 1023, 1024,
	blockSize - tarBlock - 1, blockSize - tarBlock, blockSize - tarBlock + 1, blockSize - 1, blockSize, blockSize + 1,
	frameSize - tarBlock - 1, frameSize - tarBlock, frameSize - tarBlock + 1, frameSize - 1, frameSize, frameSize + 1,
}

// TestStoredFraming holds the arithmetic against the bytes, and the bytes
// against a decoder that knows nothing of us.
func TestStoredFraming(t *testing.T) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	for _, n := range sizes[1:] {
		content := filled(n)
		framed := appendStored(nil, content)
		if int64(len(framed)) != storedLen(n) {
			t.Errorf("%d bytes: framed in %d, storedLen says %d", n, len(framed), storedLen(n))
		}
		for pos := int64(0); pos < n; pos += blockSize {
			off := storedBlockOffset(pos)
			if pos%frameSize == 0 {
				if [frameHead]byte(framed[off:]) != storedFrameHead {
					t.Errorf("%d bytes: no frame header at %d", n, off)
				}
				off += frameHead
			}
			if end := min(pos+64, n); !bytes.Equal(framed[off+blockHead:off+blockHead+end-pos], content[pos:end]) {
				t.Errorf("%d bytes: block of content offset %d is not at %d", n, pos, off)
			}
		}
		plain, err := dec.DecodeAll(framed, nil)
		if err != nil || !bytes.Equal(plain, content) {
			t.Errorf("%d bytes: decodes to %d bytes, %v", n, len(plain), err)
		}
		r := newStoredReader(bytes.NewReader(framed), 0, n)
		var back []byte
		for {
			b, err := r.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			back = append(back, b...)
		}
		if !bytes.Equal(back, content) {
			t.Errorf("%d bytes: read back differently", n)
		}
	}
}

func filled(n int64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>9 ^ i)
	}
	return b
}

// write makes a file through Writer: meta, placed and packed in this order.
func write(t testing.TB, head Head, meta, placed, packed [][]byte) (path string, c Contents) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "b.tar.zst")
	for _, l := range []struct {
		in  [][]byte
		out *[]Blob
	}{{meta, &c.Meta}, {placed, &c.Placed}, {packed, &c.Packed}} {
		for _, b := range l.in {
			*l.out = append(*l.out, Blob{digest.FromBytes(b), int64(len(b))})
		}
	}
	w, err := Create(path, Plan{Index: len(head.Index), Contents: c, Record: "record"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, b := range append(append([][]byte{}, meta...), placed...) {
		p, err := w.Place(Blob{digest.FromBytes(b), int64(len(b))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range packed {
		if err := w.Pack(bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(head); err != nil {
		t.Fatal(err)
	}
	return path, c
}

func tinyHead() Head {
	return Head{Index: []byte(`{"schemaVersion":2}`), Signatures: []Signature{{Name: "a.sigstore.json", Data: []byte("{}")}}}
}

// tiny is the file whose bytes are pinned.
func tiny(t testing.TB) (string, Contents) {
	return write(t, tinyHead(),
		[][]byte{[]byte(`{"manifest":1}`), []byte("{}")},
		[][]byte{filled(200_000), {}},
		[][]byte{bytes.Repeat([]byte("packed "), 1000), []byte("p")})
}

// TestFileGolden pins every byte of a file. A change of this sum is a change of
// the format, or of the compressor: both need a new format version or the old one's output.
func TestFileGolden(t *testing.T) {
	path, _ := tiny(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const want = "cbe7fd54d5a6a44125b8ba8f92cec4ab469912500774a8bb736e67c043d8039b"
	if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != want {
		t.Errorf("%d bytes with SHA-256 %s, want %s", len(data), got, want)
	}
}

// TestPackedHead holds the canonical header against what the encoder writes.
func TestPackedHead(t *testing.T) {
	z, err := newFrameEncoder()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{512, 1024, 65536, 65536 + 512, 1 << 20, packedContent - tarBlock, packedContent} {
		frame := z.EncodeAll(make([]byte, n), nil)
		if !bytes.HasPrefix(frame, packedHead(n)) {
			t.Errorf("%d bytes: frame begins %x, want %x", n, frame[:10], packedHead(n))
		}
		if worst := int64(len(z.EncodeAll(noise(n), nil))); worst > packedMaxFrame {
			t.Errorf("%d bytes of noise take %d, more than %d", n, worst, packedMaxFrame)
		}
	}
}

// noise does not compress.
func noise(n int64) []byte {
	out := make([]byte, 0, n+32)
	sum := sha256.Sum256(nil)
	for int64(len(out)) < n {
		sum = sha256.Sum256(sum[:])
		out = append(out, sum[:]...)
	}
	return out[:n]
}
