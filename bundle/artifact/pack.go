// Package artifact is how a file or directory becomes an OCI artifact and comes
// back: the one decision that every source which makes artifacts and whoever
// takes them out again share.
//
// A file becomes an artifact of one zstd layer, a directory one of a tar+zstd
// layer; annotations of the layer describe the uncompressed bytes ([Meta]). The
// same content gives the same bytes on every machine: names are sorted, owners
// are dropped, modes are 0644 or 0755, and every time stamp is the one given.
// Links and devices are refused on both ways, because what they mean depends on
// the machine.
//
// What comes back is hostile until shown otherwise: every name is checked, every
// size bounded ([Limits]), and nothing is written but through an os.Root. The
// checks of names ([MemberName], [LinkTarget]) serve all archives that are read.
package artifact

import (
	"bufio"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"

	"github.com/airlock-project/airlock/bundle"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Annotations of the layer of a file or directory artifact. They describe the
// uncompressed bytes: of the file, or of the tar.
const (
	AnnotationSHA256 = "dev.airlock.sha256"      // 64 lower case hex digits
	AnnotationSize   = "dev.airlock.size"        // bytes, decimal
	AnnotationMode   = "dev.airlock.mode"        // "0644" or "0755"
	AnnotationELF    = "dev.airlock.elf-machine" // "EM_X86_64" and the like, of ELF files only
)

// Meta describes the uncompressed bytes of a layer.
type Meta struct {
	Title      string      // base name of the file or directory
	SHA256     string      // 64 lower case hex digits
	Size       int64       // bytes
	Mode       fs.FileMode // 0644 or 0755
	ELFMachine string      // "EM_X86_64" and the like; empty if it is no ELF file
}

// Annotations returns m as a layer carries it.
func (m Meta) Annotations() map[string]string {
	a := map[string]string{
		ocispec.AnnotationTitle: m.Title,
		AnnotationSHA256:        m.SHA256,
		AnnotationSize:          strconv.FormatInt(m.Size, 10),
		AnnotationMode:          fmt.Sprintf("%04o", m.Mode),
	}
	if m.ELFMachine != "" {
		a[AnnotationELF] = m.ELFMachine
	}
	return a
}

// ParseMeta reads the annotations of a layer, all of which must be there and
// well formed: the title a plain file name, the mode 0644 or 0755.
func ParseMeta(a map[string]string) (Meta, error) {
	m := Meta{Title: a[ocispec.AnnotationTitle], SHA256: a[AnnotationSHA256], ELFMachine: a[AnnotationELF]}
	if err := BaseName(m.Title); err != nil {
		return Meta{}, fmt.Errorf("read annotation %s: %w", ocispec.AnnotationTitle, err)
	}
	if sum, err := hex.DecodeString(m.SHA256); err != nil || len(sum) != 32 || hex.EncodeToString(sum) != m.SHA256 {
		return Meta{}, fmt.Errorf("read annotation %s: %q is not 64 lower case hex digits", AnnotationSHA256, m.SHA256)
	}
	size, err := strconv.ParseUint(a[AnnotationSize], 10, 62)
	if err != nil {
		return Meta{}, fmt.Errorf("read annotation %s: %q is no size", AnnotationSize, a[AnnotationSize])
	}
	m.Size = int64(size)
	switch a[AnnotationMode] {
	case "0644":
		m.Mode = 0o644
	case "0755":
		m.Mode = 0o755
	default:
		return Meta{}, fmt.Errorf("read annotation %s: %q is not 0644 or 0755", AnnotationMode, a[AnnotationMode])
	}
	return m, nil
}

// Packed is an artifact of one layer in the spool.
type Packed struct {
	Manifest bundle.Manifest
	Layer    bundle.Descriptor
	Meta     Meta
}

// Pin returns the pin of an item that is this artifact and nothing else.
func (p Packed) Pin(item bundle.Item, origin string) bundle.Pin {
	return Pin(item, origin, p.Manifest, p.Layer)
}

// Pin returns the pin of an item that is one artifact manifest with the
// empty config, tagged with the item's reference.
func Pin(item bundle.Item, origin string, m bundle.Manifest, layers ...bundle.Descriptor) bundle.Pin {
	m.Ref = item.Ref
	pin := bundle.Pin{Item: item, Origin: origin, Manifests: []bundle.Manifest{m}}
	for _, d := range append([]bundle.Descriptor{bundle.EmptyConfig()}, layers...) {
		d.Annotations = nil // of the mention in the manifest, not of the blob
		pin.Blobs = AppendBlob(pin.Blobs, d)
	}
	return pin
}

// AppendBlob appends d unless its digest is there already.
func AppendBlob(blobs []bundle.Descriptor, d bundle.Descriptor) []bundle.Descriptor {
	for _, b := range blobs {
		if b.Digest == d.Digest {
			return blobs
		}
	}
	return append(blobs, d)
}

// NormalMode is the mode carried for a file of mode m: 0755 if anybody may
// execute it, else 0644. Other bits differ from one checkout to the next.
func NormalMode(m fs.FileMode) fs.FileMode {
	if m&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

// Pack spools what r yields as the artifact of a file called title.
func Pack(spool *bundle.Spool, title string, mode fs.FileMode, r io.Reader) (Packed, error) {
	if err := BaseName(title); err != nil {
		return Packed{}, err
	}
	br := bufio.NewReader(r)
	machine, err := PeekELF(br)
	if err != nil {
		return Packed{}, err
	}
	return pack(spool, bundle.MediaTypeFile, Meta{Title: title, Mode: NormalMode(mode), ELFMachine: machine}, br)
}

// PackDirectory spools the tar that r yields, made by WriteTar, as the artifact
// of a directory called title.
func PackDirectory(spool *bundle.Spool, title string, r io.Reader) (Packed, error) {
	if err := BaseName(title); err != nil {
		return Packed{}, err
	}
	return pack(spool, bundle.MediaTypeDirectory, Meta{Title: title, Mode: 0o755}, r)
}

func pack(spool *bundle.Spool, mediaType string, meta Meta, r io.Reader) (Packed, error) {
	layer, plain, size, err := spool.AddZstd(mediaType, r)
	if err != nil {
		return Packed{}, err
	}
	meta.SHA256, meta.Size = plain.Encoded(), size
	layer.Annotations = meta.Annotations()
	m, err := bundle.PackArtifact(spool, mediaType, bundle.Descriptor{}, []bundle.Descriptor{layer}, nil)
	if err != nil {
		return Packed{}, err
	}
	return Packed{Manifest: m, Layer: layer, Meta: meta}, nil
}

// PeekELF returns the machine of the ELF file that br is about to yield
// ("EM_X86_64", "EM_AARCH64", …), or "" if it is none. Nothing is consumed.
func PeekELF(br *bufio.Reader) (string, error) {
	head, err := br.Peek(20)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if len(head) < 20 || string(head[:4]) != elf.ELFMAG {
		return "", nil
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	return elf.Machine(order.Uint16(head[18:])).String(), nil
}
