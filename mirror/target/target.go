// Package target holds what the mirror engine asks of the registry it fills.
// Each registry product has an adapter in a package below this one; package
// cmd picks and wires it. Adapters hold no push code: the engine in package
// mirror owns pushing, so that there is one code path to trust.
package target

import "fmt"

// Limits are what a registry accepts. The zero value is what the OCI
// distribution-spec and its common implementations accept.
type Limits struct {
	// RepositoryMax is the most bytes a repository name may have, the registry's
	// host not counted. 0 means that host, slash and name together stay within
	// 255 bytes (distribution-spec 1.1, "Pulling manifests").
	RepositoryMax int
	// ManifestMax is the largest manifest in bytes. 0 means 4 MiB
	// (distribution-spec 1.1, "Pushing Manifests").
	ManifestMax int64
	// Workers is the most blobs sent at once. 0 leaves the choice to the caller.
	Workers int
}

// Problem is what an adapter made of a registry's answer: the cause it stands
// for and what a person can do about it.
type Problem struct {
	Code   Code
	Remedy string // one sentence, imperative, no secrets
	Err    error  // the answer as it came
}

// Code names a cause. Codes are stable: hints and tests are keyed on them.
type Code string

// Causes that are told apart.
const (
	Denied            Code = "denied"             // known, but not allowed here; or over quota
	RepositoryMissing Code = "repository-missing" // the registry does not create it on push
	TooLarge          Code = "too-large"          // a limit of the registry or of a proxy before it
	ReadOnly          Code = "read-only"          // pushing is switched off
	Throttled         Code = "throttled"          // still too many requests after waiting
)

// Error returns the cause and the answer; Remedy is for a hint.
func (p *Problem) Error() string { return fmt.Sprintf("%s: %v", p.Code, p.Err) }

// Unwrap returns the answer as it came.
func (p *Problem) Unwrap() error { return p.Err }
