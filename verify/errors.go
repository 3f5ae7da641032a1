package verify

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
)

// NoPolicyError says that nobody told whom to trust.
type NoPolicyError struct{}

func (*NoPolicyError) Error() string { return "no policy: nothing says whose signature to trust" }

// UnsignedError says that a bundle carries no signature at all.
type UnsignedError struct{}

func (*UnsignedError) Error() string { return "bundle is not signed" }

// UntrustedError says that the signatures found do not satisfy the policy.
type UntrustedError struct {
	Role    string   // the requirement not met
	Need    int      // distinct signers of that role
	Have    []string // signers of that role found good
	Reasons []string // what became of each signature, one line each
}

func (e *UntrustedError) Error() string {
	var s strings.Builder
	s.WriteString(fmt.Sprintf("signatures do not satisfy the policy: role %q needs %d, has %d", e.Role, e.Need, len(e.Have)))
	for _, r := range e.Reasons {
		s.WriteString("\n  " + r)
	}
	return s.String()
}

// RefusedError says that a bundle is signed as the policy asks but may not be
// used here and now.
type RefusedError struct {
	Rule   string // product, release, expired, audience, tool
	Detail string
}

func (e *RefusedError) Error() string { return "bundle refused: " + e.Detail }

// ContentError says that a blob's bytes are not what the signed index promises.
type ContentError struct {
	Desc  bundle.Descriptor
	Items []string // what the blob belongs to, "image app:v1"; empty if unknown
	Err   error
}

func (e *ContentError) Error() string {
	if _, ok := errors.AsType[*archive.DigestError](e.Err); ok && len(e.Items) == 0 {
		return fmt.Sprintf("content differs: %v", e.Err) // which says the digest
	}
	return fmt.Sprintf("content of %s: %v", subject(e.Desc, e.Items), e.Err)
}

func (e *ContentError) Unwrap() error { return e.Err }

// ReadError says that a blob could not be read: a disk or a pipe failed, which
// tells nothing of what the blob holds.
type ReadError struct {
	Desc  bundle.Descriptor
	Items []string // as in ContentError
	Err   error
}

func (e *ReadError) Error() string {
	return fmt.Sprintf("read content of %s: %v", subject(e.Desc, e.Items), e.Err)
}

func (e *ReadError) Unwrap() error { return e.Err }

// subject is what a person knows a blob by.
func subject(desc bundle.Descriptor, items []string) string {
	if len(items) == 0 {
		return desc.Digest.String()
	}
	return strings.Join(items, ", ")
}

// blobError types what ended the reading of a blob: framing and an early end
// are about its content, everything else is about the way to it. A blob that is
// not there at all says so itself.
func blobError(desc bundle.Descriptor, err error) error {
	if _, ok := errors.AsType[*archive.MissingError](err); ok {
		return err
	}
	_, framing := errors.AsType[*archive.FormatError](err)
	_, differs := errors.AsType[*archive.DigestError](err)
	if framing || differs || errors.Is(err, io.ErrUnexpectedEOF) {
		return &ContentError{Desc: desc, Err: err}
	}
	return &ReadError{Desc: desc, Err: err}
}

// KeyError says that a file holds no key Airlock accepts.
type KeyError struct {
	Path   string
	Reason string
}

func (e *KeyError) Error() string { return fmt.Sprintf("public key %s: %s", e.Path, e.Reason) }

// UnsupportedError says that a document asks for what this version does not do;
// refusing is the only safe answer.
type UnsupportedError struct{ What string }

func (e *UnsupportedError) Error() string { return e.What + ": this version does not check that" }

// IndexError says that a signed index is not one this version can use.
type IndexError struct{ Err error }

func (e *IndexError) Error() string { return "signed index: " + e.Err.Error() }
func (e *IndexError) Unwrap() error { return e.Err }

func quoteAll(list []string) string {
	q := make([]string, len(list))
	for i, s := range list {
		q[i] = fmt.Sprintf("%q", s)
	}
	return strings.Join(q, ", ")
}
