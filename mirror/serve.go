package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/verify"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// stall is how long a client may take no byte before it is cut off.
const stall = 2 * time.Minute

// Handler serves a bundle as a read-only OCI registry. A repository is found
// by its upstream's name with the host as first segment ("quay.io/jetstack/x")
// and without it ("jetstack/x"); a containerd mirror's ns query decides where
// several upstreams share a name. Content is verified while it streams: a
// damaged blob never arrives whole, the connection is cut before its end. There
// are no ranges. The bundle must stay open as long as the handler is used.
//
// The client is not told why. report is, where it is not nil: once for each blob
// that cannot be served, with the items that it belongs to and the cause. It is
// called by the goroutine that serves, so by several at once.
func Handler(ctx context.Context, b *verify.Bundle, report func(error)) (http.Handler, error) {
	return newHandler(ctx, b, report)
}

// NewServer returns a server for h with limits fit for strangers. The caller
// sets address and TLS. It logs nothing.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // requests have no bodies
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
}

func newHandler(ctx context.Context, src source, report func(error)) (http.Handler, error) {
	c, err := newCatalog(ctx, src)
	if err != nil {
		return nil, err
	}
	s := &server{src: src, catalog: c, report: report}
	s.registry = ociserver.New(&ociregistry.Funcs{
		GetBlob_:         s.blob,
		ResolveBlob_:     s.resolveBlob,
		GetManifest_:     s.manifest,
		ResolveManifest_: s.resolveManifest,
		GetTag_:          s.tag,
		ResolveTag_:      s.resolveTag,
		Repositories_:    s.repositories,
		Tags_:            s.tags,
	}, nil)
	return s, nil
}

// server is a registry over a catalog.
type server struct {
	src      source
	catalog  *catalog
	registry http.Handler

	report   func(error) // may be nil
	reported sync.Map    // digests of blobs that report knows of
}

// tell reports, once, that a blob cannot be served.
func (s *server) tell(name string, d digest.Digest, err error) {
	if s.report == nil {
		return
	}
	if _, again := s.reported.LoadOrStore(d, nil); !again {
		s.report(fmt.Errorf("serve %s: %w", name, err))
	}
}

// namespace is the context key of the ns query.
type namespace struct{}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeError(w, http.StatusMethodNotAllowed, ociregistry.ErrUnsupported.Code(), "this registry is read-only")
		return
	}
	ns := req.URL.Query().Get("ns")
	if name, subject, ok := referrersPath(req.URL.Path); ok && req.Method == http.MethodGet {
		s.serveReferrers(w, s.catalog.find(ns, name), subject, req.URL.Query().Get("artifactType"))
		return
	}
	req = req.WithContext(context.WithValue(req.Context(), namespace{}, ns))
	// A part of a blob cannot be verified, so a range is answered with the whole,
	// as RFC 9110 section 14.2 allows.
	req.Header = maps.Clone(req.Header)
	req.Header.Del("Range")
	sw := &stallWriter{ResponseWriter: w, control: http.NewResponseController(w)}
	sw.extend()
	s.registry.ServeHTTP(sw, req)
}

// stallWriter gives a client time for each piece instead of for the whole.
type stallWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (w *stallWriter) extend() {
	// Writers without deadlines exist in tests only.
	_ = w.control.SetWriteDeadline(time.Now().Add(stall))
}

// WriteHeader withdraws the ranges that ociserver offers.
func (w *stallWriter) WriteHeader(code int) {
	if w.Header().Get("Accept-Ranges") != "" {
		w.Header().Set("Accept-Ranges", "none")
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write implements io.Writer.
func (w *stallWriter) Write(p []byte) (int, error) {
	w.extend()
	return w.ResponseWriter.Write(p)
}

func (s *server) find(ctx context.Context, name string) (*shelf, error) {
	ns, _ := ctx.Value(namespace{}).(string)
	sh := s.catalog.find(ns, name)
	if sh == nil {
		return nil, ociregistry.ErrNameUnknown
	}
	return sh, nil
}

func (s *server) resolveBlob(ctx context.Context, name string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	sh, err := s.find(ctx, name)
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, ok := sh.blobs[d]
	if !ok {
		return ociregistry.Descriptor{}, ociregistry.ErrBlobUnknown
	}
	desc.MediaType = "application/octet-stream"
	return desc, nil
}

func (s *server) blob(ctx context.Context, name string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	desc, err := s.resolveBlob(ctx, name, d)
	if err != nil {
		return nil, err
	}
	rc, err := s.src.Fetch(ctx, desc)
	if err != nil {
		// The cause names files of the operator: it is none of the client's.
		if ctx.Err() == nil {
			s.tell(name, d, err)
		}
		return nil, errors.New("the bundle cannot be read")
	}
	tell := func(err error) { s.tell(name, d, err) }
	return &abortingReader{ReadCloser: rc, desc: desc, left: desc.Size, tell: tell}, nil
}

// abortingReader cuts the connection when a blob turns out to be damaged:
// ociserver ignores the errors of a copy and would end the answer in order.
type abortingReader struct {
	io.ReadCloser
	desc bundle.Descriptor
	left int64
	tell func(error)
}

// Descriptor implements ociregistry.BlobReader.
func (r *abortingReader) Descriptor() ociregistry.Descriptor { return r.desc }

// Read implements io.Reader. It panics with http.ErrAbortHandler, which
// net/http expects, instead of returning an error.
func (r *abortingReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.left -= int64(n)
	if err != nil && (err != io.EOF || r.left != 0) { //nolint:errorlint // io.Reader's contract is the bare io.EOF
		r.tell(err)
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// manifestReader is a manifest in memory.
type manifestReader struct {
	*bytes.Reader
	desc bundle.Descriptor
}

func (r manifestReader) Descriptor() ociregistry.Descriptor { return r.desc }
func (r manifestReader) Close() error                       { return nil }

func (s *server) byDigest(ctx context.Context, name string, d digest.Digest) (*node, error) {
	sh, err := s.find(ctx, name)
	if err != nil {
		return nil, err
	}
	n, ok := sh.manifests[d]
	if !ok {
		return nil, ociregistry.ErrManifestUnknown
	}
	return n, nil
}

func (s *server) byTag(ctx context.Context, name, tag string) (*node, error) {
	sh, err := s.find(ctx, name)
	if err != nil {
		return nil, err
	}
	if sh.ambiguous[tag] {
		return nil, ociregistry.NewError(
			fmt.Sprintf("%s:%s comes from several registries: ask with the host as first segment", name, tag),
			ociregistry.ErrManifestUnknown.Code(), nil)
	}
	n, ok := sh.tags[tag]
	if !ok {
		return nil, ociregistry.ErrManifestUnknown
	}
	return n, nil
}

func (s *server) manifest(ctx context.Context, name string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	return readNode(s.byDigest(ctx, name, d))
}

func (s *server) tag(ctx context.Context, name, tag string) (ociregistry.BlobReader, error) {
	return readNode(s.byTag(ctx, name, tag))
}

func (s *server) resolveManifest(ctx context.Context, name string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	return describeNode(s.byDigest(ctx, name, d))
}

func (s *server) resolveTag(ctx context.Context, name, tag string) (ociregistry.Descriptor, error) {
	return describeNode(s.byTag(ctx, name, tag))
}

func readNode(n *node, err error) (ociregistry.BlobReader, error) {
	if err != nil {
		return nil, err
	}
	return manifestReader{bytes.NewReader(n.raw), n.desc}, nil
}

func describeNode(n *node, err error) (ociregistry.Descriptor, error) {
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	return n.desc, nil
}

func (s *server) repositories(_ context.Context, after string) ociregistry.Seq[string] {
	return listAfter(maps.Keys(s.catalog.shelves), after)
}

func (s *server) tags(ctx context.Context, name, after string) ociregistry.Seq[string] {
	sh, err := s.find(ctx, name)
	if err != nil {
		return ociregistry.ErrorSeq[string](err)
	}
	return listAfter(maps.Keys(sh.tags), after)
}

func listAfter(names func(func(string) bool), after string) ociregistry.Seq[string] {
	list := slices.Sorted(names)
	if after != "" {
		i, found := slices.BinarySearch(list, after)
		if found {
			i++
		}
		list = list[i:]
	}
	return ociregistry.SliceSeq(list)
}

// referrersPath reads /v2/<name>/referrers/<digest>.
func referrersPath(path string) (name string, subject digest.Digest, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return "", "", false
	}
	i := strings.LastIndex(rest, "/referrers/")
	if i < 0 {
		return "", "", false
	}
	subject = digest.Digest(rest[i+len("/referrers/"):])
	return rest[:i], subject, subject.Validate() == nil
}

// serveReferrers answers distribution-spec 1.1 "Listing Referrers". ociserver
// would write null for an empty list, which strict clients refuse.
func (s *server) serveReferrers(w http.ResponseWriter, sh *shelf, subject digest.Digest, artifactType string) {
	if sh == nil {
		writeError(w, http.StatusNotFound, ociregistry.ErrNameUnknown.Code(), "repository name not known to registry")
		return
	}
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{},
	}
	for _, n := range sh.referrers[subject] {
		if artifactType != "" && n.artifact != artifactType {
			continue
		}
		desc := n.desc
		desc.ArtifactType, desc.Annotations = n.artifact, n.annotations
		index.Manifests = append(index.Manifests, desc)
	}
	if artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	writeJSON(w, http.StatusOK, ocispec.MediaTypeImageIndex, index)
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, "application/json", map[string]any{
		"errors": []map[string]string{{"code": code, "message": message}},
	})
}

func writeJSON(w http.ResponseWriter, status int, mediaType string, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(http.ErrAbortHandler) // only strings and numbers are written
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(status)
	// A client that left is no concern of ours.
	_, _ = w.Write(raw)
}
