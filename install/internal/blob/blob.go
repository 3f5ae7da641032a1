// Package blob speaks to object storage as an application does: with its
// credentials, through S3 (Amazon's or a compatible server's), Google Cloud
// Storage or Azure Blob Storage. It is the only package that knows their
// libraries; probes and actions see a Service.
//
// What a service answers is bounded and becomes an *Error with a Reason that a
// person can act on. No error holds a key, a token or the query of a signed URL.
package blob

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Service is one object storage as an application sees it. Its parts are safe
// for concurrent use.
type Service struct {
	Type    string // as configured: minio, aws, gcp or azure
	Host    string // host[:port] that requests go to
	Objects Objects
	Rules   Rules
	Signer  Signer
	Tagger  Tagger // nil where objects carry no tags
	Maker   Maker  // nil where buckets are made by other means
	Clock   *Clock
	// Plain is a client without credentials and with the same trust, as a
	// browser or a worker has it.
	Plain *http.Client
	// Permission names what an operation needs, in the service's words.
	Permission func(op string) string
}

// Close drops idle connections.
func (s *Service) Close() { s.Plain.CloseIdleConnections() }

// Object is what is put and got.
type Object struct {
	Key  string
	Body io.Reader
	Size int64
	Meta map[string]string // names are compared without case
}

// Operations, as errors and findings name them.
const (
	OpLook      = "look at it"
	OpPut       = "put object"
	OpHead      = "head object"
	OpGet       = "get object"
	OpList      = "list objects"
	OpDelete    = "delete object"
	OpParts     = "upload in parts"
	OpTag       = "tag object"
	OpVersions  = "read versioning"
	OpLifecycle = "read lifecycle rules"
	OpSign      = "sign URL"
	OpCreate    = "create bucket"
	OpConfigure = "configure bucket"
)

// Objects reads and writes objects.
type Objects interface {
	// Put stores Size bytes of Body and returns the version made, "" without
	// versioning.
	Put(ctx context.Context, bucket string, o Object) (version string, err error)
	// Head returns an object's size and metadata, with names in lower case.
	Head(ctx context.Context, bucket, key string) (Object, error)
	// Get returns the content. The caller bounds what it reads, and closes.
	Get(ctx context.Context, bucket, key string) (io.ReadCloser, error)
	// Remove deletes an object with every version of it that can be seen;
	// version is one that is known, or "".
	Remove(ctx context.Context, bucket, key, version string) error
	// List returns up to limit keys that begin with prefix.
	List(ctx context.Context, bucket, prefix string, limit int) ([]string, error)
}

// Uploader is an Objects that uploads in parts.
type Uploader interface {
	// Parts starts an upload, sends one part and gives the upload up, also if
	// sending failed.
	Parts(ctx context.Context, bucket, key string, part []byte) error
}

// Tagger puts tags on objects.
type Tagger interface {
	Tag(ctx context.Context, bucket, key string, tags map[string]string) error
}

// Rules reads how a bucket is configured.
type Rules interface {
	// Look returns nil if the bucket is there, where it should be.
	Look(ctx context.Context, bucket string) error
	Versioning(ctx context.Context, bucket string) (bool, error)
	// Expiry lists the enabled rules that delete objects of the bucket.
	Expiry(ctx context.Context, bucket string) ([]Rule, error)
}

// Maker makes and configures buckets.
type Maker interface {
	// Create makes a bucket. One that is there already is an error.
	Create(ctx context.Context, bucket string) error
	EnableVersioning(ctx context.Context, bucket string) error
	// SetExpiry adds or replaces the rule with that ID and leaves every other
	// as it is: objects are deleted after so many days, and old versions so many
	// days after they were replaced.
	SetExpiry(ctx context.Context, bucket, id string, days int) error
}

// Rule is one rule that deletes objects.
type Rule struct {
	ID      string
	Days    int    // age at which it deletes; 0 for a date
	OldOnly bool   // it deletes replaced versions only
	Part    string // which objects, in words; "" is all of the bucket
}

// Signer makes URLs that carry their own permission.
type Signer interface {
	// Sign returns a URL for PUT or GET that is valid for so long.
	Sign(ctx context.Context, method, bucket, key string, valid time.Duration) (*Signed, error)
}

// Signed is a request that anyone who holds it may make once or more.
type Signed struct {
	Method    string
	URL       *url.URL // its query is a secret
	Header    http.Header
	Signature string // name of the query's parameter that holds the signature
}

// Origin is the scheme and host of the URL: what may be shown of it.
func (s *Signed) Origin() string { return s.URL.Scheme + "://" + s.URL.Host }

// Bare is the URL without the permission that its query is.
func (s *Signed) Bare() *url.URL {
	u := *s.URL
	u.RawQuery = ""
	return &u
}
