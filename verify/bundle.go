// Package verify is the only door from bytes to trust. Open checks a bundle's
// signatures against the operator's policy before it parses anything, and
// returns a *Bundle: the proof that package mirror and package install ask for.
// Every later read of a blob is checked against its digest while it streams.
package verify

import (
	"context"
	"io"
	"iter"

	"github.com/airlock-project/airlock/bundle"
	"github.com/opencontainers/go-digest"
)

// Bundle is a bundle that the operator's policy trusts. Only Open makes one;
// the zero value refuses every call. It is safe for concurrent use.
type Bundle struct {
	opened bool
}

// Info is what the signed index says of the bundle.
type Info struct {
	Digest   digest.Digest // of index.json: the bundle's identity
	Product  string
	Version  string
	Release  int64
	Created  string
	Lock     digest.Digest
	Tool     string
	Expires  string
	Audience []string
	MinTool  string
}

// Info returns what the signed index says of the bundle.
func (b *Bundle) Info() Info { return Info{} }

// Items yields every descriptor of index.json in its order. The error is
// non-nil once, for a closed or zero Bundle.
func (b *Bundle) Items() iter.Seq2[bundle.Entry, error] { return nil }

// Fetch opens a blob or manifest by digest. Reading it to the end succeeds only
// if digest and size match: the last bytes are withheld until they do. The
// caller closes it. It implements oras-go's content.Fetcher.
func (b *Bundle) Fetch(ctx context.Context, desc bundle.Descriptor) (io.ReadCloser, error) {
	return nil, nil
}

// Exists reports whether the bundle carries desc.Digest.
func (b *Bundle) Exists(ctx context.Context, desc bundle.Descriptor) (bool, error) { return false, nil }

// Predecessors lists the carried manifests that point at desc: indexes that
// list it, manifests whose subject, config or layer it is.
func (b *Bundle) Predecessors(ctx context.Context, desc bundle.Descriptor) ([]bundle.Descriptor, error) {
	return nil, nil
}

// ReadBlob returns a whole verified blob of at most 4 MiB (archive.MaxManifest).
func (b *Bundle) ReadBlob(ctx context.Context, desc bundle.Descriptor) ([]byte, error) {
	return nil, nil
}

// Manifest returns the verified bytes of a carried manifest or index and its
// descriptor; ok is false if it is not carried. No I/O: manifests are in memory.
func (b *Bundle) Manifest(d digest.Digest) (raw []byte, desc bundle.Descriptor, ok bool) {
	return nil, bundle.Descriptor{}, false
}

// VerifyAll reads every byte once and checks it.
func (b *Bundle) VerifyAll(ctx context.Context, l bundle.Listener) error { return nil }

// Decision says who signed, under which policy, for the ledger.
func (b *Bundle) Decision() Decision { return Decision{} }

// Decision is the outcome of checking signatures against a policy.
type Decision struct {
	Policy  string   // digest of the policy document, or "key:<fingerprint>" for a single key
	Signers []Signer // who signed, in policy order
}

// Signer is a party of the policy whose signature was found good.
type Signer struct {
	Name        string
	Role        string
	Fingerprint string // SHA-256 of the SPKI, "SHA256:" and hex
}

// Close releases the file. It is safe to call twice.
func (b *Bundle) Close() error { return nil }
