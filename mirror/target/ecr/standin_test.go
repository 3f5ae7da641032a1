package ecr

import (
	"testing"
	"time"

	"github.com/airlock-project/airlock/mirror/target/ecr/ecrtest"
)

const account = "123456789012"

type fault = ecrtest.Fault

// standIn is the stand-in with targets that talk to it.
type standIn struct{ *ecrtest.StandIn }

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	return &standIn{ecrtest.New(t)}
}

// target returns a target that talks to the stand-in, without credentials from
// the machine that the test runs on.
func (s *standIn) target(t *testing.T, change ...func(*Options)) *Target {
	t.Helper()
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for _, name := range []string{
		"AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL",
		"AWS_ENDPOINT_URL_ECR", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	} {
		t.Setenv(name, "")
	}
	none := t.TempDir() + "/none"
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	o := Options{
		Host:       account + ".dkr.ecr.us-gov-west-1.amazonaws.com",
		HTTPClient: s.Client,
		Now:        func() time.Time { s.Mu.Lock(); defer s.Mu.Unlock(); return s.Now },
		LookupEnv:  env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY", "secret-key-of-aws"),
	}
	for _, f := range change {
		f(&o)
	}
	target, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}
