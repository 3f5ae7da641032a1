package gar

import (
	"context"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target/gar/gartest"
)

const testHost = "europe-west1-docker.pkg.dev"

type answer = gartest.Answer

// standIn is the stand-in with targets that talk to it.
type standIn struct {
	*gartest.StandIn
	t *testing.T
}

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	return &standIn{gartest.New(t), t}
}

// target makes a Target whose client is the product's: real names, a CA file
// and addresses as --ca-file and --resolve give them.
func (s *standIn) target(env map[string]string, change ...func(*Options)) *Target {
	s.t.Helper()
	addr := s.Addr()
	resolve := map[string]string{}
	for _, h := range []string{"artifactregistry", "oauth2", "sts", "iamcredentials"} {
		resolve[h+".googleapis.com"] = addr
	}
	hosts, err := remote.New(remote.Options{CAFiles: []string{s.CA}, Resolve: resolve, Attempts: 1})
	if err != nil {
		s.t.Fatal(err)
	}
	o := Options{Host: testHost, HTTPClient: hosts.HTTPClient(), LookupEnv: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
	for _, f := range change {
		f(&o)
	}
	target, err := New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	target.pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return target
}

// keyEnv names a service account key file.
func (s *standIn) keyEnv() map[string]string {
	return map[string]string{adcVariable: s.KeyFile()}
}

func (s *standIn) fileEnv(v any) map[string]string {
	return map[string]string{adcVariable: s.File(v)}
}
