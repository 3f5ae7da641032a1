// Package target holds what the mirror engine asks of the registry it fills.
// Each registry product has an adapter in a package below this one; package
// cmd picks and wires it. Adapters hold no push code: the engine in package
// mirror owns pushing, so that there is one code path to trust.
package target

import (
	"fmt"
	"time"
)

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
	// Chunks says that an upload may be cut into several PATCH requests. Some
	// registries accept all and keep the first.
	Chunks bool
	// ChunkSize is the size in bytes of the pieces of a blob that the registry
	// does not take whole (413). 0 leaves the choice to the caller; it has no
	// meaning without Chunks.
	ChunkSize int64
	// BlobMax is the largest blob in bytes. 0 means no known bound.
	BlobMax int64
	// ManifestsPerSecond bounds how often a manifest is written. 0 means no bound.
	ManifestsPerSecond float64
	// RepositoryMin is the fewest bytes a repository name may have.
	RepositoryMin int
	// SegmentsMin and SegmentsMax bound the segments of a repository name that
	// "/" separates. 0 means no bound.
	SegmentsMin, SegmentsMax int
	// PreemptiveBasic says that a user name and password may go with the first
	// request to the registry's own host: it saves a token for every repository.
	PreemptiveBasic bool
	// CheckRepository, where set, refuses a repository name that keeps to the
	// distribution-spec and that this registry does not take. Its error says
	// what is allowed.
	CheckRepository func(name string) error
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

	LoginRefused  Code = "login-refused"  // the credentials shown are wrong, disabled or expired
	NoCredentials Code = "no-credentials" // none was found, or none could be made from what was found
	ClockSkew     Code = "clock-skew"     // this machine's clock is too far off for what it signs
	NameInvalid   Code = "name-invalid"   // the registry takes no repository of that name
	NotPushable   Code = "not-pushable"   // a proxy, a view or another format: nothing can be pushed there
	WrongLocation Code = "wrong-location" // the region or location named does not exist or is another
	APIDisabled   Code = "api-disabled"   // the provider's service is switched off for the account
	QuotaExceeded Code = "quota-exceeded" // not enough room
	TagImmutable  Code = "tag-immutable"  // a tag that exists is never moved, not even to what it names
	CleanUp       Code = "clean-up"       // rules of the registry delete content later
	StateUnread   Code = "state-unread"   // a part of the state that this account may not read
	ServerFault   Code = "server-fault"   // the registry broke; its own log says why

	LoginExpired Code = "login-expired" // the credentials shown were good once
	Firewall     Code = "firewall"      // a network rule of the registry keeps this machine out
	Unreachable  Code = "unreachable"   // the provider's API cannot be reached from here
	Unsupported  Code = "unsupported"   // content of a shape that the registry does not take
	Locked       Code = "locked"        // a lock or a policy forbids writing here
)

// Error returns the cause and the answer; Remedy is for a hint.
func (p *Problem) Error() string { return fmt.Sprintf("%s: %v", p.Code, p.Err) }

// Unwrap returns the answer as it came.
func (p *Problem) Unwrap() error { return p.Err }

// Request says what a run will put where, for Inspect.
type Request struct {
	Repositories []Need // sorted by name
}

// Need is what one repository is to receive.
type Need struct {
	Name      string   // as pushed: prefix included, host not
	Tags      []string // to be set or already equal
	Manifests int      // manifests pushed, referrers and platforms included
	Bytes     int64    // of blobs and manifests, before deduplication
}

// State is what a registry has where content is to go. Reading it changes
// nothing.
type State struct {
	Repositories map[string]Presence // by name
	Actions      []Action            // what Prepare has to do before the first push
	Notices      []Notice            // what a person should know before anything is sent
	CrossMount   Mount               // whether a blob can be mounted from another repository
}

// Presence says whether a repository is there.
type Presence string

// Presences. Unknown is the zero value: the registry was not asked or did not say.
const (
	PresenceUnknown Presence = ""
	Present         Presence = "present"
	Missing         Presence = "missing"   // it has to be made first
	OnPush          Presence = "on-push"   // the registry makes it on push
	Forbidden       Presence = "forbidden" // this account may not see it
)

// Mount says whether blobs can be mounted between repositories.
type Mount string

// Mounts. The zero value lets the engine find out by trying.
const (
	MountTry     Mount = ""
	MountNever   Mount = "never"
	MountProject Mount = "project" // within the first path segment
	MountAlways  Mount = "always"
)

// Action is a change that Prepare makes: idempotent, never destructive.
type Action struct {
	Kind     string            `json:"kind"` // create-repository, create-project
	Name     string            `json:"name"`
	Settings map[string]string `json:"settings,omitempty"` // as the provider calls them; no secrets
}

// Notice is a finding about the target.
type Notice struct {
	Code       Code   `json:"code"`
	Fatal      bool   `json:"fatal,omitempty"` // pushing would fail
	Repository string `json:"repository,omitempty"`
	Text       string `json:"text"`
	Remedy     string `json:"remedy,omitempty"`
}

// Credential is what to show the registry, and where it came from. Only Source
// may be printed.
type Credential struct {
	Username, Password string
	Source             string    // "environment AWS_PROFILE", "metadata server", …
	Expires            time.Time // zero: unknown
}
