// Package ecr is the mirror target for private registries of Amazon ECR, in
// every partition. It logs in with the AWS SDK, makes the repositories that a
// push needs (ECR makes none unless a template says so), and says beforehand
// what would spoil a run: immutable tags, rules that delete what was pushed,
// rights that are missing.
//
// Region, partition and account come from the registry's host, never from the
// environment: a run that asks another region's API fails in confusing ways.
// Secrets go to the registry's own host only, and the SDK speaks to the API of
// the host's region or to the endpoint the user names.
package ecr

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/mirror/target/sdk"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
)

// Options say which registry, how it is reached, and how repositories are made.
type Options struct {
	// Host is the registry, with or without port 443.
	Host string
	// HTTPClient sends every request to the API and to what issues credentials
	// over HTTPS. It is required. Instance and container metadata services,
	// which speak plain HTTP on link-local addresses, are asked directly.
	HTTPClient *http.Client
	// Now tells the time; nil means time.Now.
	Now func() time.Time
	// LookupEnv reads the environment; nil means os.LookupEnv. The SDK reads
	// what it needs beyond the variables named in this package by itself.
	LookupEnv func(string) (string, bool)

	// ManagedElsewhere says that something else, Terraform for one, owns the
	// repositories: a missing one is reported and never made.
	ManagedElsewhere bool
	// Immutable makes the tags of new repositories immutable, all but those that
	// MutableTags matches: patterns with "*", as "sha256-*" for cosign's tags.
	Immutable   bool
	MutableTags []string
	// ScanOnPush has new repositories scanned.
	ScanOnPush bool
	// KMSKey encrypts new repositories: a key's ARN, ID or alias. Empty means
	// the registry's default, AES256.
	KMSKey string
	// Tags are put on new repositories. ECR takes 50.
	Tags map[string]string
}

// Target is one private registry. It is safe for concurrent use.
type Target struct {
	opts     Options
	host     registryHost
	endpoint string       // of the API, as the user named it; empty: the region's
	metadata *http.Client // for metadata services; see doer

	mu    sync.Mutex // guards what follows
	api   *ecr.Client
	by    string // where the API's credentials come from
	login target.Credential
}

// New checks the options. It asks nobody anything.
func New(o Options) (*Target, error) {
	h, err := parseHost(bareHost(o.Host))
	if err != nil {
		return nil, fmt.Errorf("use Amazon ECR: %w", err)
	}
	if o.HTTPClient == nil {
		return nil, errors.New("use Amazon ECR: no HTTP client given")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("use Amazon ECR: %w", err)
	}
	t := &Target{opts: o, host: h, metadata: sdk.MetadataClient()}
	if t.endpoint, err = endpoint(o.LookupEnv); err != nil {
		return nil, fmt.Errorf("use Amazon ECR: %w", err)
	}
	return t, nil
}

// Kind returns "ecr".
func (*Target) Kind() string { return "ecr" }

// Limits of the service (Amazon ECR service quotas; containers-roadmap#2831).
const (
	repositoryMin = 2
	repositoryMax = 256
	layerMax      = 52_000 << 20
	// PutImage is allowed 10 times a second for a whole account and region.
	manifestRate = 8
)

// Limits returns what ECR takes. A blob goes in one piece, always: ECR answers
// 201 to further chunks and throws them away.
func (*Target) Limits() target.Limits {
	return target.Limits{
		RepositoryMin:      repositoryMin,
		RepositoryMax:      repositoryMax,
		CheckRepository:    checkRepository,
		BlobMax:            layerMax,
		ManifestsPerSecond: manifestRate,
		PreemptiveBasic:    true,
	}
}

// repositoryName is narrower than the distribution-spec's: one separator at a
// time (CreateRepository, repositoryName).
var repositoryName = regexp.MustCompile(`^(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*$`)

func checkRepository(name string) error {
	if len(name) < repositoryMin || len(name) > repositoryMax {
		return fmt.Errorf("repository %q has %d bytes, Amazon ECR takes %d to %d", name, len(name), repositoryMin, repositoryMax)
	}
	if !repositoryName.MatchString(name) {
		return fmt.Errorf("repository %q: Amazon ECR takes lower case letters and digits with one '.', '_' or '-' between them", name)
	}
	return nil
}

// Credential returns a login for the registry, good for 12 hours when fresh,
// and a new one once less than 30 minutes are left.
func (t *Target) Credential(ctx context.Context) (target.Credential, error) {
	c, err := t.current(ctx)
	if err != nil {
		return target.Credential{}, fmt.Errorf("log in to %s: %w", t.host.name, t.Explain(err))
	}
	return c, nil
}

func (t *Target) current(ctx context.Context) (target.Credential, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.login.Password != "" && t.opts.Now().Add(renewBefore).Before(t.login.Expires) {
		return t.login, nil
	}
	c, err := t.authorize(ctx)
	if err == nil {
		t.login = c
	}
	return c, err
}
