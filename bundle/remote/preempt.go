package remote

import (
	"net/http"
	"strings"
	"sync/atomic"
)

// preemptTransport shows a registry its user name and password with the first
// request, so that none is spent on the challenge and none on a token. It acts
// on requests below /v2/ that go to that very host and port, are no redirects
// and have no authorization yet. A host that refuses is not offered them again:
// oras-go then answers its challenge. It is safe for concurrent use.
type preemptTransport struct {
	base       http.RoundTripper
	ring       *keyring
	host       string // canonical
	repository string // as newAuth's
	off        atomic.Bool
}

func (t *preemptTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	// Response is what redirected here: where that leads is for others to say.
	if t.off.Load() || req.Response != nil || req.Header.Get("Authorization") != "" ||
		canonicalHost(req.URL.Host) != t.host || !strings.HasPrefix(req.URL.Path, "/v2/") {
		return t.base.RoundTrip(req)
	}
	c, err := t.ring.credential(t.repository)(req.Context(), req.URL.Host)
	if err != nil || basic(c) == "" {
		// Whether a login is needed at all only the registry's challenge says.
		return t.base.RoundTrip(req)
	}
	shown := req.Clone(req.Context())
	shown.Header.Set("Authorization", "Basic "+basic(c))
	resp, err := t.base.RoundTrip(shown)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		t.off.Store(true)
	}
	return resp, err
}
