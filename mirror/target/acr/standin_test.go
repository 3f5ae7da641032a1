package acr

import (
	"testing"
	"time"

	"github.com/airlock-project/airlock/mirror/target/acr/acrtest"
)

const (
	tenant = acrtest.Tenant
	appID  = acrtest.AppID
)

// standIn is the stand-in with targets that talk to it.
type standIn struct{ *acrtest.StandIn }

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	return &standIn{acrtest.New(t)}
}

// target returns a target with a service principal, without identities of the
// machine that the test runs on.
func (s *standIn) target(t *testing.T, change ...func(*Options)) *Target {
	t.Helper()
	for _, name := range []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET", "IDENTITY_SERVER_THUMBPRINT", "AZURE_REGIONAL_AUTHORITY_NAME", "AZURE_AUTHORITY_HOST"} {
		t.Setenv(name, "")
	}
	o := Options{
		Host: "contoso.azurecr.us", HTTPClient: s.Client,
		Now:       func() time.Time { s.Mu.Lock(); defer s.Mu.Unlock(); return s.Now },
		LookupEnv: env("AZURE_TENANT_ID", tenant, "AZURE_CLIENT_ID", appID, "AZURE_CLIENT_SECRET", s.Secret),
	}
	for _, f := range change {
		f(&o)
	}
	tg, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return tg
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
