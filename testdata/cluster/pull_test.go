package cluster

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"

	"github.com/airlock-project/airlock/testdata/fixture"
)

func TestMatch(t *testing.T) {
	logins := map[string]login{}
	for _, key := range []string{"registry.test", "registry.test/team", "registry.test/team/app", "other.test:5000", "https://index.docker.io/v1/", "https://url.test/v2/"} {
		logins[key] = login{Username: key}
	}
	for image, want := range map[string]string{
		"registry.test/x:1":           "registry.test",
		"registry.test/team/x:1":      "registry.test/team",
		"registry.test/teams/x:1":     "registry.test",
		"registry.test/team/app:1":    "registry.test/team/app",
		"registry.test/team/app/sub":  "registry.test/team/app",
		"registry.test:5000/x":        "",
		"other.test:5000/x":           "other.test:5000",
		"nginx":                       "https://index.docker.io/v1/",
		"docker.io/library/nginx:1.2": "https://index.docker.io/v1/",
		"url.test/x":                  "https://url.test/v2/",
	} {
		ref, err := name.ParseReference(image)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := match(logins, ref); got.Username != want || ok != (want != "") {
			t.Errorf("%s: %q, %t, want %q", image, got.Username, ok, want)
		}
	}
}

func TestCredential(t *testing.T) {
	for _, l := range []login{{Username: "u", Password: "p:q"}, {Auth: []byte("u:p:q")}} {
		if c := l.credential(); c.Username != "u" || c.Password != "p:q" {
			t.Errorf("%+v: %+v", l, c)
		}
	}
}

// TestPull pulls from a registry that lacks something or lies.
func TestPull(t *testing.T) {
	reg := olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}})
	var lie atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !lie.Load() || !strings.Contains(r.URL.Path, "/blobs/") {
			reg.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		reg.ServeHTTP(rec, r)
		data := rec.Body.Bytes()
		data[len(data)-1] ^= 1
		_, _ = w.Write(data)
	}))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	if err := fixture.Push(t.Context(), host, "demo/web:1"); err != nil {
		t.Fatal(err)
	}
	p := puller{host}
	id, err := p.pull(t.Context(), "upstream.test/demo/web:1", nil)
	if err != nil || !strings.HasPrefix(id, "upstream.test/demo/web@sha256:") {
		t.Errorf("pull: %q, %v", id, err)
	}
	if again, err := p.pull(t.Context(), id, nil); err != nil || again != id {
		t.Errorf("pull by digest: %q, %v", again, err)
	}
	for image, want := range map[string]string{
		"upstream.test/demo/web:2":                                 "not found",
		"upstream.test/demo/web@sha256:" + strings.Repeat("0", 64): "not found",
		"Not A Name": "could not parse reference",
	} {
		if _, err := p.pull(t.Context(), image, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("pull %s: %v, want %q", image, err, want)
		}
	}
	lie.Store(true)
	if _, err := p.pull(t.Context(), id, nil); err == nil || !strings.Contains(err.Error(), "mismatch") {
		t.Errorf("pull of changed content: %v", err)
	}
	if _, err := (puller{}).pull(t.Context(), "upstream.test/demo/web:1", nil); err == nil || !strings.Contains(err.Error(), "no mirror") {
		t.Errorf("pull without a mirror: %v", err)
	}
}
