package file

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Document is one document held in memory: a checklist, for example.
type Document struct {
	Kind      string // a bundle.Kind constant; also the first part of the reference
	Name      string
	Title     string // file name it is given when extracted
	MediaType string // of the layer and the artifactType
	Data      []byte
}

// Bytes carries a document as an artifact of one uncompressed layer. It
// implements bundle.Source.
type Bytes struct {
	spool *bundle.Spool
	doc   Document
	opts  Options
}

// NewBytes returns the source of doc, tagged "<kind>/<name>:<version>".
func NewBytes(spool *bundle.Spool, doc Document, opts Options) *Bytes {
	doc.Data = bytes.Clone(doc.Data)
	return &Bytes{spool: spool, doc: doc, opts: opts}
}

// Origin implements bundle.Source.
func (b *Bytes) Origin() string { return b.doc.Kind + " " + b.doc.Name }

// Open implements bundle.Source.
func (b *Bytes) Open(_ context.Context, _ bundle.Pin, desc bundle.Descriptor) (io.ReadCloser, error) {
	return b.spool.Open(desc)
}

// Resolve spools the document and its manifest.
func (b *Bytes) Resolve(context.Context, []bundle.Pin) ([]bundle.Pin, error) {
	pin, err := b.resolve()
	if err != nil {
		return nil, fmt.Errorf("pack %s %q: %w", b.doc.Kind, b.doc.Name, err)
	}
	return []bundle.Pin{pin}, nil
}

func (b *Bytes) resolve() (bundle.Pin, error) {
	ref, err := artifact.Ref(b.doc.Kind, b.doc.Name, b.opts.Version)
	if err != nil {
		return bundle.Pin{}, err
	}
	if err := artifact.BaseName(b.doc.Title); err != nil {
		return bundle.Pin{}, err
	}
	layer, err := b.spool.AddBytes(b.doc.MediaType, b.doc.Data)
	if err != nil {
		return bundle.Pin{}, err
	}
	layer.Annotations = map[string]string{ocispec.AnnotationTitle: b.doc.Title}
	m, err := bundle.PackArtifact(b.spool, b.doc.MediaType, bundle.Descriptor{}, []bundle.Descriptor{layer}, nil)
	if err != nil {
		return bundle.Pin{}, err
	}
	return artifact.Pin(bundle.Item{Kind: b.doc.Kind, Name: b.doc.Name, Ref: ref}, b.Origin(), m, layer), nil
}
