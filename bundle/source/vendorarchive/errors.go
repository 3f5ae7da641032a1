package vendorarchive

import "fmt"

// ChecksumError says that an archive is not the one its checksums file lists.
type ChecksumError struct {
	Name      string // base name of the archive
	Want, Got string // sha256, 64 hex digits
}

// Error implements error.
func (e *ChecksumError) Error() string {
	return fmt.Sprintf("checksum of %q differs: want sha256 %s, got %s", e.Name, e.Want, e.Got)
}

// SignerError says that a checksums file was signed by another key than the one
// expected. Got is a fingerprint, or a key ID if the signature holds no more.
type SignerError struct {
	Want, Got string
}

// Error implements error.
func (e *SignerError) Error() string {
	return fmt.Sprintf("checksums are signed by %s, not by %s", e.Got, e.Want)
}

// SignatureError says that a signature which names the expected key does not
// hold: the checksums changed, or the key was expired, revoked or too weak.
type SignatureError struct {
	Fingerprint string
	Err         error
}

// Error implements error.
func (e *SignatureError) Error() string {
	return fmt.Sprintf("check signature by %s: %v", e.Fingerprint, e.Err)
}

// Unwrap returns the cause.
func (e *SignatureError) Unwrap() error { return e.Err }

// KeyError says that a key file cannot be used.
type KeyError struct {
	Fingerprint string // the key wanted
	Reason      string
}

// Error implements error.
func (e *KeyError) Error() string {
	return fmt.Sprintf("key %s cannot be used: %s", e.Fingerprint, e.Reason)
}

// MissingMemberError says that an archive lacks a file that the definition
// names.
type MissingMemberError struct {
	Archive string
	Member  string // relative to the archive's top directory
}

// Error implements error.
func (e *MissingMemberError) Error() string {
	return fmt.Sprintf("file %q is missing in archive %q", e.Member, e.Archive)
}

// VersionError says that two parts of an archive, or an archive and the
// definition, name different versions.
type VersionError struct {
	Where, Version           string
	OtherWhere, OtherVersion string
}

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("versions differ: %s says %q, %s says %q", e.Where, e.Version, e.OtherWhere, e.OtherVersion)
}

// StatementError says that a statement does not describe what it is checked
// against.
type StatementError struct {
	Object    string // what differs
	Want, Got string // Want is the statement's
}

// Error implements error.
func (e *StatementError) Error() string {
	return fmt.Sprintf("%s differs from the vendor statement: want %s, got %s", e.Object, e.Want, e.Got)
}
