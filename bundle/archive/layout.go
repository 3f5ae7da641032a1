package archive

import (
	"fmt"
	"math"

	"github.com/opencontainers/go-digest"
)

// endMarks are the two zero blocks that end a tar stream.
const endMarks = 2 * tarBlock

// footerSize is the fixed end of the table: offset of PACKED, number of
// frames, version, magic, room reserved for volumes and parity.
const footerSize = 32

// footerMagic ends with the format's version.
var footerMagic = [8]byte{'A', 'I', 'R', 'L', 'O', 'C', 'K', 1}

type region byte

const (
	regionMeta region = iota
	regionPlaced
	regionPacked
)

// extent is where one blob lies. Extents tile the file from the end of HEAD to
// the end of PACKED with no gap and no overlap.
type extent struct {
	blob   Blob
	region region
	offset int64 // in the file; META and PLACED
	frame  int   // first frame; PACKED
	frames int   // number of frames; PACKED
}

// layout is the arithmetic of a file: every offset follows from the sizes.
type layout struct {
	order       []extent
	byName      map[digest.Digest]int
	firstPacked int   // index in order
	packed      int64 // offset of PACKED
	frames      int   // frames of PACKED
}

// newLayout places contents after a HEAD of head bytes. Sizes are outside
// numbers: each is bounded before it is added.
func newLayout(head int64, c Contents) (*layout, error) {
	total := len(c.Meta) + len(c.Placed) + len(c.Packed)
	if total > MaxBlobs {
		return nil, &FormatError{Offset: -1, Err: ErrLimit, Detail: fmt.Sprintf("%d blobs, at most %d allowed", total, MaxBlobs)}
	}
	l := &layout{byName: make(map[digest.Digest]int, total), packed: head, firstPacked: len(c.Meta) + len(c.Placed)}
	for r, blobs := range [][]Blob{regionMeta: c.Meta, regionPlaced: c.Placed, regionPacked: c.Packed} {
		start := l.packed
		for _, b := range blobs {
			if err := l.add(region(r), b); err != nil {
				return nil, err
			}
			if region(r) == regionMeta && l.packed-start > MaxMeta {
				return nil, &FormatError{Offset: -1, Entry: blobName(b), Err: ErrLimit, Detail: fmt.Sprintf("META over %d bytes", MaxMeta)}
			}
		}
	}
	return l, nil
}

func (l *layout) add(r region, b Blob) error {
	if b.Size < 0 || b.Size > MaxBlob {
		return &FormatError{Offset: -1, Entry: blobName(b), Err: ErrLimit, Detail: fmt.Sprintf("size %d, at most %d allowed", b.Size, int64(MaxBlob))}
	}
	if _, ok := l.byName[b.Digest]; ok {
		return &FormatError{Offset: -1, Entry: blobName(b), Err: ErrEntryDuplicate}
	}
	e := extent{blob: b, region: r}
	if r == regionPacked {
		e.frame, e.frames = l.frames, packedFrames(b.Size)
		l.frames += e.frames
	} else {
		e.offset = l.packed
		l.packed += storedLen(entrySize(b.Size))
	}
	if l.packed > math.MaxInt64/2 || l.frames > (math.MaxUint32-footerSize)/4 {
		return &FormatError{Offset: -1, Entry: blobName(b), Err: ErrLimit, Detail: "bundle too large"}
	}
	l.byName[b.Digest] = len(l.order)
	l.order = append(l.order, e)
	return nil
}

// packedFrames returns how many frames a blob of that size takes in PACKED.
func packedFrames(size int64) int {
	return int((entrySize(size) + packedContent - 1) / packedContent)
}

func (l *layout) find(b Blob) (extent, error) {
	i, ok := l.byName[b.Digest]
	if !ok {
		return extent{}, fmt.Errorf("blob %s is not in the bundle", b.Digest)
	}
	if l.order[i].blob.Size != b.Size {
		return extent{}, fmt.Errorf("blob %s has %d bytes, not %d", b.Digest, l.order[i].blob.Size, b.Size)
	}
	return l.order[i], nil
}
