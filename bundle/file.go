package bundle

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/opencontainers/go-digest"
)

// File is a bundle on disk, a .tar.zst or a layout directory, not verified:
// what it says may be anybody's words. It implements no graph interface, so
// that nothing takes it for a verified bundle by accident. One handle is held
// from OpenFile to Close.
type File struct {
	head  archive.Head
	store store
}

// store is what File needs of a place that holds blobs.
type store interface {
	LocateMeta(manifests []archive.Blob) error
	Locate(c archive.Contents) error
	Open(b archive.Blob) (io.ReadCloser, error)
	Close() error
}

// OpenFile opens a bundle and reads HEAD, within its limits, and nothing more.
func OpenFile(path string) (*File, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	var f File
	if fi.IsDir() {
		f.store, f.head, err = openStore(archive.OpenDir(path))
	} else {
		f.store, f.head, err = openStore(archive.Open(path))
	}
	if err != nil {
		return nil, fmt.Errorf("open bundle %s: %w", path, err)
	}
	return &f, nil
}

// openStore turns a concrete store into the interface, keeping nil nil.
func openStore[S store](s S, h archive.Head, err error) (store, archive.Head, error) {
	if err != nil {
		return nil, h, err
	}
	return s, h, nil
}

// Head returns the raw index and signatures.
func (f *File) Head() archive.Head { return f.head }

// Close releases the file.
func (f *File) Close() error { return f.store.Close() }

// Open yields a blob's bytes, unverified, after Locate.
func (f *File) Open(b archive.Blob) (io.ReadCloser, error) { return f.store.Open(b) }

// ReadGraph reads every manifest that idx lists, each whole, within its limit
// and checked against its digest before it is parsed. It reads META only.
func (f *File) ReadGraph(idx Index) (*Graph, error) {
	if err := f.store.LocateMeta(idx.Manifests()); err != nil {
		return nil, err
	}
	return ReadGraph(idx, func(d Descriptor) (io.ReadCloser, error) { return f.store.Open(blobOf(d)) })
}

// Locate finds every blob of a graph: afterwards all can be opened, and the
// file is known to hold them and nothing else.
func (f *File) Locate(g *Graph) error { return f.store.Locate(g.Contents) }

// Graph is what the manifests of a bundle say.
type Graph struct {
	Nodes    map[digest.Digest]Node
	Raw      map[digest.Digest][]byte
	Contents archive.Contents
}

// Manifests lists the manifests of an index in order, each once: how META begins.
func (idx Index) Manifests() []archive.Blob {
	seen := map[digest.Digest]bool{}
	var out []archive.Blob
	for _, e := range idx.Entries {
		if !seen[e.Digest] {
			seen[e.Digest] = true
			out = append(out, blobOf(e.Descriptor))
		}
	}
	return out
}

// ReadGraph reads and parses manifests in index order, each through open.
func ReadGraph(idx Index, open func(Descriptor) (io.ReadCloser, error)) (*Graph, error) {
	g := &Graph{Nodes: map[digest.Digest]Node{}, Raw: map[digest.Digest][]byte{}}
	descs := make([]Descriptor, len(idx.Entries))
	for i, e := range idx.Entries {
		descs[i] = e.Descriptor
	}
	var err error
	g.Contents, err = Contents(descs, func(d Descriptor) (Node, error) {
		rc, err := open(d)
		if err != nil {
			return Node{}, err
		}
		raw, err := ReadAll(rc, blobOf(d))
		if err != nil {
			return Node{}, err
		}
		n, err := parse(d, raw)
		g.Nodes[d.Digest], g.Raw[d.Digest] = n, raw
		return n, err
	})
	if err != nil {
		return nil, err
	}
	return g, g.checkDepth()
}

// ReadAll reads a blob whole, refuses it unless size and digest match, and
// closes rc. The caller has bounded b.Size.
func ReadAll(rc io.ReadCloser, b archive.Blob) ([]byte, error) {
	defer rc.Close()
	raw := make([]byte, b.Size)
	if n, err := io.ReadFull(rc, raw); err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, &archive.DigestError{Want: b, Got: archive.Blob{Size: int64(n)}}
	} else if err != nil {
		return nil, err
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(rc, 1)); err != nil {
		return nil, err
	} else if n != 0 {
		return nil, &archive.DigestError{Want: b, Got: archive.Blob{Size: b.Size + 1}}
	}
	sum := sha256.Sum256(raw)
	if got := digest.NewDigestFromBytes(digest.SHA256, sum[:]); got != b.Digest {
		return nil, &archive.DigestError{Want: b, Got: archive.Blob{Digest: got, Size: b.Size}}
	}
	return raw, nil
}

// checkDepth bounds how deep listed indexes nest, below every manifest in the
// order of the file.
func (g *Graph) checkDepth() error {
	depth := map[digest.Digest]int{} // known to be within bounds
	var measure func(d digest.Digest, level int) (int, bool)
	measure = func(d digest.Digest, level int) (int, bool) {
		if n, ok := depth[d]; ok || level > archive.MaxDepth {
			return n, ok && level+n <= archive.MaxDepth
		}
		deepest := 0
		for _, c := range g.Nodes[d].Children {
			n, ok := measure(c.Digest, level+1)
			if !ok {
				return 0, false
			}
			deepest = max(deepest, n+1)
		}
		depth[d] = deepest
		return deepest, true
	}
	for _, b := range g.Contents.Meta {
		if _, ok := measure(b.Digest, 0); !ok {
			return &GraphError{b.Digest, fmt.Errorf("indexes are nested more than %d deep", archive.MaxDepth)}
		}
	}
	return nil
}
