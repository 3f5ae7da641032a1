// Package archive is a bundle's transport: one .tar.zst file that stock
// "tar --zstd -xf" unpacks into an OCI image layout, in which every blob can be
// found without reading what lies before it. ../FORMAT.md is the specification.
//
//	HEAD    oci-layout, index.json, signatures/*, trusted_root.json; slack
//	META    every manifest, index and config
//	PLACED  blobs that are compressed already, as raw zstd blocks
//	PACKED  the other blobs, as independent zstd frames of at most 4 MiB
//	TABLE   tar end marks; the map of PACKED and a footer
//
// Nothing here is trusted and nothing here decides trust: the package moves
// bytes, checks framing, and reports every deviation as a *FormatError. Why
// raw blocks for what is compressed already: its place in the file is then a
// sum of sizes that the signature covers, so blobs are written in parallel,
// each once, at their final offset, and are read at random without a table.
package archive

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Blob is one blob of the layout.
type Blob struct {
	Digest digest.Digest
	Size   int64
}

// Contents lists every blob of a bundle in file order, each digest once.
type Contents struct {
	Meta   []Blob
	Placed []Blob
	Packed []Blob
}

// What can be wrong with a file's framing. A *FormatError wraps one of them.
var (
	ErrNotBundle      = errors.New("not an Airlock bundle")
	ErrTruncated      = errors.New("file ends too early")
	ErrTrailing       = errors.New("data after the end of the bundle")
	ErrEntryName      = errors.New("illegal entry name")
	ErrEntryType      = errors.New("entry is not a regular file")
	ErrEntryHeader    = errors.New("tar header differs from the canonical one")
	ErrEntryDuplicate = errors.New("entry occurs twice")
	ErrEntryUnknown   = errors.New("entry does not belong here")
	ErrEntrySize      = errors.New("entry size differs from the signed size")
	ErrFrame          = errors.New("zstd framing differs from the format")
	ErrWindow         = errors.New("zstd window too large")
	ErrBomb           = errors.New("zstd frame holds more than it may")
	ErrSlack          = errors.New("slack is not zero")
	ErrTable          = errors.New("table does not fit the file")
	ErrLimit          = errors.New("limit exceeded")
)

// FormatError says where a file departs from FORMAT.md.
type FormatError struct {
	Offset int64  // in the file; -1 if unknown
	Entry  string // tar entry, if one is concerned
	Err    error  // one of the errors above
	Detail string
}

func (e *FormatError) Error() string {
	s := e.Err.Error()
	if e.Entry != "" {
		s = fmt.Sprintf("entry %q: %s", e.Entry, s)
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Offset >= 0 {
		s += fmt.Sprintf(" (at byte %d)", e.Offset)
	}
	return s
}

// Unwrap returns the class of the error.
func (e *FormatError) Unwrap() error { return e.Err }
