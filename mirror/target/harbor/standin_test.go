package harbor

import (
	"net/http"
	"net/http/cookiejar"
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/mirror/target/harbor/harbortest"
)

const (
	testHost  = "example.com"
	robotName = harbortest.Robot
	userName  = harbortest.User
	secret    = harbortest.Secret
)

type answer = harbortest.Answer

// standIn is the stand-in with targets that talk to it.
type standIn struct {
	*harbortest.StandIn
	t *testing.T
}

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	return &standIn{harbortest.New(t), t}
}

// client is the product's, with the cookie jar that must not be used.
func (s *standIn) client() *http.Client {
	s.t.Helper()
	hosts, err := remote.New(remote.Options{
		CAFiles: []string{s.CA}, Resolve: map[string]string{testHost: s.Addr()}, Attempts: 1,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	c := *hosts.HTTPClient()
	c.Jar = jar
	return &c
}

func (s *standIn) target(user, password string, change ...func(*Options)) *Target {
	s.t.Helper()
	o := Options{
		Host: testHost, HTTPClient: s.client(), LookupEnv: func(string) (string, bool) { return "", false },
		Credential: target.Credential{Username: user, Password: password, Source: "test"},
	}
	for _, f := range change {
		f(&o)
	}
	tg, err := New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	return tg
}
