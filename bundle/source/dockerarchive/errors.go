package dockerarchive

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// DiffIDError says that a layer is not the one its config names.
type DiffIDError struct {
	Layer     string // its name in the archive
	Want, Got digest.Digest
}

// Error implements error.
func (e *DiffIDError) Error() string {
	return fmt.Sprintf("layer %q differs from the image's config: want diffID %s, got %s", e.Layer, e.Want, e.Got)
}

// DigestError says that a member is not what its name or a descriptor says.
type DigestError struct {
	Name      string
	Want, Got digest.Digest
}

// Error implements error.
func (e *DigestError) Error() string {
	return fmt.Sprintf("digest mismatch of %q: want %s, got %s", e.Name, e.Want, e.Got)
}

// MissingError says that the archive lacks a member that another one names.
type MissingError struct {
	Name string // the member that is missing
	By   string // what names it
}

// Error implements error.
func (e *MissingError) Error() string {
	return fmt.Sprintf("member %q, named by %s, is missing: the archive is incomplete, export it again", e.Name, e.By)
}

// SelectError says that the reference asked for does not choose exactly one of
// the images in the archive.
type SelectError struct {
	Ref  string
	Have []string // references in the archive, sorted
}

// Error implements error.
func (e *SelectError) Error() string {
	have := strings.Join(e.Have, ", ")
	if have == "" {
		have = "images without a tag"
	}
	return fmt.Sprintf("archive does not hold exactly one image tagged %q: it holds %s", e.Ref, have)
}

// PlatformError says that an image is not for a platform that was asked for.
type PlatformError struct {
	Want string
	Have []string
}

// Error implements error.
func (e *PlatformError) Error() string {
	have := strings.Join(e.Have, ", ")
	if have == "" {
		have = "no platform"
	}
	return fmt.Sprintf("image is not available for %s; it has %s", e.Want, have)
}
