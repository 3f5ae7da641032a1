package verify

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/opencontainers/go-digest"
)

// TestBlobErrors: framing, an early end and other bytes are about the content;
// a disk that does not answer is not.
func TestBlobErrors(t *testing.T) {
	const text = "content"
	blob := archive.Blob{Digest: digest.FromString(text), Size: int64(len(text))}
	desc := bundle.Descriptor{Digest: blob.Digest, Size: blob.Size}
	disk := &fs.PathError{Op: "read", Path: "x", Err: syscall.EIO}
	framing := &archive.FormatError{Offset: 3, Err: archive.ErrFrame}
	for name, c := range map[string]struct {
		r       func() io.Reader
		content bool
		cause   error // nil: a *archive.DigestError
	}{
		"disk fails":           {func() io.Reader { return iotest.ErrReader(disk) }, false, disk},
		"disk fails in middle": {func() io.Reader { return io.MultiReader(strings.NewReader("con"), iotest.ErrReader(disk)) }, false, disk},
		"disk fails at end":    {func() io.Reader { return io.MultiReader(strings.NewReader(text), iotest.ErrReader(disk)) }, false, disk},
		"framing":              {func() io.Reader { return io.MultiReader(strings.NewReader("con"), iotest.ErrReader(framing)) }, true, framing},
		"framing after":        {func() io.Reader { return io.MultiReader(strings.NewReader(text), iotest.ErrReader(framing)) }, true, framing},
		"other bytes":          {func() io.Reader { return strings.NewReader("CONTENT") }, true, nil},
		"short":                {func() io.Reader { return strings.NewReader("con") }, true, nil},
		"long":                 {func() io.Reader { return strings.NewReader(text + "x") }, true, nil},
	} {
		closed := func() error { return nil }
		_, fetched := io.ReadAll(&verifiedReader{rc: io.NopCloser(c.r()), desc: desc, h: sha256.New(), owner: &Bundle{}, closer: closed})
		for how, err := range map[string]error{"hash": hashBlob(t.Context(), c.r(), blob, nil), "fetch": fetched} {
			_, content := errors.AsType[*ContentError](err)
			_, unread := errors.AsType[*ReadError](err)
			_, differs := errors.AsType[*archive.DigestError](err)
			if content != c.content || unread == c.content || c.cause != nil && !errors.Is(err, c.cause) || c.cause == nil && !differs {
				t.Errorf("%s, %s: got %T %v", name, how, err, err)
			}
			if n := strings.Count(err.Error(), blob.Digest.Encoded()); n != 1 {
				t.Errorf("%s, %s: the digest is said %d times: %v", name, how, n, err)
			}
		}
	}
}
