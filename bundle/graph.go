package bundle

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's media types, which image-spec manifests may be carried beside.
const (
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// Node is what a manifest or index points at.
type Node struct {
	Config       *Descriptor // nil for an index
	Layers       []Descriptor
	Children     []Descriptor // of an index
	Subject      *Descriptor
	ArtifactType string
	Annotations  map[string]string
}

// Blobs lists config and layers, the config first.
func (n Node) Blobs() []Descriptor {
	if n.Config == nil {
		return n.Layers
	}
	return append([]Descriptor{*n.Config}, n.Layers...)
}

// IsIndex reports whether mediaType is an image index or a Docker manifest list.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == mediaTypeDockerList
}

// IsManifest reports whether mediaType is an image manifest, OCI or Docker.
func IsManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == mediaTypeDockerManifest
}

// parse is ParseNode for a document of a bundle.
func parse(d Descriptor, raw []byte) (Node, error) {
	n, err := ParseNode(d.MediaType, raw)
	if err != nil {
		return Node{}, &GraphError{d.Digest, err}
	}
	return n, nil
}

// ParseNode reads a manifest or index of the given media type. Descriptors are
// checked (CheckDescriptor); a document that is both an index and a manifest is
// refused, because readers would disagree about what it holds.
func ParseNode(mediaType string, raw []byte) (Node, error) {
	var doc struct {
		MediaType    string            `json:"mediaType"`
		ArtifactType string            `json:"artifactType"`
		Config       *Descriptor       `json:"config"`
		Layers       []Descriptor      `json:"layers"`
		Manifests    []Descriptor      `json:"manifests"`
		FSLayers     json.RawMessage   `json:"fsLayers"`
		Subject      *Descriptor       `json:"subject"`
		Annotations  map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return Node{}, fmt.Errorf("parse manifest: %w", err)
	}
	if doc.MediaType != "" && doc.MediaType != mediaType {
		return Node{}, fmt.Errorf("manifest says it is %q, its descriptor %q", doc.MediaType, mediaType)
	}
	n := Node{Config: doc.Config, Layers: doc.Layers, Children: doc.Manifests, Subject: doc.Subject, ArtifactType: doc.ArtifactType, Annotations: doc.Annotations}
	switch {
	case doc.FSLayers != nil:
		return Node{}, fmt.Errorf("manifest has fsLayers: Docker schema 1 is not supported, push the image again with a current tool")
	case IsIndex(mediaType) && (doc.Config != nil || doc.Layers != nil):
		return Node{}, fmt.Errorf("index has config or layers")
	case IsManifest(mediaType) && (doc.Config == nil || doc.Manifests != nil):
		return Node{}, fmt.Errorf("manifest lacks config or has manifests")
	case !IsIndex(mediaType) && !IsManifest(mediaType):
		return Node{}, fmt.Errorf("media type %q is neither manifest nor index", mediaType)
	}
	for _, d := range slices.Concat(n.Blobs(), n.Children) {
		if err := CheckDescriptor(d); err != nil {
			return Node{}, err
		}
	}
	if n.Subject != nil {
		return n, CheckDescriptor(*n.Subject)
	}
	return n, nil
}

// CheckDescriptor checks the outside numbers of a descriptor: a sha256 digest, a
// size within archive.MaxBlob.
func CheckDescriptor(d Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", d.Digest, err)
	}
	if d.Digest.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %q: only sha256 is carried", d.Digest)
	}
	if d.Size < 0 || d.Size > archive.MaxBlob {
		return fmt.Errorf("blob %s: size %d out of bounds", d.Digest, d.Size)
	}
	return nil
}

// blobOf strips a descriptor to what places it.
func blobOf(d Descriptor) archive.Blob { return archive.Blob{Digest: d.Digest, Size: d.Size} }

// compressed reports whether a blob of that media type gains nothing from
// another compression, so that it is PLACED: image layers in gzip or zstd, and
// whatever names its compression in its suffix.
func compressed(mediaType string) bool {
	for _, suffix := range []string{"+gzip", "+zstd", ".gzip", ".tar.gz"} {
		if strings.HasSuffix(mediaType, suffix) {
			return true
		}
	}
	return false
}

// GraphError says that manifests hold what no bundle may carry: a document that
// is not what its media type says, a blob with two sizes, indexes nested too deep.
type GraphError struct {
	Digest digest.Digest // of the manifest or blob
	Err    error
}

func (e *GraphError) Error() string { return fmt.Sprintf("%s: %v", e.Digest, e.Err) }
func (e *GraphError) Unwrap() error { return e.Err }

// Contents computes the file order of everything that manifests, in index
// order, hold: META first every manifest, then every config; then layers as
// they are first mentioned. It is a pure function of signed data.
func Contents(manifests []Descriptor, node func(Descriptor) (Node, error)) (archive.Contents, error) {
	var c archive.Contents
	var nodes []Node
	p := placer{sizes: map[digest.Digest]int64{}}
	for _, m := range manifests {
		fresh, err := p.first(m)
		if err != nil {
			return c, err
		}
		if !fresh {
			continue
		}
		n, err := node(m)
		if err != nil {
			return c, err
		}
		nodes = append(nodes, n)
		c.Meta = append(c.Meta, blobOf(m))
	}
	for _, n := range nodes {
		if n.Config == nil || n.Config.Size > archive.MaxConfig {
			continue
		}
		if err := p.add(&c.Meta, *n.Config); err != nil {
			return c, err
		}
	}
	for _, n := range nodes {
		for _, d := range n.Blobs() {
			list := &c.Packed
			if compressed(d.MediaType) {
				list = &c.Placed
			}
			if err := p.add(list, d); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}

type placer struct{ sizes map[digest.Digest]int64 }

// first reports whether d is new, and refuses a digest with two sizes.
func (p placer) first(d Descriptor) (bool, error) {
	size, ok := p.sizes[d.Digest]
	if ok && size != d.Size {
		return false, &GraphError{d.Digest, fmt.Errorf("it is named with sizes %d and %d", size, d.Size)}
	}
	p.sizes[d.Digest] = d.Size
	return !ok, nil
}

func (p placer) add(list *[]archive.Blob, d Descriptor) error {
	fresh, err := p.first(d)
	if fresh {
		*list = append(*list, blobOf(d))
	}
	return err
}
