package verify

import (
	"errors"
	"hash"
	"io"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/opencontainers/go-digest"
)

// verifiedReader yields a blob and withholds its last bytes until size and
// digest have matched: whoever reads to EOF has read what was signed.
type verifiedReader struct {
	rc   io.ReadCloser
	desc bundle.Descriptor
	h    hash.Hash
	n    int64
	err  error

	owner  *Bundle      // names the items in errors
	closer func() error // closes rc and gives back the hold on owner, once
}

// Read implements io.Reader.
func (r *verifiedReader) Read(p []byte) (int, error) {
	n, err := r.read(p)
	return n, r.owner.name(err)
}

func (r *verifiedReader) read(p []byte) (int, error) {
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	left := r.desc.Size - r.n
	if left == 0 { // only an empty blob gets here before its end was checked
		r.err = r.finish()
		return 0, r.err
	}
	n, err := r.rc.Read(p[:min(int64(len(p)), left)])
	r.h.Write(p[:n])
	r.n += int64(n)
	switch {
	case r.n == r.desc.Size:
		if r.err = r.finish(); !errors.Is(r.err, io.EOF) {
			return 0, r.err
		}
		return n, nil
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		r.err = r.mismatch("")
		return 0, r.err
	case err != nil:
		r.err = blobError(r.desc, err)
		return 0, r.err
	}
	return n, nil
}

// finish checks the digest and that the source ends here; io.EOF is success.
func (r *verifiedReader) finish() error {
	if got := digest.NewDigest(digest.SHA256, r.h); got != r.desc.Digest {
		return r.mismatch(got)
	}
	var one [1]byte
	for {
		n, err := r.rc.Read(one[:])
		if n > 0 {
			r.n++
			return r.mismatch("")
		}
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		if err != nil {
			return blobError(r.desc, err)
		}
	}
}

func (r *verifiedReader) mismatch(got digest.Digest) error {
	return &ContentError{Desc: r.desc, Err: &archive.DigestError{
		Want: archive.Blob{Digest: r.desc.Digest, Size: r.desc.Size},
		Got:  archive.Blob{Digest: got, Size: r.n},
	}}
}

// Close releases the source, and the bundle if it was closed meanwhile. It is
// safe to call twice.
func (r *verifiedReader) Close() error {
	return r.closer()
}
