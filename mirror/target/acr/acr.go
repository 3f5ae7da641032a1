// Package acr is the mirror target for Azure Container Registry, in all of
// Azure's clouds. It logs in with an identity of Entra ID, and says beforehand
// which repositories and tags are locked. There is nothing to create: the first
// push makes a repository.
//
// Why not azcontainerregistry: the exchange of tokens is one form, and our own
// client keeps trusted certificates and addresses as the user set them.
//
// Retention of untagged manifests, firewall rules and quota are settings of the
// management plane. A mirror has no rights there and does not ask; the engine
// tags what it pushes, so retention does not concern it.
package acr

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/mirror/target/sdk"
)

// Options say which registry, and how it is reached.
type Options struct {
	// Host is the registry, with or without port 443.
	Host string
	// Trusted says that the user named Host as an Azure Container Registry
	// although its name does not say so: a custom domain, Azure Stack. A token
	// of the user's identity goes there.
	Trusted bool
	// Login is a user name and password given for this host (admin user,
	// repository token). The zero value means an identity of Entra ID.
	Login target.Credential
	// HTTPClient sends every request but those to metadata services, which
	// speak plain HTTP on link-local addresses and are asked directly. It is
	// required.
	HTTPClient *http.Client
	// Now tells the time; nil means time.Now.
	Now func() time.Time
	// LookupEnv reads the environment; nil means os.LookupEnv. For a managed
	// identity the SDK reads its variables (IDENTITY_ENDPOINT, …) by itself.
	LookupEnv func(string) (string, bool)
}

// Target is one registry. It is safe for concurrent use.
type Target struct {
	opts      Options
	host      registryHost
	base      string // https://host
	authority string // of Entra ID
	client    *http.Client
	metadata  *http.Client // for metadata services; see doer

	mu        sync.Mutex // guards what follows
	login     target.Credential
	principal string // whom the login is for: a client ID; not a secret
}

// New checks the options. It asks nobody anything.
func New(o Options) (*Target, error) {
	h, err := parseHost(bareHost(o.Host), o.Trusted)
	if err != nil {
		return nil, fmt.Errorf("use Azure Container Registry: %w", err)
	}
	if o.HTTPClient == nil {
		return nil, errors.New("use Azure Container Registry: no HTTP client given")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	t := &Target{
		opts: o, host: h, base: "https://" + h.name, authority: h.authority(),
		client: sdk.WithoutRedirects(o.HTTPClient), metadata: sdk.MetadataClient(),
	}
	if v, _ := o.LookupEnv("AZURE_AUTHORITY_HOST"); v != "" {
		u, err := url.Parse(v)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return nil, errors.New("use Azure Container Registry: AZURE_AUTHORITY_HOST is not a URL like https://login.microsoftonline.us/")
		}
		t.authority = v
	}
	return t, nil
}

// Kind returns "acr".
func (*Target) Kind() string { return "acr" }

// Limits of the service (Azure Container Registry, "Service tiers and limits").
const (
	repositoryMax = 256
	manifestMax   = 4 << 20
	layerMax      = 200 << 30
	// chunkSize is the piece that the registry takes where it refuses a blob as
	// a whole (413; goharbor/harbor#23015).
	chunkSize = 16 << 20
)

// Limits returns what the registry takes. Every request with a body has to
// carry a Content-Length, each chunk too: 400 CONTENT_LENGTH_INVALID otherwise.
func (*Target) Limits() target.Limits {
	return target.Limits{
		RepositoryMax: repositoryMax,
		ManifestMax:   manifestMax,
		BlobMax:       layerMax,
		Chunks:        true,
		ChunkSize:     chunkSize,
	}
}

// Prepare has nothing to do and refuses actions: the first push makes a
// repository.
func (t *Target) Prepare(_ context.Context, actions []target.Action) error {
	if len(actions) > 0 {
		return fmt.Errorf("prepare %s: action %q on %q is none of Azure Container Registry", t.host.name, actions[0].Kind, actions[0].Name)
	}
	return nil
}

// Credential returns a login for the registry, and a new one once less than 10
// minutes are left. Without Options.Login it is made for the first identity
// that is set up: a service principal (AZURE_TENANT_ID, AZURE_CLIENT_ID and
// AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH), a workload identity
// (AZURE_FEDERATED_TOKEN_FILE), else the machine's managed identity. One that
// is set up and does not work is an error; no other is tried.
func (t *Target) Credential(ctx context.Context) (target.Credential, error) {
	if t.opts.Login.Password != "" {
		return t.opts.Login, nil
	}
	c, err := t.current(ctx)
	if err != nil {
		return target.Credential{}, fmt.Errorf("log in to %s: %w", t.host.name, t.own(err))
	}
	return c, nil
}

func (t *Target) current(ctx context.Context) (target.Credential, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.login.Password != "" && t.opts.Now().Add(renewBefore).Before(t.login.Expires) {
		return t.login, nil
	}
	id, err := t.identity()
	if err != nil {
		return target.Credential{}, err
	}
	access, err := id.token(ctx)
	if err != nil {
		return target.Credential{}, err
	}
	t.principal = readClaims(access).principal()
	refresh, err := t.exchange(ctx, access, id.tenant)
	if err != nil {
		return target.Credential{}, err
	}
	t.login = target.Credential{
		Username: refreshUser, Password: refresh,
		Source:  "Entra ID, " + id.source,
		Expires: readClaims(refresh).expires(),
	}
	return t.login, nil
}
