package mirror

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/v1/remote"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
)

// serveBundle serves f over real HTTP with the limits of NewServer.
func serveBundle(t *testing.T, f *fakeBundle) *registry {
	t.Helper()
	h, err := newHandler(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewUnstartedServer(nil)
	ts.Config = NewServer(h)
	ts.Start()
	t.Cleanup(ts.Close)
	return &registry{host: strings.TrimPrefix(ts.URL, "http://")}
}

func TestServePulledByOras(t *testing.T) {
	f := newFake(t)
	index, sbom, sbomSig, cosign := signed(f)
	reg := serveBundle(t, f)
	for _, path := range []string{"jetstack/x", "quay.io/jetstack/x"} {
		repo := reg.repository(t, path)
		checkPulled(t, repo, index, sbom, sbomSig, cosign)
		for _, ref := range []string{"v1", index.Digest.String()} {
			store := memory.New()
			got, err := oras.ExtendedCopy(t.Context(), repo, ref, store, "", oras.DefaultExtendedCopyOptions)
			if err != nil || got.Digest != index.Digest {
				t.Errorf("pull %s:%s = %s, %v", path, ref, got.Digest, err)
			}
			if ok, err := store.Exists(t.Context(), sbomSig); !ok || err != nil {
				t.Errorf("pull %s:%s lost the signature of the SBOM: %v", path, ref, err)
			}
		}
		var filtered []ocispec.Descriptor
		err := repo.Referrers(t.Context(), index, "no/such+type", func(list []ocispec.Descriptor) error {
			filtered = append(filtered, list...)
			return nil
		})
		if err != nil || len(filtered) != 0 {
			t.Errorf("filtered referrers: %v, %v", filtered, err)
		}
	}
}

func TestServePulledByGGCR(t *testing.T) {
	f := newFake(t)
	index, _, _, _ := signed(f)
	reg := serveBundle(t, f)
	for _, s := range []string{reg.host + "/jetstack/x:v1", reg.host + "/quay.io/jetstack/x@" + index.Digest.String()} {
		ref, err := name.ParseReference(s, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		idx, err := ggcr.Index(ref)
		if err != nil {
			t.Fatal(err)
		}
		m, err := idx.IndexManifest()
		if err != nil || len(m.Manifests) != 2 {
			t.Fatalf("%s: %+v, %v", s, m, err)
		}
		for _, d := range m.Manifests {
			img, err := idx.Image(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			layers, err := img.Layers()
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range layers {
				rc, err := l.Compressed()
				if err != nil {
					t.Fatal(err)
				}
				// ggcr verifies while it reads.
				if _, err := io.Copy(io.Discard, rc); err != nil {
					t.Errorf("%s: %v", s, err)
				}
				rc.Close()
			}
		}
	}
}

// A damaged blob never arrives whole, over HTTP/1.1 and HTTP/2.
func TestServeCutsDamagedBlob(t *testing.T) {
	f := newFake(t)
	bad := f.layer(1, 1<<20)
	f.root("quay.io/a/x:1", f.image("x", bad))
	f.setCorrupt(bad.Digest)
	h, err := newHandler(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	for _, h2 := range []bool{false, true} {
		ts := httptest.NewUnstartedServer(nil)
		ts.Config = NewServer(h)
		ts.EnableHTTP2 = h2
		ts.StartTLS()
		resp, err := ts.Client().Get(ts.URL + "/v2/a/x/blobs/" + bad.Digest.String())
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{false: 1, true: 2}[h2]; resp.ProtoMajor != want {
			t.Fatalf("HTTP/%d, want %d", resp.ProtoMajor, want)
		}
		raw, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil || int64(len(raw)) >= bad.Size {
			t.Errorf("HTTP/%d: %d of %d bytes, error %v", resp.ProtoMajor, len(raw), bad.Size, err)
		}
		ts.Close()
	}
}

// get sends a request and returns status, header and body.
func (r *registry) get(t *testing.T, method, path string, header ...string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}

func TestServeProtocol(t *testing.T) {
	f := newFake(t)
	layer := f.layer(1, 5000)
	image := f.image("x", layer)
	f.root("quay.io/a/x:1", image)
	other := f.image("other", f.layer(2, 10))
	f.root("ghcr.io/b/y:1", other)
	f.root("tool:1", f.image("tool"))
	f.entry(bundle.KindChart, "charts/c:1", bundle.RoleRoot, f.image("chart"))
	reg := serveBundle(t, f)
	blob := "/v2/a/x/blobs/" + layer.Digest.String()

	tests := []struct {
		method, path string
		status       int
	}{
		{"GET", "/v2/", 200},
		{"HEAD", blob, 200},
		{"HEAD", "/v2/a/x/manifests/1", 200},
		{"GET", "/v2/a/x/manifests/" + image.Digest.String(), 200},
		{"GET", "/v2/a/x/manifests/1?ns=quay.io", 200},
		{"GET", "/v2/a/x/manifests/1?ns=not.carried", 200},
		{"GET", "/v2/library/tool/manifests/1?ns=docker.io", 200},
		{"GET", "/v2/docker.io/library/tool/manifests/1", 200},
		{"GET", "/v2/charts/c/manifests/1", 200},
		{"GET", "/v2/library/charts/c/manifests/1", 404},
		{"GET", "/v2/a/x/manifests/2", 404},
		{"GET", "/v2/a/x/manifests/" + other.Digest.String(), 404},
		{"GET", "/v2/b/y/blobs/" + layer.Digest.String(), 404},
		{"GET", "/v2/no/such/manifests/1", 404},
		{"GET", "/v2/no/such/referrers/" + image.Digest.String(), 404},
		{"GET", "/v2/../../etc/passwd", 404},
		{"GET", "/", 404},
		{"POST", "/v2/a/x/blobs/uploads/", 405},
		{"PUT", "/v2/a/x/manifests/1", 405},
		{"PATCH", "/v2/a/x/blobs/uploads/1", 405},
		{"DELETE", "/v2/a/x/manifests/1", 405},
	}
	for _, tt := range tests {
		status, header, body := reg.get(t, tt.method, tt.path)
		if status != tt.status {
			t.Errorf("%s %s = %d, want %d: %s", tt.method, tt.path, status, tt.status, body)
		}
		if status == 405 && (header.Get("Allow") != "GET, HEAD" || !json.Valid(body)) {
			t.Errorf("%s %s: %v %s", tt.method, tt.path, header, body)
		}
	}
	status, _, body := reg.get(t, "GET", blob, "Range", "bytes=10-20")
	if status != 200 || !bytes.Equal(body, f.blobs[layer.Digest]) {
		t.Errorf("a range: %d, %d bytes", status, len(body))
	}
	if _, header, _ := reg.get(t, "HEAD", blob); header.Get("Accept-Ranges") != "none" || header.Get("Content-Length") != "5000" {
		t.Errorf("HEAD: %v", header)
	}
	if _, _, body = reg.get(t, "GET", "/v2/a/x/referrers/"+image.Digest.String()); !bytes.Contains(body, []byte(`"manifests":[]`)) {
		t.Errorf("no referrers: %s", body)
	}
}

func TestServeLists(t *testing.T) {
	f := newFake(t)
	one, two := f.image("one"), f.image("two")
	f.root("quay.io/a/x:1", one)
	f.root("quay.io/a/x:2", two)
	f.root("ghcr.io/a/x:1", two)
	reg := serveBundle(t, f)
	list := func(path, field string) []string {
		_, _, body := reg.get(t, "GET", path)
		var v map[string]json.RawMessage
		var names []string
		if json.Unmarshal(body, &v) != nil || json.Unmarshal(v[field], &names) != nil {
			t.Fatalf("%s: %s", path, body)
		}
		return names
	}
	want := []string{"a/x", "ghcr.io/a/x", "quay.io/a/x"}
	if diff := cmp.Diff(want, list("/v2/_catalog", "repositories")); diff != "" {
		t.Errorf("catalog (-want +got):\n%s", diff)
	}
	if got := list("/v2/_catalog?n=5&last=a/x", "repositories"); !slices.Equal(got, want[1:]) {
		t.Errorf("catalog page: %v", got)
	}
	if got := list("/v2/quay.io/a/x/tags/list", "tags"); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("tags: %v", got)
	}
	// Two upstreams disagree on what a/x:1 is: only the host tells.
	for path, want := range map[string]string{
		"/v2/a/x/manifests/1":            "",
		"/v2/a/x/manifests/1?ns=quay.io": one.Digest.String(),
		"/v2/a/x/manifests/1?ns=ghcr.io": two.Digest.String(),
		"/v2/ghcr.io/a/x/manifests/1":    two.Digest.String(),
	} {
		_, header, body := reg.get(t, "GET", path)
		if got := header.Get("Docker-Content-Digest"); got != want {
			t.Errorf("%s = %q, want %q: %s", path, got, want, body)
		}
	}
}
