package blob

import (
	"encoding/pem"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/testdata/objectstore"
	"github.com/google/go-cmp/cmp"
)

func armConfig(t *testing.T, a *objectstore.ARM) Config {
	t.Helper()
	for name, v := range a.Env() {
		t.Setenv(name, v)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return Config{
		Type: TypeAzure, AccountURL: "https://account.blob.core.windows.net/", CA: path,
		Subscription: "sub", ResourceGroup: "group", ARMEndpoint: a.URL,
	}
}

// TestAzureManagementPolicy has what Spacelift's module for Azure makes: a rule
// that deletes states two days after they are made.
func TestAzureManagementPolicy(t *testing.T) {
	a := objectstore.NewARM(t)
	a.Policy, a.Versioning = objectstore.DeleteRule("states-2d", 2, "spacelift-states/"), true
	s, err := Open(t.Context(), armConfig(t, a))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for bucket, want := range map[string][]Rule{
		"spacelift-states":  {{ID: "states-2d", Days: 2}, {ID: "states-2d", Days: 2, OldOnly: true}},
		"spacelift-modules": nil,
	} {
		got, err := s.Rules.Expiry(t.Context(), bucket)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", bucket, d)
		}
	}
	if on, err := s.Rules.Versioning(t.Context(), "spacelift-states"); err != nil || !on {
		t.Errorf("versioning %v, %v", on, err)
	}
	a.Policy = nil
	if got, err := s.Rules.Expiry(t.Context(), "spacelift-states"); err != nil || got != nil {
		t.Errorf("without a policy: %v, %v", got, err)
	}
	a.Deny = true
	for _, err := range []error{second(s.Rules.Expiry(t.Context(), "b")), second(s.Rules.Versioning(t.Context(), "b"))} {
		if err == nil || !strings.Contains(err.Error(), "403 AuthorizationFailed") || strings.Contains(err.Error(), objectstore.ARMToken) {
			t.Error(err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestAzureUnasked(t *testing.T) {
	a := objectstore.NewARM(t)
	c := armConfig(t, a)
	t.Setenv("AZURE_CLIENT_SECRET", "wrong-secret")
	for name, spoil := range map[string]func(*Config){
		"no subscription": func(c *Config) { c.Subscription = "" },
		"no token":        func(*Config) {},
		"no server":       func(c *Config) { c.ARMEndpoint = "https://127.0.0.1:1" },
	} {
		conf := c
		spoil(&conf)
		s, err := Open(t.Context(), conf)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Rules.Expiry(t.Context(), "states"); err == nil || ReasonOf(err) != Other || !strings.Contains(err.Error(), "Azure Resource Manager") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
		s.Close()
	}
}

func TestARMCovers(t *testing.T) {
	for _, c := range []struct {
		prefixes []string
		covers   bool
		part     bool
	}{
		{nil, true, false},
		{[]string{"spacelift-states"}, true, false},
		{[]string{"spacelift-states/"}, true, false},
		{[]string{"spacelift-s"}, true, false},
		{[]string{"spacelift-uploads/", "spacelift-"}, true, false},
		{[]string{"spacelift-states/old/"}, true, true},
		{[]string{"spacelift-states-2/", "spacelift-uploads"}, false, false},
	} {
		part, covers := armCovers(c.prefixes, "spacelift-states")
		if covers != c.covers || (part != "") != c.part {
			t.Errorf("%v: %q, %v", c.prefixes, part, covers)
		}
	}
}

func TestAccountOf(t *testing.T) {
	for raw, want := range map[string]string{
		"https://account.blob.core.windows.net/": "account", "http://127.0.0.1:10000/devstoreaccount1": "devstoreaccount1", "https://[::1]:1/x/": "x",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := accountOf(u); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}
