// Package gar is the mirror target for Google Artifact Registry: which Google
// credential is shown, which repository has to be made first, what its clean-up
// rules and tag settings mean for what is sent, and what its answers mean.
//
// A registry host holds PROJECT/REPOSITORY/IMAGE. Only REPOSITORY has to exist;
// image paths below it need nothing. Everything beyond pushing goes through the
// Artifact Registry REST API, which an enclave may not route although it routes
// the registry: what cannot be read is said in a notice and does not stop a run.
//
// Why not the keychain of go-containerregistry: without credentials it goes on
// as nobody, which turns "no credentials" into a baffling 403.
package gar

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/airlock-project/airlock/mirror/target"
)

// Options say which registry, and how its cloud is reached. Host and HTTPClient
// are required.
type Options struct {
	Host string // as Match takes it
	// HTTPClient reaches the registry's cloud: API and token endpoints. Its cookie
	// jar is not used.
	HTTPClient *http.Client
	// MetadataClient reaches the metadata server, which speaks plain HTTP on a
	// link-local address. nil means a client without proxy and with short limits.
	MetadataClient *http.Client
	Now            func() time.Time            // nil means time.Now
	LookupEnv      func(string) (string, bool) // nil means os.LookupEnv

	// ManagedElsewhere says that repositories are made by other means, such as
	// Terraform: a missing one is then a fatal notice, not an action.
	ManagedElsewhere bool
	// ImmutableTags and KMSKey are settings of repositories that Prepare makes.
	ImmutableTags bool
	KMSKey        string // projects/P/locations/L/keyRings/R/cryptoKeys/K
}

// Target is one Artifact Registry host. It is safe for concurrent use.
type Target struct {
	opts    Options
	service service
	http    *http.Client
	pause   func(ctx context.Context, d time.Duration) error

	credMu sync.Mutex // held while a token is fetched, so that one is
	cred   target.Credential

	mu        sync.Mutex
	immutable map[string]bool // by path of a repository: seen to have immutable tags
}

// New checks the options. It sends nothing.
func New(o Options) (*Target, error) {
	s, ok := parseHost(o.Host)
	if !ok {
		return nil, fmt.Errorf("use %q as an Artifact Registry: write LOCATION-docker.pkg.dev", o.Host)
	}
	if o.HTTPClient == nil {
		return nil, errors.New("use Artifact Registry: no HTTP client")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	if o.MetadataClient == nil {
		o.MetadataClient = metadataClient()
	}
	c := *o.HTTPClient
	c.Jar = nil
	// The API does not redirect, and a token is for its host alone.
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Target{opts: o, service: s, http: &c, pause: pause, immutable: map[string]bool{}}, nil
}

// Kind returns "gar".
func (t *Target) Kind() string { return "gar" }

// Limits returns the path rule of the host. Manifests are those of the
// distribution-spec. 18,000 writes a minute and project need no pacing here.
func (t *Target) Limits() target.Limits {
	return target.Limits{
		CheckRepository: func(name string) error {
			_, _, err := t.service.split(name)
			return err
		},
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
