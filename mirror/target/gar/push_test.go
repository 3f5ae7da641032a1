package gar

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// registryStandIn is a real registry behind Artifact Registry's login: a Bearer
// challenge to /v2/token on its own host, where the user name oauth2accesstoken
// and an access token get a token, and 404 NAME_UNKNOWN for a repository that
// the API does not know.
func registryStandIn(s *standIn) (addr, ca string) {
	s.t.Helper()
	reg := olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}})
	s.t.Cleanup(func() {
		if err := reg.Close(); err != nil {
			s.t.Error(err)
		}
	})
	s.Registry.Behind = reg
	return s.Addr(), s.CA
}

// TestPush goes from a key file to a blob in a repository that was made for it,
// with the product's clients.
func TestPush(t *testing.T) {
	s := newStandIn(t)
	addr, ca := registryStandIn(s)
	tg := s.target(s.keyEnv())
	cred, err := tg.Credential(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := remote.New(remote.Options{
		CAFiles: []string{ca}, Resolve: map[string]string{testHost: addr}, Attempts: 1,
		Credentials: map[string]remote.Credential{testHost: {Username: cred.Username, Password: cred.Password}},
	})
	if err != nil {
		t.Fatal(err)
	}
	repo, err := hosts.Repository(testHost + "/acme/releases/app")
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("layer")
	desc := ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(content), Size: int64(len(content))}
	err = tg.Explain(repo.Push(t.Context(), desc, bytes.NewReader(content)))
	if p, ok := errors.AsType[*target.Problem](err); !ok || p.Code != target.RepositoryMissing || !strings.Contains(p.Remedy, "projects/acme/locations/europe-west1/repositories/releases") {
		t.Fatalf("push into a repository that is not there = %v (%+v)", err, p)
	}
	st, err := tg.Inspect(t.Context(), target.Request{Repositories: []target.Need{need("acme/releases/app")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tg.Prepare(t.Context(), st.Actions); err != nil {
		t.Fatal(err)
	}
	if err := repo.Push(t.Context(), desc, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if ok, err := repo.Exists(t.Context(), desc); err != nil || !ok {
		t.Errorf("the blob is not there: %t, %v", ok, err)
	}
}
