package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
)

// rowImages are the images that a release of the product has.
func rowImages(t *testing.T, names ...string) []bundle.Source {
	t.Helper()
	spool := fixture.Spool(t)
	var out []bundle.Source
	for i, name := range names {
		image, err := fixture.NewImage(spool, name, uint64(i+1), 3000, 5000)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, image)
	}
	return out
}

// rowRegistry starts a registry and returns its host.
func rowRegistry(t *testing.T, user, password string) string {
	t.Helper()
	var h http.Handler = olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}})
	if user != "" {
		h = fixture.BasicAuth(h, user, password)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func TestRowPushImages(t *testing.T) {
	open := rowRegistry(t, "", "")
	to := func(prefix string) *manifests.SiteRegistry {
		return &manifests.SiteRegistry{To: open + "/" + prefix, PlainHTTP: true}
	}
	if err := fixture.Push(t.Context(), open, "taken/spacelift-backend:v4.3.0"); err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("wrong-and-secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	closed := &manifests.SiteRegistry{To: rowRegistry(t, "u", "right") + "/airlock", PlainHTTP: true, Username: "u", Password: "file:" + password}
	gone := httptest.NewServer(nil)
	gone.Close()
	both := []string{"spacelift-backend:v4.3.0", "spacelift-launcher:v4.3.0"}
	for _, r := range []row{
		{name: "pushed", registry: to("good"), more: rowImages(t, both...), want: install.StatePass},
		{
			name: "tag taken", registry: to("taken"), more: rowImages(t, both...),
			want: install.StateFail, code: "REG-03", says: []string{"taken/spacelift-backend:v4.3.0", "sha256:", "nothing was changed"},
		},
		{
			name: "wrong platform", registry: to("arm"), more: rowImages(t, both...), inputs: map[string]any{"registry.platforms": []any{"linux/arm64"}},
			want: install.StateFail, code: "REG-05", says: []string{"linux/arm64", "linux/amd64", "arm/spacelift-backend"},
		},
		{
			name: "login", registry: closed, more: rowImages(t, both...),
			want: install.StateFail, code: "REG-01", says: []string{"registry.password"},
		},
		{
			name: "no registry there", registry: &manifests.SiteRegistry{To: strings.TrimPrefix(gone.URL, "http://") + "/x", PlainHTTP: true}, more: rowImages(t, both...),
			want: install.StateFail, code: "REG-07", says: []string{"registry.to"},
		},
		{
			name: "image not carried", registry: to("half"), more: rowImages(t, both[0]),
			want: install.StateFail, code: "MIR-01", says: []string{"spacelift-launcher:v4.3.0", "spacelift-backend:v4.3.0"},
		},
	} {
		r.item = "setup-registry-push-images"
		t.Run(r.name, func(t *testing.T) { runRow(t, r) })
	}
}
