package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// renewBefore is how long before its end a provider's credential is
	// replaced: longer than a request may wait in retries before it is sent.
	renewBefore = 5 * time.Minute
	// freshFor is how long a credential counts as fresh. A host that refuses a
	// fresh one means it, and a chain that cannot renew one is not asked again
	// so soon.
	freshFor = time.Minute
)

// Attempt is a credential that a host refused.
type Attempt struct {
	Source string `json:"source"`
	Status int    `json:"status"` // 401 or 403
}

// Login says what a host was shown. It holds no secret.
type Login struct {
	Source  string    `json:"source"`            // as CredentialSource
	Expires time.Time `json:"expires,omitzero"`  // zero: unknown
	Refused []Attempt `json:"refused,omitempty"` // what the host refused, in the order of trying
}

// grant is a credential that was handed out and may have to be replaced.
type grant struct {
	host    string
	place   place
	cred    Credential
	source  string
	expires time.Time
	issued  time.Time

	mu      sync.Mutex
	next    *grant // what replaced it
	retryAt time.Time
	spent   bool // another source was tried in its place
}

// nativeSource asks the chain of one host, once for all who want its answer.
type nativeSource struct {
	host string
	ask  Native

	mu   sync.Mutex
	last *grant
}

// nativeFor returns the chain for a host, or nil if no provider claims it.
func (k *keyring) nativeFor(host string) *nativeSource {
	if k.native == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	n, ok := k.natives[host]
	if !ok {
		if ask := k.native(host); ask != nil {
			n = &nativeSource{host: host, ask: ask}
		}
		k.natives[host] = n
	}
	return n
}

// grant returns what the chain answered last, asking it if that is over.
func (n *nativeSource) grant(ctx context.Context, k *keyring) (*grant, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if g := n.last; g != nil && (g.expires.IsZero() || k.now().Before(g.expires.Add(-renewBefore)) || k.now().Before(g.issued.Add(freshFor))) {
		return g, nil
	}
	return n.renew(ctx, k)
}

// renewFrom replaces old, unless somebody did already.
func (n *nativeSource) renewFrom(ctx context.Context, k *keyring, old *grant) (*grant, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last != nil && n.last != old {
		return n.last, nil
	}
	return n.renew(ctx, k)
}

func (n *nativeSource) renew(ctx context.Context, k *keyring) (*grant, error) {
	c, source, expires, err := n.ask(ctx)
	if err != nil {
		return nil, err
	}
	if c == (Credential{}) {
		return nil, errors.New("they are empty")
	}
	if source == "" {
		source = "the provider's own credentials"
	}
	g := k.record(&grant{host: n.host, place: place{native: n}, cred: c, source: source, expires: expires})
	n.last = g
	return g, nil
}

// current follows replacements, and replaces a provider's credential that is
// about to end. What cannot be replaced is used while the host takes it.
func (k *keyring) current(ctx context.Context, g *grant) *grant {
	for {
		g.mu.Lock()
		if g.next == nil && k.ending(g) {
			n, err := g.place.native.renewFrom(ctx, k, g)
			if err == nil && n != g {
				g.next = n
			} else {
				g.retryAt = k.now().Add(freshFor)
			}
		}
		next := g.next
		g.mu.Unlock()
		if next == nil {
			return g
		}
		g = next
	}
}

func (k *keyring) ending(g *grant) bool {
	now := k.now()
	return g.place.native != nil && !g.expires.IsZero() && !now.Before(g.expires.Add(-renewBefore)) &&
		!now.Before(g.issued.Add(freshFor)) && !now.Before(g.retryAt)
}

// refused notes a refusal and returns what to show instead, or nil if the
// refusal is final.
func (k *keyring) refused(ctx context.Context, g *grant, status int) *grant {
	k.note(g, status)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next != nil || g.place.final {
		return g.next
	}
	// The host's refusal is what the caller gets: the error of a chain or helper
	// that was asked in vain would speak of something that nobody chose.
	next, err := k.instead(ctx, g)
	if err != nil || next == nil || basic(next.cred) == basic(g.cred) {
		return nil
	}
	g.next = next
	k.use(next)
	return next
}

func (k *keyring) note(g *grant, status int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a := (Attempt{g.source, status}); !slices.Contains(k.tried[g.host], a) {
		k.tried[g.host] = append(k.tried[g.host], a)
	}
}

// instead asks for something better than a login that was refused: its own
// source, unless it answered just now, and for a stored login the provider.
func (k *keyring) instead(ctx context.Context, g *grant) (*grant, error) {
	now := k.now()
	again := !now.Before(g.issued.Add(freshFor)) && !now.Before(g.retryAt)
	if again {
		g.retryAt = now.Add(freshFor)
	}
	if n := g.place.native; n != nil {
		if !again {
			return nil, nil
		}
		return n.renewFrom(ctx, k, g)
	}
	if g.place.helper != "" && again {
		c, err := g.place.ask(ctx, g.host)
		if err == nil && c != (Credential{}) && basic(c) != basic(g.cred) {
			return k.record(&grant{host: g.host, place: g.place, cred: c, source: g.source}), nil
		}
	}
	n := k.nativeFor(g.host)
	if n == nil || g.spent {
		return nil, nil
	}
	g.spent = true // one try, whatever comes of it
	return n.grant(ctx, k)
}

// back returns to a stored login after the provider's was refused in its place.
func (k *keyring) back(g *grant) {
	if g.place.native != nil {
		return
	}
	g.mu.Lock()
	g.next = nil
	g.mu.Unlock()
	k.use(g)
}

// login says what a host was shown.
func (k *keyring) login(host string) Login {
	l := Login{Source: k.source(host)}
	k.mu.Lock()
	defer k.mu.Unlock()
	if g := k.used[canonicalHost(host)]; g != nil {
		l.Expires = g.expires
	}
	l.Refused = slices.Clone(k.tried[canonicalHost(host)])
	return l
}

// renewTransport keeps Basic authorization valid: it replaces what is about to
// end before it is sent, and what a host refused once after. It works below
// oras-go's client, which keeps a Basic login for as long as it lives.
type renewTransport struct {
	base http.RoundTripper
	ring *keyring
}

func (t *renewTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	key, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Basic ")
	if !ok {
		return t.base.RoundTrip(req)
	}
	g := t.ring.issuedFor(key, req.URL.Host)
	if g == nil {
		return t.base.RoundTrip(req)
	}
	g = t.ring.current(req.Context(), g)
	t.ring.use(g)
	resp, err := t.send(req, g)
	if err != nil || !refusal(resp) {
		return resp, err
	}
	next := t.ring.refused(req.Context(), g, resp.StatusCode)
	again, ok := rewind(req)
	if next == nil || basic(next.cred) == "" || !ok {
		return resp, nil
	}
	drain(resp.Body)
	resp, err = t.send(again, next)
	if err == nil && refusal(resp) {
		t.ring.note(next, resp.StatusCode)
		t.ring.back(g)
	}
	return resp, err
}

func refusal(resp *http.Response) bool {
	return resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden
}

// send shows a grant's login, and a provider's to that provider's hosts only.
func (t *renewTransport) send(req *http.Request, g *grant) (*http.Response, error) {
	host := canonicalHost(req.URL.Host)
	if g.place.native != nil && host != g.host && t.ring.nativeFor(host) == nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, &AuthError{Host: g.host, Err: fmt.Errorf("it asks to show the provider's credentials to %q, which is none of the provider's hosts: refused", req.URL.Host)}
	}
	if key := basic(g.cred); req.Header.Get("Authorization") != "Basic "+key {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Basic "+key)
	}
	return t.base.RoundTrip(req)
}
