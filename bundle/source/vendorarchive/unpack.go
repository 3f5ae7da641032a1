package vendorarchive

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/airlock-project/airlock/bundle/source/dockerarchive"
	"github.com/klauspost/compress/gzip"
)

// Limits on an archive. They are checked although its checksum is good: the
// vendor's build may have been fooled too.
const (
	// MaxEntries bounds the members of an archive.
	MaxEntries = 50_000
	// MaxUnpacked bounds what an archive unpacks to, in bytes: 256 GiB.
	MaxUnpacked = 256 << 30
	// maxVersionFile bounds the file "version", in bytes.
	maxVersionFile = 4 << 10
)

// unpack is the second pass: what is wanted goes into the spool. It ends by
// checking that the bytes are still those of the first pass.
func (s *Source) unpack(ctx context.Context, f io.Reader, p *proof, w *wanted) error {
	h := sha256.New()
	tee := io.TeeReader(artifact.Watch(ctx, f, s.opts.Listen, s.Origin()), h)
	z, err := gzip.NewReader(bufio.NewReaderSize(tee, 1<<17))
	if err != nil {
		return fmt.Errorf("read gzip: %w", err)
	}
	u := &unpacker{ctx: ctx, spool: s.spool, want: w, archive: p.name, seen: map[string]bool{}}
	if err := u.versions.add("the archive's name", stem(p.name)); err != nil {
		return err
	}
	limited := &io.LimitedReader{R: z, N: MaxUnpacked}
	err = u.read(tar.NewReader(limited))
	if limited.N == 0 {
		return fmt.Errorf("archive unpacks to more than %d bytes", int64(MaxUnpacked))
	}
	// A change shows in many ways while the stream is read; what it was is said
	// first, so the rest is hashed even after an error.
	if _, drain := io.Copy(io.Discard, tee); drain != nil {
		return errors.Join(err, drain)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != p.sum {
		return fmt.Errorf("archive changed while it was read: %w", &ChecksumError{Name: p.name, Want: p.sum, Got: got})
	}
	if err != nil {
		return err
	}
	return u.complete(s)
}

// unpacker takes members out of the stream.
type unpacker struct {
	ctx      context.Context
	spool    *bundle.Spool
	want     *wanted
	archive  string
	top      string
	seen     map[string]bool // names of files and links
	versions versions
}

func (u *unpacker) read(tr *tar.Reader) error {
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // MemberName says why
			return fmt.Errorf("read tar: %w", err)
		}
		if n >= MaxEntries {
			return fmt.Errorf("archive has more than %d members", MaxEntries)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := u.entry(tr, h); err != nil {
			return err
		}
	}
}

// entry checks a member and takes it if it is wanted.
func (u *unpacker) entry(tr io.Reader, h *tar.Header) error {
	name, err := artifact.MemberName(h.Name)
	if err != nil {
		return err
	}
	if name == "." && h.Typeflag == tar.TypeDir {
		return nil
	}
	top, rest, below := strings.Cut(name, "/")
	if !below && h.Typeflag != tar.TypeDir {
		return fmt.Errorf("member %q lies outside the archive's top directory", name)
	}
	if err := u.setTop(top); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return nil
	}
	if u.seen[name] {
		return fmt.Errorf("member %q stands twice in the archive", name)
	}
	u.seen[name] = true
	switch h.Typeflag {
	case tar.TypeSymlink, tar.TypeLink:
		return u.link(name, rest, h)
	case tar.TypeReg:
		if artifact.IsSparse(h) {
			return fmt.Errorf("member %q is a sparse file", name)
		}
		return u.take(rest, tr, h)
	}
	return &artifact.TypeError{Name: name, Mode: h.FileInfo().Mode()}
}

func (u *unpacker) setTop(top string) error {
	if u.top == "" {
		u.top = top
		return u.versions.add("the top directory", top)
	}
	if top != u.top {
		return fmt.Errorf("archive has two top directories, %q and %q: want one", u.top, top)
	}
	return nil
}

// link checks that a link stays in the top directory. It is never followed.
func (u *unpacker) link(name, rest string, h *tar.Header) error {
	target, err := artifact.LinkTarget(name, h.Linkname, h.Typeflag == tar.TypeSymlink)
	if err != nil {
		return err
	}
	if target != u.top && !strings.HasPrefix(target, u.top+"/") {
		return &artifact.NameError{Name: name, Reason: fmt.Sprintf("links to %q, outside the top directory", h.Linkname)}
	}
	if u.want.images[rest] != nil || u.want.files[rest] != nil {
		return fmt.Errorf("member %q is a link to %q: name that one in the definition", rest, h.Linkname)
	}
	return nil
}

// take spools a member that is wanted.
func (u *unpacker) take(rest string, r io.Reader, h *tar.Header) error {
	if rest == "version" && u.want.files[rest] == nil {
		b, err := io.ReadAll(io.LimitReader(r, maxVersionFile))
		if err != nil {
			return fmt.Errorf("read member %q: %w", rest, err)
		}
		return u.versions.add(`the file "version"`, string(b))
	}
	if w := u.want.images[rest]; w != nil {
		img, err := dockerarchive.Read(u.ctx, r, u.spool, dockerarchive.Options{As: w.as})
		if err != nil {
			return fmt.Errorf("read image %q: %w", rest, err)
		}
		w.image = img
		return u.checkTags(rest, w.as, img.RepoTags)
	}
	if w := u.want.files[rest]; w != nil {
		packed, err := artifact.Pack(u.spool, baseOf(rest), h.FileInfo().Mode(), r)
		if err != nil {
			return fmt.Errorf("read file %q: %w", rest, err)
		}
		w.packed = &packed
	}
	return nil
}

// checkTags compares the tags that an image has in its tar with the reference
// it is carried as. One that agrees is enough.
func (u *unpacker) checkTags(path, as string, repoTags []string) error {
	var mismatch error
	for _, t := range repoTags {
		if tagOf(t) == tagOf(as) {
			mismatch = nil
			break
		}
		mismatch = &VersionError{
			Where: "image " + path, Version: tagOf(t),
			OtherWhere: "the definition", OtherVersion: tagOf(as),
		}
	}
	if mismatch != nil {
		return mismatch
	}
	return u.versions.add("the definition's "+as, tagOf(as))
}

// complete reports what is wanted and was not there, in the definition's order.
func (u *unpacker) complete(s *Source) error {
	for _, i := range s.entry.Images {
		if u.want.images[i.Path].image == nil {
			return &MissingMemberError{Archive: u.archive, Member: i.Path}
		}
	}
	for _, f := range s.entry.Files {
		if u.want.files[f.Path].packed == nil {
			return &MissingMemberError{Archive: u.archive, Member: f.Path}
		}
	}
	return nil
}

func baseOf(path string) string { return path[strings.LastIndex(path, "/")+1:] }
