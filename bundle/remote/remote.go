// Package remote makes every client that talks to a registry or to a host that
// serves content: which hosts may be spoken to in plain HTTP, which
// certificates are trusted, where a host is found, who we are there, and what
// is tried again. Sources, mirror and install probes all ask a [Hosts].
//
// Why not the network half of go-containerregistry: since v0.21.9 it refuses
// token realms, upload locations and redirects on private IP addresses, which
// enclaves use. The protocol is oras-go's; this package gives it a transport.
// That transport speaks HTTP/1.1 only, because one HTTP/2 connection caps an
// upload at its 1 MiB receive window per round trip.
package remote

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// Credential is what a host is shown: a user name and password, or a refresh
// (identity) token, or an access token.
type Credential = auth.Credential

// Options say how hosts are reached. The zero value speaks HTTPS, trusts the
// system's certificates and uses the credentials of docker and podman.
type Options struct {
	// PlainHTTP lists the hosts, "host" (any port) or "host:port", that are
	// spoken to without TLS. No other host ever is, loopback included.
	PlainHTTP []string
	// CAFiles are PEM files of certificates trusted beside the system's.
	CAFiles []string
	// Resolve maps "host" or "host:port" to the address, "ip" or "ip:port", to
	// connect to instead of asking DNS. The name checked in certificates stays.
	Resolve map[string]string
	// Credentials maps "host" or "host:port" to what to show there. They come
	// before all others.
	Credentials map[string]Credential
	// Target is the host, optionally with a port, that the environment's login
	// AIRLOCK_REGISTRY_USERNAME and AIRLOCK_REGISTRY_PASSWORD is for. It is shown
	// to no other.
	Target string
	// AuthFile is a file as docker and podman write it. It comes before the one
	// that REGISTRY_AUTH_FILE names, and both before docker's and podman's own.
	AuthFile string
	// Native returns the chain of the provider whose host that is, or nil for a
	// host of none. It must match whole host names: credentials go nowhere else.
	// A host of a provider is never spoken to anonymously unless listed below.
	Native func(host string) Native
	// Anonymous lists the hosts, "host" or "host:port", that are shown nothing.
	Anonymous []string
	// PreemptiveBasic lists the registries, "host" or "host:port", that take a
	// user name and password with the first request and need no token. Nothing
	// changes for other logins, other hosts and redirects.
	PreemptiveBasic []string
	// UserAgent is sent with every request; "airlock" if empty.
	UserAgent string
	// Waiting is called, from any goroutine and once for each host ("host" or
	// "host:port"), when a host has been silent for some seconds after a request
	// without a body. Nil means nobody wants to know.
	Waiting func(host string)
	// Attempts bounds how often one request is sent; 0 means 8.
	Attempts int
}

// Limits on what oras-go reads for us.
const (
	maxMetadata      = 4 << 20 // one page of referrers or tags, as distribution-spec bounds manifests
	maxReferrerPages = 100
	maxTagPages      = 1000
)

// Hosts makes clients. It is safe for concurrent use.
type Hosts struct {
	plain   map[string]bool
	caFiles map[string]string // by the certificate's bytes
	http    *http.Client
	keyring *keyring
	auth    *auth.Client // for credentials that belong to a whole host

	mu      sync.Mutex
	byPath  map[string]*auth.Client // by "host/path" that has credentials of its own
	preempt []string                // canonical
	eager   map[string]*auth.Client // by host of preempt, and path as byPath
}

// New checks the options and reads the CA and auth files they name.
func New(o Options) (*Hosts, error) {
	plain := map[string]bool{}
	for _, h := range o.PlainHTTP {
		if err := checkHost(h); err != nil {
			return nil, fmt.Errorf("plain HTTP host%s: %w", quoted(h), err)
		}
		plain[strings.ToLower(h)] = true
	}
	roots, caFiles, err := loadRoots(o.CAFiles)
	if err != nil {
		return nil, err
	}
	resolve, err := parseResolve(o.Resolve)
	if err != nil {
		return nil, err
	}
	ring, err := newKeyring(o)
	if err != nil {
		return nil, err
	}
	h := &Hosts{plain: plain, caFiles: caFiles, keyring: ring, byPath: map[string]*auth.Client{}, eager: map[string]*auth.Client{}}
	h.http = newHTTPClient(h, roots, resolve, o)
	h.auth = h.newAuth("")
	for _, host := range o.PreemptiveBasic {
		if err := h.Preempt(host); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// Repository returns a client for the repository that reference names. The
// client's Reference holds the digest, else the tag, else neither. It is made
// for one goroutine or many; each call makes a new one, and all share tokens.
func (h *Hosts) Repository(reference string) (*remote.Repository, error) {
	ref, err := ParseReference(reference)
	if err != nil {
		return nil, err
	}
	r := registry.Reference{Registry: ref.Host, Repository: ref.Repository, Reference: ref.Tag}
	if ref.Digest != "" {
		r.Reference = ref.Digest.String()
	}
	return &remote.Repository{
		Client:               h.AuthFor(ref),
		Reference:            r,
		PlainHTTP:            h.Scheme(ref.Host) == "http",
		MaxMetadataBytes:     maxMetadata,
		ReferrerListMaxPages: maxReferrerPages,
		TagListMaxPages:      maxTagPages,
	}, nil
}

// HTTPClient returns the client under all others: TLS, addresses and retry of
// the options, without credentials. It has no overall timeout, but gives up
// when nothing moves. Pass its errors through [Explain] before showing them:
// net/http puts whole URLs into them.
func (h *Hosts) HTTPClient() *http.Client { return h.http }

// Auth returns the client that answers challenges with a host's credentials.
func (h *Hosts) Auth() *auth.Client { return h.auth }

// Preempt adds a host, "host" or "host:port", to Options.PreemptiveBasic, for
// clients made after it: what product a registry is shows only when it is asked.
func (h *Hosts) Preempt(host string) error {
	if err := checkHost(host); err != nil {
		return fmt.Errorf("preemptive login to host%s: %w", quoted(host), err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if host = canonicalHost(host); !slices.Contains(h.preempt, host) {
		h.preempt = append(h.preempt, host)
	}
	return nil
}

// AuthFor is Auth for one repository: an auth file may hold credentials for a
// path on a host only, as podman does, and a host of Options.PreemptiveBasic is
// shown its login unasked.
func (h *Hosts) AuthFor(ref Reference) *auth.Client {
	path := h.keyring.path(ref.Host, ref.Repository)
	host := canonicalHost(ref.Host)
	h.mu.Lock()
	defer h.mu.Unlock()
	_, repository, _ := strings.Cut(path, "/")
	if slices.Contains(h.preempt, host) {
		key := cmp.Or(path, host)
		c, ok := h.eager[key]
		if !ok {
			c = h.newAuth(repository)
			eager := *c.Client
			eager.Transport = &preemptTransport{base: c.Client.Transport, ring: h.keyring, host: host, repository: repository}
			c.Client = &eager
			h.eager[key] = c
		}
		return c
	}
	if path == "" {
		return h.auth
	}
	c, ok := h.byPath[path]
	if !ok {
		c = h.newAuth(repository)
		h.byPath[path] = c
	}
	return c
}

// Scheme returns "http" for a host listed as plain HTTP and "https" for every
// other.
func (h *Hosts) Scheme(host string) string {
	if h.isPlain(host) {
		return "http"
	}
	return "https"
}

// CredentialSource says, for people, where the credentials last shown to a host
// came from: a file, a helper, a provider's chain, or "none (anonymous)". Before
// the first request it names the first place that will be asked. It asks none
// and never returns a secret.
func (h *Hosts) CredentialSource(host string) string { return h.keyring.source(host) }

// Login says what was shown to a host so far, and what it refused.
func (h *Hosts) Login(host string) Login { return h.keyring.login(host) }

// CAFile returns the file of Options.CAFiles that holds a certificate, or "" if
// none does.
func (h *Hosts) CAFile(c *x509.Certificate) string { return h.caFiles[string(c.Raw)] }

func (h *Hosts) isPlain(host string) bool {
	host = strings.ToLower(host)
	if h.plain[host] {
		return true
	}
	name, _, ok := cutPort(host)
	return ok && h.plain[name]
}

// newAuth makes a client with its own token cache, because oras-go keys tokens
// by host and a path may have a user of its own.
func (h *Hosts) newAuth(repository string) *auth.Client {
	client := *h.http
	client.Transport = &tokenTransport{h.http.Transport}
	return &auth.Client{
		Client:     &client,
		Cache:      auth.NewCache(),
		ClientID:   "airlock",
		Credential: h.keyring.credential(repository),
		// Empty, not nil: enclaves keep token services on any address. What the
		// list would protect (metadata services) is plain HTTP, which the
		// transport refuses for every host that is not listed.
		BlockedRealmPrefixes: []netip.Prefix{},
	}
}

// quoted repeats a host in an error, unless a password may be before its @.
func quoted(host string) string {
	if strings.Contains(host, "@") {
		return ""
	}
	return fmt.Sprintf(" %q", host)
}

// parseResolve checks the addresses to use instead of DNS.
func parseResolve(in map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for _, host := range slices.Sorted(maps.Keys(in)) {
		if err := checkHost(host); err != nil {
			return nil, fmt.Errorf("resolve%s: %w", quoted(host), err)
		}
		to := in[host]
		if _, err := netip.ParseAddr(to); err != nil {
			if _, err := netip.ParseAddrPort(to); err != nil {
				return nil, fmt.Errorf("resolve %q: %q is neither ip nor ip:port", host, to)
			}
		}
		out[strings.ToLower(host)] = to
	}
	return out, nil
}
