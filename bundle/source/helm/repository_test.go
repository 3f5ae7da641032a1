package helm_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/bundle/source/helm"
	"github.com/airlock-project/airlock/manifests"
)

// repository serves an index and charts under /stable, and says what was asked
// for.
func repository(t *testing.T, index string, charts map[string][]byte) (url string, asked *[]string) {
	t.Helper()
	asked = new([]string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.URL.Path)
		body, ok := charts[r.URL.Path]
		switch {
		case r.URL.Path == "/stable/index.yaml":
			body = []byte(index)
		case r.URL.Path == "/private/index.yaml":
			w.WriteHeader(http.StatusForbidden)
			return
		case !ok:
			http.NotFound(w, r)
			return
		}
		if _, err := w.Write(body); err != nil {
			t.Errorf("serve %s: %v", r.URL.Path, err)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

func indexOf(t *testing.T, versions ...string) (string, map[string][]byte) {
	t.Helper()
	var b strings.Builder
	charts := map[string][]byte{}
	b.WriteString("apiVersion: v1\nentries:\n  web:\n")
	for _, v := range versions {
		raw := packageChart(t, v)
		charts["/stable/files/web-"+v+".tgz"] = raw
		fmt.Fprintf(&b, "  - {name: web, version: %q, urls: [files/web-%s.tgz], digest: %x}\n", v, v, sha256.Sum256(raw))
	}
	return b.String(), charts
}

func TestHTTPRepository(t *testing.T) {
	index, charts := indexOf(t, "1.0.0", "1.2.0", "1.10.0", "2.0.0-rc.1")
	url, asked := repository(t, index, charts)
	host := strings.TrimPrefix(url, "http://")
	for _, tt := range []struct{ version, want string }{
		{"1.2.0", "1.2.0"}, {"^1.0.0", "1.10.0"}, {"", "1.10.0"}, {"~1.2", "1.2.0"}, {"v1.0.0", "1.0.0"}, {">1.10.0-0", "2.0.0-rc.1"},
	} {
		t.Run(tt.version, func(t *testing.T) {
			*asked = nil
			s := newSource(t, "", host, manifests.Chart{Name: "front", Repository: url + "/stable/", Chart: "web", Version: tt.version})
			pin := resolve(t, s, nil)[0]
			if pin.Ref != "charts/web:"+tt.want {
				t.Errorf("resolved %s, want %s", pin.Ref, tt.want)
			}
			if want := url + "/stable/files/web-" + tt.want + ".tgz"; pin.Origin != want {
				t.Errorf("origin %q, want %q", pin.Origin, want)
			}
			if len(*asked) != 2 {
				t.Errorf("asked for %q, want index and chart", *asked)
			}
			for _, p := range *asked {
				if strings.HasSuffix(p, ".prov") {
					t.Errorf("asked for %q", p)
				}
			}
		})
	}
}

// TestHTTPLocked locks while 1.0.0 is the newest and resolves after 1.1.0 came
// out.
func TestHTTPLocked(t *testing.T) {
	index, charts := indexOf(t, "1.0.0")
	url, _ := repository(t, index, charts)
	c := manifests.Chart{Name: "front", Repository: url + "/stable", Chart: "web"}
	locked := resolve(t, newSource(t, "", strings.TrimPrefix(url, "http://"), c), nil)
	index, charts = indexOf(t, "1.0.0", "1.1.0")
	c.Repository, _ = repository(t, index, charts)
	host := strings.TrimPrefix(c.Repository, "http://")
	c.Repository += "/stable"
	if got := resolve(t, newSource(t, "", host, c), locked); got[0].Manifests[0].Digest != locked[0].Manifests[0].Digest {
		t.Errorf("locked %s became %s", locked[0].Ref, got[0].Ref)
	}
	if got := resolve(t, newSource(t, "", host, c), nil); got[0].Ref != "charts/web:1.1.0" {
		t.Errorf("without lock resolved %s", got[0].Ref)
	}
}

func TestHTTPRefuses(t *testing.T) {
	index, charts := indexOf(t, "1.0.0", "1.1.0", "1.2.0", "1.3.0")
	charts["/stable/files/web-1.1.0.tgz"] = charts["/stable/files/web-1.0.0.tgz"]
	delete(charts, "/stable/files/web-1.2.0.tgz")
	index = strings.Replace(index, "files/web-1.3.0.tgz", "file:///etc/passwd", 1)
	url, _ := repository(t, index, charts)
	broken, _ := repository(t, "entries: [", nil)
	for _, tt := range []struct {
		name, repository, chart, version, want string
	}{
		{"digest", url + "/stable", "web", "1.1.0", "digest mismatch: index.yaml says sha256:"},
		{"chart gone", url + "/stable", "web", "1.2.0", "/stable/files/web-1.2.0.tgz: not found"},
		{"file URL", url + "/stable", "web", "1.3.0", "only https, http and oci are known"},
		{"no version", url + "/stable", "web", "3.0.0", `no version of chart "web" fits "3.0.0": the newest are 1.3.0, 1.2.0`},
		{"no chart", url + "/stable", "wob", "", `no version of chart "wob" fits "newest release": there is none`},
		{"bad constraint", url + "/stable", "web", ">>1", `version ">>1" of chart "web"`},
		{"no index", url + "/other", "web", "", "/other/index.yaml: not found"},
		{"private", url + "/private", "web", "", "403 Forbidden"},
		{"broken index", broken + "/stable", "web", "", "parse http://"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host, _, _ := strings.Cut(strings.TrimPrefix(tt.repository, "http://"), "/")
			secret := strings.Replace(tt.repository, "http://", "http://user:hunter2@", 1) + "?token=hunter3"
			_, err := newSource(t, "", host, manifests.Chart{Name: "front", Repository: secret, Chart: tt.chart, Version: tt.version}).Resolve(t.Context(), nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Resolve: %v, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter") {
				t.Errorf("error shows a secret: %v", err)
			}
		})
	}
}

func TestHTTPErrorTypes(t *testing.T) {
	index, charts := indexOf(t, "1.0.0")
	url, _ := repository(t, index, charts)
	host := strings.TrimPrefix(url, "http://")
	resolveErr := func(path, version string) error {
		_, err := newSource(t, "", host, manifests.Chart{Name: "front", Repository: url + path, Chart: "web", Version: version}).Resolve(t.Context(), nil)
		return err
	}
	if _, ok := errors.AsType[*helm.VersionError](resolveErr("/stable", "9")); !ok {
		t.Error("want VersionError")
	}
	if _, ok := errors.AsType[*remote.NotFoundError](resolveErr("/gone", "")); !ok {
		t.Error("want NotFoundError")
	}
	if _, ok := errors.AsType[*remote.AuthError](resolveErr("/private", "")); !ok {
		t.Error("want AuthError")
	}
}

// TestIndexLeadsToRegistry follows an index whose charts moved to a registry.
func TestIndexLeadsToRegistry(t *testing.T) {
	host := newRegistry(t)
	want := helmPush(t, packageChart(t, "1.0.0"), host+"/acme/web:1.0.0")
	url, _ := repository(t, "entries: {web: [{version: 1.0.0, urls: ['oci://"+host+"/acme/web:1.0.0']}]}", nil)
	s := newSource(t, "", "127.0.0.1", manifests.Chart{Name: "front", Repository: url + "/stable", Chart: "web", Version: "1.0.0"})
	if got := resolve(t, s, nil)[0]; got.Manifests[0].Digest.String() != want || got.Ref != host+"/acme/web:1.0.0" {
		t.Errorf("resolved %s %s, want %s", got.Ref, got.Manifests[0].Digest, want)
	}
}
