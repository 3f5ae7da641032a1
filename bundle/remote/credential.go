package remote

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// The environment's login for Options.Target.
const (
	envUsername = "AIRLOCK_REGISTRY_USERNAME"
	envPassword = "AIRLOCK_REGISTRY_PASSWORD"
)

// Native asks the chain of credentials that a registry's provider has: instance
// roles, workload identity, a metadata server. source says which of them
// answered, for people. A zero expires means that it is not known. It must be
// safe for concurrent use.
type Native func(ctx context.Context) (c Credential, source string, expires time.Time, err error)

// keyring finds credentials. The first place that has some wins:
//
//  1. those given in the options,
//  2. the environment's, for the target only,
//  3. Options.AuthFile, then the file REGISTRY_AUTH_FILE names,
//  4. a helper that docker's config names for that very host,
//  5. the provider's own chain,
//  6. docker's and podman's stored logins, the longest path first,
//  7. none: anonymous, except where a provider's chain was asked in vain.
//
// The provider comes before stored logins because those of ECR end after
// twelve hours and those of Artifact Registry after one, and nobody clears them.
type keyring struct {
	given     map[string]Credential
	anonymous map[string]bool
	env       map[string]Credential // by host: Options.Target
	asked     []*authFile           // place 3
	files     []*authFile           // docker's, then podman's
	native    func(host string) Native
	now       func() time.Time

	mu      sync.Mutex
	natives map[string]*nativeSource
	grants  map[string][]*grant  // by the value of Basic authorization
	used    map[string]*grant    // by host: the last handed out
	tried   map[string][]Attempt // by host: what was refused
}

func newKeyring(o Options) (*keyring, error) {
	k := &keyring{
		given: map[string]Credential{}, anonymous: map[string]bool{}, env: map[string]Credential{}, native: o.Native, now: time.Now,
		natives: map[string]*nativeSource{}, grants: map[string][]*grant{}, used: map[string]*grant{}, tried: map[string][]Attempt{},
	}
	for host, c := range o.Credentials {
		if err := checkHost(host); err != nil {
			return nil, fmt.Errorf("credentials for host%s: %w", quoted(host), err)
		}
		k.given[canonicalHost(host)] = c
	}
	for _, host := range o.Anonymous {
		if err := checkHost(host); err != nil {
			return nil, fmt.Errorf("anonymous host%s: %w", quoted(host), err)
		}
		if _, ok := k.given[canonicalHost(host)]; ok {
			return nil, fmt.Errorf("anonymous host %q: credentials were given for it", host)
		}
		k.anonymous[canonicalHost(host)] = true
	}
	if err := k.readEnv(o.Target); err != nil {
		return nil, err
	}
	return k, k.readFiles(o.AuthFile)
}

// readEnv takes the environment's login, if there is a target to show it to.
func (k *keyring) readEnv(target string) error {
	if target == "" {
		return nil
	}
	if err := checkHost(target); err != nil {
		return fmt.Errorf("target host%s: %w", quoted(target), err)
	}
	user, password := os.Getenv(envUsername), os.Getenv(envPassword)
	if (user == "") != (password == "") {
		return fmt.Errorf("%s and %s: one is set and the other is not", envUsername, envPassword)
	}
	if user != "" {
		k.env[canonicalHost(target)] = Credential{Username: user, Password: password}
	}
	return nil
}

func (k *keyring) readFiles(authFile string) error {
	var named []string
	for _, name := range []string{authFile, os.Getenv("REGISTRY_AUTH_FILE")} {
		if name != "" && !slices.Contains(named, name) {
			named = append(named, name)
		}
	}
	for _, name := range named {
		f, err := readAuthFile(name)
		if err != nil {
			return fmt.Errorf("read auth file %q: %w", name, err)
		}
		k.asked = append(k.asked, f)
	}
	for _, name := range defaultAuthFiles() {
		f, err := readAuthFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read auth file %q: %w", name, err)
		}
		k.files = append(k.files, f)
	}
	return nil
}

// place is one possible answer: static credentials, a helper to run or a
// provider's chain.
type place struct {
	where  string
	cred   Credential
	helper string
	native *nativeSource
	// final says that nothing else is tried once it was refused: a person chose it.
	final bool
}

// ask returns what the place has, empty if nothing.
func (p place) ask(ctx context.Context, host string) (Credential, error) {
	if p.helper == "" {
		return p.cred, nil
	}
	c, err := askHelper(ctx, p.helper, serverAddress(host))
	if err != nil {
		return c, fmt.Errorf("ask credential helper %q about %s: %w", p.helper, host, err)
	}
	return c, nil
}

// places lists the possible answers in order.
func (k *keyring) places(host, repository string) []place {
	host = canonicalHost(host)
	if k.anonymous[host] {
		return nil
	}
	var out []place
	if c, ok := k.given[host]; ok {
		out = append(out, place{where: "given for this run", cred: c, final: true})
	}
	if c, ok := k.env[host]; ok {
		out = append(out, place{where: "environment " + envUsername, cred: c, final: true})
	}
	for _, f := range k.asked {
		out = append(out, f.helpers(host)...)
		out = append(out, f.store(host)...)
		out = append(out, f.static(host, repository)...)
	}
	for _, f := range k.files {
		out = append(out, f.helpers(host)...)
	}
	if n := k.nativeFor(host); n != nil {
		out = append(out, place{where: "the provider's own credentials", native: n})
	}
	for _, f := range k.files {
		out = append(out, f.store(host)...)
	}
	for _, f := range k.files {
		out = append(out, f.static(host, repository)...)
	}
	return out
}

// credential returns oras-go's question for one repository, or for a host as a
// whole if repository is empty.
func (k *keyring) credential(repository string) auth.CredentialFunc {
	return func(ctx context.Context, hostport string) (auth.Credential, error) {
		g, err := k.find(ctx, hostport, repository)
		if err != nil || g == nil {
			return auth.EmptyCredential, err
		}
		g = k.current(ctx, g)
		k.use(g)
		return g.cred, nil
	}
}

// find asks the places in order. No grant and no error means anonymous.
func (k *keyring) find(ctx context.Context, hostport, repository string) (*grant, error) {
	var nativeErr error
	for _, p := range k.places(hostport, repository) {
		if p.native != nil {
			g, err := p.native.grant(ctx, k)
			if err == nil {
				return g, nil
			}
			if ctx.Err() != nil {
				return nil, err
			}
			// A stored login may still do; if there is none, this is the answer.
			nativeErr = err
			continue
		}
		c, err := p.ask(ctx, hostport)
		if err != nil {
			return nil, err
		}
		if c != auth.EmptyCredential {
			return k.record(&grant{host: canonicalHost(hostport), place: p, cred: c, source: p.where}), nil
		}
	}
	if nativeErr != nil {
		return nil, &AuthError{Host: hostport, Err: fmt.Errorf("find credentials: no login is stored, and the provider's own credentials: %w", nativeErr)}
	}
	return nil, nil
}

// record remembers what was handed out, so that the transport can replace it.
// The same login handed out again is the same grant.
func (k *keyring) record(g *grant) *grant {
	g.issued = k.now()
	key := basic(g.cred)
	if key == "" {
		return g
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, old := range k.grants[key] {
		switch {
		case old.host != g.host || old.source != g.source:
		case g.place.native != nil: // the same again, but it may end later
			k.grants[key][i] = g
			return g
		default:
			return old
		}
	}
	k.grants[key] = append(k.grants[key], g)
	return g
}

func (k *keyring) use(g *grant) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.used[g.host] = g
}

// issuedFor returns the grant that a request to host with that authorization
// rests on, or nil. The host may be a token service's.
func (k *keyring) issuedFor(key, host string) *grant {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := k.grants[key]
	for _, g := range list {
		if g.host == canonicalHost(host) {
			return g
		}
	}
	if len(list) == 1 {
		return list[0]
	}
	return nil
}

func (k *keyring) source(host string) string {
	host = canonicalHost(host)
	k.mu.Lock()
	g := k.used[host]
	k.mu.Unlock()
	if g != nil {
		return g.source
	}
	if p := k.places(host, ""); len(p) > 0 {
		return p[0].where
	}
	return "none (anonymous)"
}

// path returns "host/path" of the static login that only part of a host has
// and that repository falls under, or "".
func (k *keyring) path(host, repository string) string {
	host = canonicalHost(host)
	longest := ""
	for _, f := range slices.Concat(k.asked, k.files) {
		for _, key := range prefixes(host, repository) {
			if _, ok := f.auths[key]; ok && key != host && len(key) > len(longest) {
				longest = key
			}
		}
	}
	return longest
}

// basic is a login as Basic authorization carries it (RFC 7617), or "" for what
// is shown in another way.
func basic(c Credential) string {
	if c.Username == "" || c.RefreshToken != "" || c.AccessToken != "" {
		return ""
	}
	return base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
}
