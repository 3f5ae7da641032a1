package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/opencontainers/go-digest"
)

// Open implements bundle.Source: manifests and blobs by digest, straight from
// the registry. A derived index is made again from the index it came from.
func (s *Source) Open(ctx context.Context, pin bundle.Pin, desc bundle.Descriptor) (io.ReadCloser, error) {
	t, err := s.target()
	if err != nil {
		return nil, err
	}
	m, ok := find(pin, desc.Digest)
	switch {
	case ok && m.Raw != nil:
		return io.NopCloser(bytes.NewReader(m.Raw)), nil
	case ok && s.spool.Has(m.Descriptor):
		return s.spool.Open(m.Descriptor)
	case ok && isDerived(pin, m):
		return s.rederive(ctx, t, pin, m)
	case ok:
		n, err := fetcher{t}.manifest(ctx, desc.Digest.String(), &m.Descriptor)
		if err != nil {
			return nil, fmt.Errorf("fetch manifest: %w", err)
		}
		return io.NopCloser(bytes.NewReader(n.Raw)), nil
	}
	object := t.object(desc.Digest.String())
	rc, err := t.repo.Blobs().Fetch(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("fetch blob: %w", remote.Explain(err, object))
	}
	return &explainedBody{ReadCloser: rc, object: object}, nil
}

func find(pin bundle.Pin, d digest.Digest) (bundle.Manifest, bool) {
	for _, m := range pin.Manifests {
		if m.Digest == d {
			return m, true
		}
	}
	return bundle.Manifest{}, false
}

// isDerived reports whether m is a root that no registry has.
func isDerived(pin bundle.Pin, m bundle.Manifest) bool {
	_, ok := sourceIndex(pin)
	return ok && m.Role == bundle.RoleRoot
}

func sourceIndex(pin bundle.Pin) (bundle.Manifest, bool) {
	for _, m := range pin.Manifests {
		if m.Role == bundle.RoleSourceIndex {
			return m, true
		}
	}
	return bundle.Manifest{}, false
}

// rederive makes a derived index from a lock, which knows digests only.
func (s *Source) rederive(ctx context.Context, t *target, pin bundle.Pin, root bundle.Manifest) (io.ReadCloser, error) {
	source, _ := sourceIndex(pin)
	n, err := fetcher{t}.manifest(ctx, source.Digest.String(), &source.Descriptor)
	if err != nil {
		return nil, fmt.Errorf("fetch index: %w", err)
	}
	children := map[digest.Digest]bool{}
	for _, m := range pin.Manifests {
		if m.Role == bundle.RoleChild {
			children[m.Digest] = true
		}
	}
	raw, err := derive(n.Manifest, func(d digest.Digest) bool { return children[d] })
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(raw); got != root.Digest {
		return nil, &DigestError{Object: fmt.Sprintf("index derived from %s for the locked platforms", t.object(source.Digest.String())), Want: root.Digest, Got: got}
	}
	if _, err := s.spool.AddBytes(root.MediaType, raw); err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

// explainedBody gives errors in the middle of a body the types of package
// remote.
type explainedBody struct {
	io.ReadCloser
	object string
}

func (b *explainedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader's contract is the bare io.EOF
		err = fmt.Errorf("read %s: %w", b.object, remote.Explain(err, b.object))
	}
	return n, err
}
