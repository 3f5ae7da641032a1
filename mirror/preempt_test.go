package mirror

import (
	"net/http"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target/oci"
)

// Where the login goes with the first request, none is spent on challenges and
// tokens: a run costs what it costs without a login, also on a registry that
// offers tokens. A wrong password is still one.
func TestPreemptiveBasicCounts(t *testing.T) {
	for _, access := range []string{"http", "basic", "token"} {
		t.Run(access, func(t *testing.T) {
			reg := newOlareg(t, true)
			tokens := 0
			if access != "http" {
				lockWithBasic(t, reg, access, &tokens)
			}
			f := newFake(t)
			for _, name := range []string{"a", "b", "c"} {
				f.root("quay.io/team/"+name+":1", f.image(name, f.layer(uint64(name[0]), 2<<20)))
			}
			h := preemptiveHosts(t, reg, lockSecret)
			_, result, err := run(t.Context(), f, Options{To: reg.host + "/airlock", Hosts: h, Target: oci.Target{}})
			if err != nil || result.Pushed != 3 {
				t.Fatalf("%+v, %v", result, err)
			}
			// Each repository: two blobs of POST and PUT, HEAD, PUT, HEAD.
			if log := reg.requests(); len(log) != 3*(2*2+3) || tokens != 0 {
				t.Errorf("%d requests and %d tokens, want 21 and none: %v", len(log), tokens, log)
			}
		})
	}
	reg := newOlareg(t, true)
	tokens := 0
	lockWithBasic(t, reg, "token", &tokens)
	f := newFake(t)
	f.root("quay.io/team/a:1", f.image("a"))
	_, _, err := run(t.Context(), f, Options{To: reg.host + "/airlock", Hosts: preemptiveHosts(t, reg, "wrong"), Target: oci.Target{}})
	_ = as[*remote.AuthError](t, err)
	if strings.Contains(err.Error(), "wrong") {
		t.Errorf("error shows the password: %v", err)
	}
}

func preemptiveHosts(t *testing.T, reg *registry, secret string) *remote.Hosts {
	t.Helper()
	h, err := remote.New(remote.Options{
		PlainHTTP: []string{"127.0.0.1"}, Attempts: 1, PreemptiveBasic: []string{reg.host},
		Credentials: map[string]remote.Credential{reg.host: {Username: lockUser, Password: secret}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// lockWithBasic takes Basic authorization whatever the challenge offers, as
// Harbor does, and counts the tokens that are asked for.
func lockWithBasic(t *testing.T, reg *registry, kind string, tokens *int) {
	t.Helper()
	service := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reg.mu.Lock()
		*tokens++
		reg.mu.Unlock()
		w.WriteHeader(http.StatusUnauthorized)
	}))
	challenge := `Basic realm="test"`
	if kind == "token" {
		challenge = `Bearer realm="http://` + service.host + `/token",service="test"`
	}
	reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if user, secret, ok := r.BasicAuth(); ok && user == lockUser && secret == lockSecret {
			return false
		}
		w.Header().Set("Www-Authenticate", challenge)
		writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		return true
	})
}
