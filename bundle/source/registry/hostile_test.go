package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const emptyConfig = `{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}`

// ociManifest returns an image manifest with these members beside the usual.
func ociManifest(members string) []byte {
	return []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":` + emptyConfig + `,` + members + `}`)
}

func ociIndex(children ...ocispec.Descriptor) []byte {
	b, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": children})
	if err != nil {
		panic(err)
	}
	return b
}

// Each case ends in a *FormatError or *DigestError that says why.
func TestHostileContent(t *testing.T) {
	const manifest, index = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex
	good := ociManifest(`"layers":[]`)
	layer := func(members string) []byte {
		return ociManifest(`"layers":[{"mediaType":"` + ocispec.MediaTypeImageLayerGzip + `","size":5,"digest":"sha256:` + strings.Repeat("b", 64) + `"` + members + `}]`)
	}
	for name, tc := range map[string]struct {
		build func(s *strange)
		want  string
	}{
		"digest header lies": {func(s *strange) {
			s.add("v1", manifest, good)
			m := s.manifests["v1"]
			m.digest = digest.FromString("other")
			s.manifests["v1"] = m
		}, "digest mismatch"},
		"child is other content": {func(s *strange) {
			d := s.add("", manifest, good)
			m := s.manifests[d.Digest.String()]
			m.body = []byte(strings.Replace(string(good), "[]", "{}", 1))
			s.manifests[d.Digest.String()] = m
			s.add("v1", index, ociIndex(d))
		}, "digest mismatch"},
		"child lies about its size": {func(s *strange) {
			d := s.add("", manifest, good)
			d.Size++
			s.add("v1", index, ociIndex(d))
		}, "its descriptor says"},
		"child lies about its type": {func(s *strange) {
			d := s.add("", manifest, good)
			d.MediaType = mediaTypeDockerManifest
			s.add("v1", index, ociIndex(d))
		}, "its descriptor says"},
		"larger than it says": {func(s *strange) {
			s.add("v1", manifest, append([]byte(nil), append(good, make([]byte, archive.MaxManifest)...)...))
		}, "manifest larger than"},
		"child of a gigabyte": {func(s *strange) {
			s.add("v1", index, ociIndex(ocispec.Descriptor{MediaType: manifest, Digest: digest.FromString("x"), Size: 1 << 30}))
		}, "at most 4194304 allowed"},
		"index bomb": {func(s *strange) {
			var bomb []ocispec.Descriptor
			for i := range maxManifests + 1 {
				bomb = append(bomb, ocispec.Descriptor{MediaType: manifest, Digest: digest.FromString(fmt.Sprint(i)), Size: 1})
			}
			s.add("v1", index, ociIndex(bomb...))
		}, "at most 4096"},
		"index of heavy manifests": {func(s *strange) {
			var bomb []ocispec.Descriptor
			for i := range 40 {
				bomb = append(bomb, ocispec.Descriptor{MediaType: manifest, Digest: digest.FromString(fmt.Sprint(i)), Size: archive.MaxManifest})
			}
			s.add("v1", index, ociIndex(bomb...))
		}, "at most 4096 of 134217728 bytes"},
		"schema 1": {func(s *strange) {
			s.add("v1", mediaTypeSchema1Signed, []byte(`{"schemaVersion":1,"fsLayers":[]}`))
			m := s.manifests["v1"]
			m.digest = digest.FromString("of the unsigned form")
			s.manifests["v1"] = m
		}, "schema 1"},
		"unknown type":             {func(s *strange) { s.add("v1", "text/html", []byte("<html>")) }, "neither manifest nor index"},
		"not JSON":                 {func(s *strange) { s.add("v1", manifest, []byte("{")) }, "parse manifest"},
		"index that is a manifest": {func(s *strange) { s.add("v1", manifest, ociManifest(`"manifests":[]`)) }, "has manifests"},
		"type within differs":      {func(s *strange) { s.add("v1", index, good) }, "says it is"},
		"sha512 layer": {func(s *strange) {
			s.add("v1", manifest, []byte(strings.Replace(string(layer("")), "sha256:"+strings.Repeat("b", 64), "sha512:"+strings.Repeat("b", 128), 1)))
		}, "sha256"},
		"negative layer": {func(s *strange) { s.add("v1", manifest, layer(`,"size":-1`)) }, "out of bounds"},
		"two sizes": {func(s *strange) {
			s.add("v1", manifest, ociManifest(`"layers":[`+emptyConfig+`,`+strings.Replace(emptyConfig, `"size":2`, `"size":3`, 1)+`]`))
		}, "with sizes 2 and 3"},
		"malformed media type":    {func(s *strange) { s.add("v1", manifest, layer(`,"mediaType":"x\u0000y"`)) }, "malformed media type"},
		"malformed artifact type": {func(s *strange) { s.add("v1", manifest, ociManifest(`"layers":[],"artifactType":"\u001b[31m"`)) }, "malformed artifactType"},
		"foreign layer":           {func(s *strange) { s.add("v1", manifest, layer(`,"urls":["https://a.b/c"]`)) }, "non-distributable"},
		"false referrer": {func(s *strange) {
			s.add("v1", manifest, good)
			s.add("sha256-"+digest.FromBytes(good).Encoded(), index, ociIndex(s.add("", manifest, ociManifest(`"layers":[],"annotations":{"a":"b"}`))))
		}, "which is not its subject"},
		"oversized referrer": {func(s *strange) {
			s.add("v1", manifest, good)
			s.add("sha256-"+digest.FromBytes(good).Encoded(), index, ociIndex(ocispec.Descriptor{MediaType: manifest, Digest: digest.FromString("x"), Size: 1 << 30}))
		}, "at most 4194304 allowed"},
		"referrers without end": {func(s *strange) {
			d := s.add("v1", manifest, good)
			for range archive.MaxDepth + 1 {
				next := s.add("", manifest, ociManifest(fmt.Sprintf(`"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}`, manifest, d.Digest, d.Size)))
				s.add("sha256-"+d.Digest.Encoded(), index, ociIndex(next))
				d = next
			}
		}, "nest deeper"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &strange{}
			tc.build(s)
			f := newFixture(t, s)
			_, err := f.resolve(f.host + "/app:v1")
			_, format := errors.AsType[*FormatError](err)
			_, wrong := errors.AsType[*DigestError](err)
			if !format && !wrong || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestForeignLayerThatIsThere(t *testing.T) {
	s := &strange{}
	blob := []byte("windows")
	s.add("v1", ocispec.MediaTypeImageManifest, ociManifest(fmt.Sprintf(
		`"layers":[{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","size":%d,"digest":%q,"urls":["https://a.b/c"]}]`, len(blob), digest.FromBytes(blob))))
	s.blobs[digest.FromBytes(blob)] = blob
	f := newFixture(t, s)
	pin, err := f.resolve(f.host + "/app:v1")
	if err != nil || len(pin.Blobs) != 2 || pin.Blobs[1].URLs != nil {
		t.Errorf("got %v, %v", pin.Blobs, err)
	}
}

// A deleted referrer that is still listed is not there; it breaks nothing.
func TestReferrerThatIsGone(t *testing.T) {
	s := &strange{}
	d := s.add("v1", ocispec.MediaTypeImageManifest, ociManifest(`"layers":[]`))
	s.add("sha256-"+d.Digest.Encoded(), ocispec.MediaTypeImageIndex,
		ociIndex(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("gone"), Size: 9}))
	f := newFixture(t, s)
	pin, err := f.resolve(f.host + "/app:v1")
	if err != nil || len(pin.Manifests) != 1 {
		t.Errorf("got %v, %v", outline(pin), err)
	}
}

// What a lookup of attachments answers decides: none, or an error, never less
// than there is.
func TestAttachmentLookups(t *testing.T) {
	for _, tc := range []struct {
		path   string
		status int
		fails  bool
	}{
		{"/referrers/", 404, false},
		{"/referrers/", 400, false},
		{"/referrers/", 405, false},
		{"/referrers/", 401, true},
		{"/referrers/", 403, true},
		{"/referrers/", 500, true},
		{".sig", 404, false},
		{".sig", 401, true},
		{".att", 403, true},
		{".sbom", 500, true},
	} {
		s := &strange{}
		s.add("v1", ocispec.MediaTypeImageManifest, ociManifest(`"layers":[]`))
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, tc.path) {
				w.WriteHeader(tc.status)
				return true
			}
			return false
		}
		f := newFixture(t, s)
		f.connect(remote.Options{PlainHTTP: []string{f.host}, Attempts: 1})
		if _, err := f.resolve(f.host + "/app:v1"); (err != nil) != tc.fails {
			t.Errorf("%d at %s: got %v", tc.status, tc.path, err)
		}
	}
}

// A tag whose HEAD says neither digest nor size is read instead.
func TestCosignTagWithoutDigestHeader(t *testing.T) {
	s := &strange{}
	d := s.add("v1", ocispec.MediaTypeImageManifest, ociManifest(`"layers":[]`))
	tag := "sha256-" + d.Digest.Encoded() + ".sig"
	sig := s.add(tag, ocispec.MediaTypeImageManifest, ociManifest(`"layers":[],"annotations":{"is":"a signature"}`))
	m := s.manifests[tag]
	m.digest = ""
	s.manifests[tag] = m
	f := newFixture(t, s)
	pin, err := f.resolve(f.host + "/app:v1")
	if err != nil || len(pin.Manifests) != 2 || pin.Manifests[1].Digest != sig.Digest {
		t.Errorf("got %v, %v", outline(pin), err)
	}
}

// The resolve goes through although the registry is busy, then broken, then
// hangs up in the middle of a manifest.
func TestTransientFailures(t *testing.T) {
	s := &strange{}
	s.add("v1", ocispec.MediaTypeImageManifest, ociManifest(`"layers":[]`))
	var n atomic.Int32
	var at [5]time.Time
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		i := n.Add(1)
		if int(i) <= len(at) {
			at[i-1] = time.Now()
		}
		switch i {
		case 1:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		case 2:
			w.WriteHeader(http.StatusInternalServerError)
		case 3:
			m := s.manifests["v1"]
			w.Header().Set("Content-Type", m.mediaType)
			w.Header().Set("Docker-Content-Digest", m.digest.String())
			w.Header().Set("Content-Length", fmt.Sprint(len(m.body)))
			w.Write(m.body[:10]) //nolint:errcheck // cut short on purpose
			panic(http.ErrAbortHandler)
		default:
			return false
		}
		return true
	}
	f := newFixture(t, s)
	if _, err := f.resolve(f.host + "/app:v1"); err != nil {
		t.Fatal(err)
	}
	if wait := at[1].Sub(at[0]); wait < time.Second {
		t.Errorf("came back after %s, was asked to wait a second", wait)
	}
}

// Blobs may lie elsewhere; who we are stays with the registry.
func TestBlobRedirect(t *testing.T) {
	blob := []byte("layer")
	d := bundle.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	var authorization atomic.Value
	status := http.StatusOK
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization.Store(r.Header.Get("Authorization"))
		w.WriteHeader(status)
		w.Write(blob) //nolint:errcheck // the client may have gone
	}))
	defer store.Close()
	s := &strange{before: func(w http.ResponseWriter, r *http.Request) bool {
		if u, p, _ := r.BasicAuth(); u != "me" || p != "s3cr3t" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		http.Redirect(w, r, store.URL+"/there?signature=s1gn", http.StatusTemporaryRedirect)
		return true
	}}
	f := newFixture(t, s)
	o := remote.Options{PlainHTTP: []string{"127.0.0.1"}, Attempts: 1, Credentials: map[string]remote.Credential{f.host: {Username: "me", Password: "s3cr3t"}}}
	f.connect(o)
	rc, err := f.source(f.host+"/app:v1").Open(t.Context(), bundle.Pin{}, d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if b, err := io.ReadAll(rc); err != nil || string(b) != "layer" || authorization.Load() != "" {
		t.Errorf("got %q, %v; the store saw authorization %q", b, err, authorization.Load())
	}

	status = http.StatusForbidden
	_, err = f.source(f.host+"/app:v1").Open(t.Context(), bundle.Pin{}, d)
	if e, ok := errors.AsType[*remote.AuthError](err); !ok || e.Host != store.Listener.Addr().String() || strings.Contains(err.Error(), "s1gn") {
		t.Errorf("the store refuses: got %v, want *remote.AuthError that names it", err)
	}
	status = http.StatusOK
	d.Size++
	if _, err = f.source(f.host+"/app:v1").Open(t.Context(), bundle.Pin{}, d); err == nil || strings.Contains(err.Error(), "s1gn") {
		t.Errorf("other size: got %v, want an error without the signature", err)
	}
}

// A token service on another port of a bare address, as GitLab has it.
func TestTokenRealmOnAddress(t *testing.T) {
	var scope atomic.Value
	realm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != "me" || p != "s3cr3t" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		scope.Store(r.URL.Query().Get("scope"))
		fmt.Fprint(w, `{"token":"t0ken"}`)
	}))
	defer realm.Close()
	s := &strange{}
	s.add("v1", ocispec.MediaTypeImageManifest, ociManifest(`"layers":[]`))
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer t0ken" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm.URL+`/token",service="x",scope="repository:app:pull"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	f := newFixture(t, s)
	login := map[string]remote.Credential{"localhost" + f.host[strings.LastIndex(f.host, ":"):]: {Username: "me", Password: "s3cr3t"}}
	host := "localhost" + f.host[strings.LastIndex(f.host, ":"):] // so that the realm's host is another
	f.connect(remote.Options{PlainHTTP: []string{"127.0.0.1", "localhost"}, Credentials: login})
	if _, err := f.resolve(host + "/app:v1"); err != nil || scope.Load() != "repository:app:pull" {
		t.Errorf("got %v, scope %v", err, scope.Load())
	}
	f.connect(remote.Options{PlainHTTP: []string{"localhost"}, Credentials: login})
	_, err := f.resolve(host + "/app:v1")
	if e, ok := errors.AsType[*remote.PlainHTTPError](err); !ok || e.Host != realm.Listener.Addr().String() {
		t.Errorf("realm not listed: got %v, want *remote.PlainHTTPError", err)
	}
}

func FuzzDerive(f *testing.F) {
	f.Add([]byte(`{"manifests":[{"digest":"sha256:a"},{"digest":"sha256:b","platform":{"os":"linux"}}]}`))
	f.Add([]byte(`{"manifests":[{"digest":"sha256:a"}, {"digest":"sha256:a","Digest":"sha256:b"}],"manifests":[]}`))
	f.Add([]byte(`{"manifests":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		source := bundle.Manifest{Raw: raw, Descriptor: bundle.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(raw)}}
		out, err := derive(source, func(d digest.Digest) bool { return d == "sha256:a" })
		if err != nil {
			return
		}
		var x struct {
			Manifests []struct {
				Digest string `json:"digest"`
			} `json:"manifests"`
			Annotations map[string]string `json:"annotations"`
		}
		if err := json.Unmarshal(out, &x); err != nil || x.Annotations[bundle.AnnotationDerivedFrom] != source.Digest.String() {
			t.Fatalf("derived %q: %v", out, err)
		}
		for _, m := range x.Manifests {
			if m.Digest != "sha256:a" {
				t.Errorf("derived %q holds %q", out, m.Digest)
			}
		}
	})
}
