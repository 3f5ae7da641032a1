// Package bundle is the artifact that crosses the gap: what is in it, how it is
// made, and how its unverified bytes are read. FORMAT.md beside this file is
// its specification.
//
// A bundle is an OCI image layout (image-spec 1.1) whose index.json is signed
// and lists every manifest carried, flat. Package archive under this one puts
// the layout into a single seekable .tar.zst. Content comes from a [Source];
// nothing in this package decides whether a bundle may be trusted, package
// verify does.
package bundle

import (
	"context"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Descriptor is an OCI content descriptor. Only sha256 digests are carried.
type Descriptor = ocispec.Descriptor

// ArtifactType is the artifactType of a bundle's index.json.
const ArtifactType = "application/vnd.airlock.bundle.v1"

// Annotations of index.json. All but expires, audience and min-tool are
// required.
const (
	AnnotationFormat   = "dev.airlock.format"   // "1"
	AnnotationProduct  = "dev.airlock.product"  // the product carried
	AnnotationVersion  = "dev.airlock.version"  // its version
	AnnotationRelease  = "dev.airlock.release"  // an integer that only grows
	AnnotationCreated  = "dev.airlock.created"  // RFC 3339, UTC
	AnnotationLock     = "dev.airlock.lock"     // digest of the lock, which is carried too
	AnnotationTool     = "dev.airlock.tool"     // version of Airlock that made it
	AnnotationExpires  = "dev.airlock.expires"  // RFC 3339, UTC
	AnnotationAudience = "dev.airlock.audience" // site names, comma separated
	AnnotationMinTool  = "dev.airlock.min-tool" // oldest Airlock version that may install it
)

// Annotations of the descriptors in index.json.
const (
	AnnotationKind = "dev.airlock.kind" // see the Kind constants
	AnnotationName = "dev.airlock.name" // the item's name
	AnnotationRef  = "dev.airlock.ref"  // the reference exactly as written, where the manifest is tagged
	AnnotationRole = "dev.airlock.role" // see the Role constants
)

// AnnotationDerivedFrom stands in an index that lists only chosen platforms of
// another index; it holds the digest of that index.
const AnnotationDerivedFrom = "dev.airlock.derived-from"

// Kinds of item.
const (
	KindImage     = "image"
	KindChart     = "chart"
	KindModule    = "module"
	KindFile      = "file"
	KindTool      = "tool" // Airlock's own scratch image
	KindChecklist = "checklist"
	KindLock      = "lock"
	KindVendor    = "vendor" // a vendor archive's checksums, signature, key and mapping statement
)

// Roles of a manifest within its item.
const (
	RoleRoot        = "root"         // what the item's reference names
	RoleChild       = "child"        // a platform (or attestation) manifest of an index
	RoleReferrer    = "referrer"     // has a subject in the item
	RoleCosignTag   = "cosign-tag"   // sha256-<hex>.sig, .att or .sbom beside the image
	RoleSourceIndex = "source-index" // the index a derived root was made from; evidence, never mirrored
)

// Media types of artifacts that Airlock makes.
const (
	MediaTypeFile      = "application/vnd.airlock.file.v1+zstd"          // one file, zstd
	MediaTypeDirectory = "application/vnd.airlock.directory.v1.tar+zstd" // a directory, tar+zstd
	MediaTypeChecklist = "application/vnd.airlock.checklist.v1+yaml"
	MediaTypeLock      = "application/vnd.airlock.lock.v1+yaml"
	MediaTypeVendor    = "application/vnd.airlock.vendor.v1+json" // the statement that maps a vendor archive to what is carried
	MediaTypeModule    = "archive/zip"                            // OpenTofu's module package layer
	ArtifactTypeModule = "application/vnd.opentofu.modulepkg"
)

// Item names one thing a bundle carries.
type Item struct {
	Kind string
	Name string
	Ref  string // the reference it is tagged with, exactly as written
}

// Manifest is one manifest or index of a pinned item. Raw holds its original
// bytes; it is nil in a pin read from a lock until the manifest is fetched.
type Manifest struct {
	Descriptor
	Role string
	Ref  string // set where the manifest is tagged
	Raw  []byte
}

// Pin is an item with its whole closure by digest and size.
type Pin struct {
	Item
	Origin    string       // where it came from: a URL, a path relative to the definition, a registry reference
	Manifests []Manifest   // the root first
	Blobs     []Descriptor // configs and layers, in order of first mention, each digest once
}

// Source is one entry of a definition and the place its content comes from.
// Pull, not push: the engine in [Create] owns order, concurrency, retry and
// deduplication, so a source only says what there is and opens it.
type Source interface {
	// Resolve pins everything the entry brings (a vendor archive brings several
	// items). Where locked is not empty it holds what the lock recorded for this
	// entry: a source that can fetch by digest returns it as it is, without
	// asking what tags mean today; a source that makes content makes it again
	// and returns what came out, and the engine compares.
	Resolve(ctx context.Context, locked []Pin) ([]Pin, error)

	// Open opens a manifest or blob of a pin that Resolve returned. The engine
	// checks size and digest. It may be called from several goroutines.
	Open(ctx context.Context, pin Pin, desc Descriptor) (io.ReadCloser, error)

	// Origin names the entry for messages and for finding its pins in a lock:
	// stable, unique within a definition, no secrets.
	Origin() string
}

// Reference is an image that an item names and needs at run time.
type Reference struct {
	Image string // as written
	Where string // object and field, for people: "Deployment/web spec.containers[0].image"
}

// Discoverer is a source whose items name more things to carry.
type Discoverer interface {
	// Discover lists the images that the pinned item names, sorted, after
	// Resolve. Entries that the definition ignores with a reason are left out.
	Discover(ctx context.Context, pin Pin) ([]Reference, error)
}

// Event tells a listener how far a long operation is.
type Event struct {
	Op     string // "resolve", "fetch", "verify", "push", …
	Object string // what it works on, for people
	Bytes  int64  // bytes moved since the last event of this object
	Total  int64  // set on the first event of an operation: bytes it will move; 0 if unknown
	Done   bool   // the object is finished
	Reused bool   // with Done: nothing had to be moved
}

// Listener receives events from several goroutines and must be quick. A nil
// Listener is never called.
type Listener func(Event)

// Send calls l unless it is nil.
func (l Listener) Send(e Event) {
	if l != nil {
		l(e)
	}
}

// Entry is one descriptor of index.json with what its annotations say. The
// same manifest may be listed several times, once per reference.
type Entry struct {
	Descriptor
	Item
	Role string
}
