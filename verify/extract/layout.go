package extract

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/airlock-project/airlock/verify"
	"github.com/opencontainers/go-digest"
)

// cosignTag is the tag under which cosign stores what belongs to a digest.
var cosignTag = regexp.MustCompile(`:sha256-([0-9a-f]{64})(?:\.[a-z]+)?$`)

// closure returns, in index order, root and what hangs on it: children, whatever
// has it as subject or cosign tag, and the index it was derived from. It follows
// the graph and not the names of entries, because a manifest that two items
// share is listed under the first of them only.
func closure(b *verify.Bundle, entries []bundle.Entry, root bundle.Entry) ([]bundle.Entry, error) {
	links := map[digest.Digest][]digest.Digest{}
	for _, e := range entries {
		n, err := node(b, e)
		if err != nil {
			return nil, err
		}
		for _, c := range n.Children {
			links[e.Digest] = append(links[e.Digest], c.Digest)
		}
		if from := n.Annotations[bundle.AnnotationDerivedFrom]; from != "" {
			links[e.Digest] = append(links[e.Digest], digest.Digest(from))
		}
		if n.Subject != nil {
			links[n.Subject.Digest] = append(links[n.Subject.Digest], e.Digest)
		}
		if m := cosignTag.FindStringSubmatch(e.Ref); m != nil && e.Role == bundle.RoleCosignTag {
			of := digest.NewDigestFromEncoded(digest.SHA256, m[1])
			links[of] = append(links[of], e.Digest)
		}
	}
	reached := map[digest.Digest]bool{root.Digest: true}
	for queue := []digest.Digest{root.Digest}; len(queue) > 0; queue = queue[1:] {
		for _, d := range links[queue[0]] {
			if !reached[d] {
				reached[d] = true
				queue = append(queue, d)
			}
		}
	}
	var out []bundle.Entry
	for _, e := range entries {
		// The root's other references are other items.
		if reached[e.Digest] && (e.Digest != root.Digest || e.Ref == root.Ref) {
			out = append(out, e)
		}
	}
	return out, nil
}

// planBundle plans the whole bundle: what stock tar makes of the file.
func planBundle(b *verify.Bundle, entries []bundle.Entry, l limits) (writer, error) {
	head := b.Head()
	layout, err := planLayout(b, entries, head.Index, l)
	if err != nil {
		return nil, err
	}
	files := []small{{"trusted_root.json", []byte(archive.TrustedRoot)}}
	for _, s := range head.Signatures {
		if err := artifact.BaseName(s.Name); err != nil {
			return nil, fmt.Errorf("signature: %w", err)
		}
		files = append(files, small{"signatures/" + s.Name, s.Data})
	}
	return func(ctx context.Context, root *os.Root) ([]string, error) {
		if len(head.Signatures) > 0 {
			if err := root.Mkdir("signatures", 0o755); err != nil {
				return nil, err
			}
		}
		if err := writeSmall(ctx, root, files...); err != nil {
			return nil, err
		}
		return layout(ctx, root)
	}, nil
}

// planLayout plans entries as an OCI image layout (image-spec 1.1) under index.
func planLayout(b *verify.Bundle, entries []bundle.Entry, index []byte, l limits) (writer, error) {
	blobs, err := blobsOf(b, entries, l.layout)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, root *os.Root) ([]string, error) {
		for _, dir := range []string{"blobs", "blobs/sha256"} {
			if err := root.Mkdir(dir, 0o755); err != nil {
				return nil, err
			}
		}
		for _, d := range blobs {
			if err := writeBlob(ctx, b, d, root); err != nil {
				return nil, err
			}
		}
		return []string{"index.json"}, writeSmall(ctx, root, small{"oci-layout", []byte(archive.Layout)}, small{"index.json", index})
	}, nil
}

// blobsOf lists what entries need, each digest once, in index order.
func blobsOf(b *verify.Bundle, entries []bundle.Entry, left int64) ([]bundle.Descriptor, error) {
	var out []bundle.Descriptor
	seen := map[digest.Digest]bool{}
	for _, e := range entries {
		n, err := node(b, e)
		if err != nil {
			return nil, err
		}
		for _, d := range append([]bundle.Descriptor{e.Descriptor}, n.Blobs()...) {
			if seen[d.Digest] {
				continue
			}
			seen[d.Digest] = true
			if d.Size > left {
				return nil, fmt.Errorf("blob %s: %d bytes, %d are left of what a layout may take: %w", d.Digest, d.Size, left, artifact.ErrTooLarge)
			}
			left -= d.Size
			out = append(out, d)
		}
	}
	return out, nil
}

func writeBlob(ctx context.Context, b *verify.Bundle, d bundle.Descriptor, root *os.Root) error {
	rc, err := b.Fetch(ctx, d)
	if err != nil {
		return err
	}
	defer rc.Close() // only read
	if err := save(ctx, root, "blobs/sha256/"+d.Digest.Encoded(), rc); err != nil {
		return fmt.Errorf("extract %s: %w", d.Digest, err)
	}
	return nil
}

// small is a file that is held in memory.
type small struct {
	name string
	data []byte
}

func writeSmall(ctx context.Context, root *os.Root, files ...small) error {
	for _, f := range files {
		if err := save(ctx, root, f.name, bytes.NewReader(f.data)); err != nil {
			return err
		}
	}
	return nil
}
