package dockerarchive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Read reads a docker-save or OCI-layout tar, itself plain, gzip or zstd, from r
// into the spool and returns the image that opts choose. It reads r once. What
// the tar holds beside the image may stay in the spool, unused.
//
// Errors that say what is wrong with the tar: *DiffIDError, *DigestError,
// *MissingError, *SelectError, and *artifact.NameError or *artifact.TypeError for
// members that do not belong in one.
func Read(ctx context.Context, r io.Reader, spool *bundle.Spool, opts Options) (*Image, error) {
	if err := CheckAs(opts.As); err != nil {
		return nil, err
	}
	plain, _, closer, err := decompress(bufio.NewReaderSize(artifact.Watch(ctx, r, nil, ""), 1<<16))
	if err != nil {
		return nil, err
	}
	defer closer()
	c := &contents{spool: spool, members: map[string]*member{}, links: map[string]string{}}
	if err := c.read(plain); err != nil {
		return nil, err
	}
	return c.choose(opts.As)
}

// compression says how the bytes of a layer are compressed.
type compression int

const (
	uncompressed compression = iota
	gzipped
	zstandard
)

// mediaType is the OCI media type of a layer so compressed.
func (c compression) mediaType() string {
	return []string{ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd}[c]
}

// decompress looks at the first bytes of br and returns what they decompress
// to, at most MaxLayer bytes of a compressed stream. Stop releases the decoder.
func decompress(br *bufio.Reader) (r io.Reader, c compression, stop func(), err error) {
	head, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, 0, nil, fmt.Errorf("read gzip header: %w", err)
		}
		return &bomb{r: z, left: MaxLayer}, gzipped, func() {}, nil
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, 0, nil, fmt.Errorf("read zstd header: %w", err)
		}
		return &bomb{r: z, left: MaxLayer}, zstandard, z.Close, nil
	}
	return br, uncompressed, func() {}, nil
}

// bomb fails once more than left bytes came out of a decoder.
type bomb struct {
	r    io.Reader
	left int64
}

func (b *bomb) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("compressed content unpacks to more than %d bytes", int64(MaxLayer))
	}
	return n, err
}

// member is one regular file of the tar, in memory or in the spool.
type member struct {
	name   string
	size   int64         // as it stands in the tar
	digest digest.Digest // as it stands in the tar
	data   []byte        // its bytes, if kept in memory
	form   compression
	stored bundle.Descriptor // what the spool holds: uncompressed content as zstd, other as it is
	diffID digest.Digest     // of the uncompressed bytes, if spooled
}

// contents is what was read of a tar.
type contents struct {
	spool   *bundle.Spool
	members map[string]*member
	links   map[string]string // name to name
	held    int64             // bytes kept in memory
}

func (c *contents) read(r io.Reader) error {
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) && n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // MemberName says why
			return fmt.Errorf("read tar: %w", err)
		}
		if n >= MaxEntries {
			return fmt.Errorf("tar has more than %d members", MaxEntries)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := c.entry(tr, h); err != nil {
			return err
		}
	}
}

// entry takes one member.
func (c *contents) entry(tr io.Reader, h *tar.Header) error {
	name, err := artifact.MemberName(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return nil
	}
	if c.members[name] != nil || c.links[name] != "" {
		return fmt.Errorf("member %q stands twice in the tar", name)
	}
	switch h.Typeflag {
	case tar.TypeSymlink, tar.TypeLink:
		target, err := artifact.LinkTarget(name, h.Linkname, h.Typeflag == tar.TypeSymlink)
		if err != nil {
			return err
		}
		c.links[name] = target
		return nil
	case tar.TypeReg:
	default:
		return &artifact.TypeError{Name: h.Name, Mode: h.FileInfo().Mode()}
	}
	if artifact.IsSparse(h) {
		return fmt.Errorf("member %q is a sparse file", name)
	}
	if h.Size > MaxLayer {
		return fmt.Errorf("member %q has %d bytes, more than %d", name, h.Size, int64(MaxLayer))
	}
	m := &member{name: name, size: h.Size}
	c.members[name] = m
	if err := c.take(m, tr); err != nil {
		return fmt.Errorf("read member %q: %w", name, err)
	}
	return nil
}

// take keeps a member in memory if it is small and could be a document, and
// spools it otherwise.
func (c *contents) take(m *member, r io.Reader) error {
	br := bufio.NewReaderSize(r, 1<<16)
	if m.size <= MaxSmall {
		head, err := br.Peek(1)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if m.size <= maxTiny || bytes.HasPrefix(head, []byte("{")) || bytes.HasPrefix(head, []byte("[")) {
			return c.hold(m, br)
		}
	}
	return c.store(m, br)
}

func (c *contents) hold(m *member, r io.Reader) error {
	if c.held += m.size; c.held > MaxHeld {
		return fmt.Errorf("tar holds more than %d bytes of small files", MaxHeld)
	}
	data, err := io.ReadAll(io.LimitReader(r, m.size+1))
	if err != nil {
		return err
	}
	m.data, m.digest = data, digest.FromBytes(data)
	return nil
}

// store spools a layer. Compressed bytes are kept as they are, and unpacked on
// their way to learn the diffID; uncompressed ones are compressed.
func (c *contents) store(m *member, br *bufio.Reader) error {
	head, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !bytes.HasPrefix(head, []byte{0x1f, 0x8b}) && !bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		desc, plain, _, err := c.spool.AddZstd(ocispec.MediaTypeImageLayerZstd, br)
		m.stored, m.digest, m.diffID = desc, plain, plain
		return err
	}
	w, err := c.spool.Create()
	if err != nil {
		return err
	}
	defer w.Abort()
	tee := bufio.NewReaderSize(io.TeeReader(br, w), 1<<16)
	plain, form, stop, err := decompress(tee)
	if err != nil {
		return err
	}
	defer stop()
	h := sha256.New()
	if _, err := io.Copy(h, plain); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, tee); err != nil { // what the decoder did not ask for
		return err
	}
	m.form = form
	m.stored, err = w.Commit(form.mediaType())
	m.digest, m.diffID = m.stored.Digest, digest.NewDigestFromBytes(digest.SHA256, h.Sum(nil))
	return err
}

// lookup finds a member, following links inside the tar.
func (c *contents) lookup(name, by string) (*member, error) {
	clean, err := artifact.MemberName(name)
	if err != nil {
		return nil, err
	}
	for range 8 {
		if m := c.members[clean]; m != nil {
			return m, nil
		}
		target, ok := c.links[clean]
		if !ok {
			return nil, &MissingError{Name: name, By: by}
		}
		clean = target
	}
	return nil, fmt.Errorf("member %q is a chain of links that is too long", name)
}

// document returns the bytes of a member that must be a small document.
func (c *contents) document(name, by string) ([]byte, error) {
	m, err := c.lookup(name, by)
	if err != nil {
		return nil, err
	}
	if m.data == nil {
		return nil, fmt.Errorf("member %q, named by %s, is no JSON document of at most %d bytes", name, by, MaxSmall)
	}
	return m.data, nil
}

// spooled makes sure that a member is in the spool: one that was kept in memory
// because it is small may be a layer all the same.
func (c *contents) spooled(m *member) error {
	if m.stored.Digest != "" {
		return nil
	}
	return c.store(m, bufio.NewReader(bytes.NewReader(m.data)))
}

// verbatim spools a member's bytes as they stand in the tar. An uncompressed
// layer, which an OCI layout seldom has, is made again from its compressed copy.
func (c *contents) verbatim(m *member, mediaType string) (bundle.Descriptor, error) {
	if m.data != nil {
		return c.spool.AddBytes(mediaType, m.data)
	}
	if m.form != uncompressed {
		desc := m.stored
		desc.MediaType = mediaType
		return desc, nil
	}
	want := bundle.Descriptor{MediaType: mediaType, Digest: m.digest, Size: m.size}
	if c.spool.Has(want) {
		return want, nil
	}
	f, err := c.spool.Open(m.stored)
	if err != nil {
		return bundle.Descriptor{}, err
	}
	defer f.Close() // only read
	plain, _, stop, err := decompress(bufio.NewReader(f))
	if err != nil {
		return bundle.Descriptor{}, err
	}
	defer stop()
	got, err := c.spool.Add(mediaType, plain)
	if err == nil && got.Digest != m.digest {
		err = &DigestError{Name: m.name, Want: m.digest, Got: got.Digest}
	}
	return got, err
}

// choose returns the image that as names, by the better of the two ways that
// the tar can be read.
func (c *contents) choose(as string) (*Image, error) {
	_, docker := c.members["manifest.json"]
	_, layout := c.members["index.json"]
	if !docker && !layout {
		return nil, errors.New("tar has neither manifest.json nor index.json: it is no docker-save or OCI-layout tar")
	}
	if docker {
		e, err := c.dockerEntry(as)
		if err != nil {
			return nil, err
		}
		if layout {
			if img := c.sameInLayout(e, as); img != nil {
				return img, nil
			}
		}
		return c.dockerImage(e)
	}
	root, err := c.layoutRoot(as)
	if err != nil {
		return nil, err
	}
	return c.layoutImage(root)
}

// sameInLayout returns the image of an entry of manifest.json as the layout
// beside it has it, or nil if the layout is not complete, has uncompressed
// layers, or means another image.
func (c *contents) sameInLayout(e dockerManifest, as string) *Image {
	root, err := c.layoutRoot(as)
	if err != nil || !c.whole(root, 0) {
		return nil
	}
	img, err := c.layoutImage(root)
	if err != nil {
		return nil
	}
	config, err := c.lookup(e.Config, "manifest.json")
	if err != nil || !slices.ContainsFunc(img.Blobs, func(d bundle.Descriptor) bool { return d.Digest == config.digest }) {
		return nil
	}
	img.RepoTags = slices.Clone(e.RepoTags) // only there in Docker's form
	return img
}
