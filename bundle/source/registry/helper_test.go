package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/manifests"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// hermetic hides the machine's own logins.
func hermetic(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for _, v := range []string{"HOME", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
		t.Setenv(v, dir)
	}
	t.Setenv("REGISTRY_AUTH_FILE", "")
}

// requests writes down what a server was asked.
type requests struct {
	mu   sync.Mutex
	list []string
}

func (q *requests) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q.mu.Lock()
		q.list = append(q.list, r.Method+" "+r.URL.Path)
		q.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// take returns what was asked since the last call.
func (q *requests) take() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.list
	q.list = nil
	return l
}

// fixture is a registry and what was put into it.
type fixture struct {
	*requests
	t     *testing.T
	host  string
	hosts *remote.Hosts
	spool *bundle.Spool
}

func newFixture(t *testing.T, h http.Handler) *fixture {
	t.Helper()
	hermetic(t)
	f := &fixture{requests: &requests{}, t: t}
	s := httptest.NewServer(f.wrap(h))
	t.Cleanup(s.Close)
	f.host = s.Listener.Addr().String()
	f.connect(remote.Options{PlainHTTP: []string{f.host}})
	return f
}

func (f *fixture) connect(o remote.Options) {
	f.t.Helper()
	var err error
	if f.hosts, err = remote.New(o); err != nil {
		f.t.Fatal(err)
	}
	if f.spool, err = bundle.OpenSpool(f.t.TempDir()); err != nil {
		f.t.Fatal(err)
	}
}

func newOlareg(t *testing.T, c config.Config) http.Handler {
	t.Helper()
	if c.Storage.StoreType == config.StoreUndef {
		c.Storage.StoreType = config.StoreMem
	}
	reg := olareg.New(c)
	t.Cleanup(func() {
		if err := reg.Close(); err != nil {
			t.Error(err)
		}
	})
	return reg
}

func (f *fixture) source(ref string, platforms ...string) *Source {
	return New(f.hosts, f.spool, manifests.Image{Ref: ref, Platforms: platforms}, nil)
}

func (f *fixture) resolve(ref string, platforms ...string) (bundle.Pin, error) {
	pins, err := f.source(ref, platforms...).Resolve(f.t.Context(), nil)
	if err != nil {
		return bundle.Pin{}, err
	}
	return pins[0], nil
}

// must is resolve that works, and a check that everything opens as pinned.
func (f *fixture) must(ref string, platforms ...string) bundle.Pin {
	f.t.Helper()
	pin, err := f.resolve(ref, platforms...)
	if err != nil {
		f.t.Fatal(err)
	}
	f.openAll(f.source(ref, platforms...), pin)
	return pin
}

func (f *fixture) openAll(s *Source, pin bundle.Pin) {
	f.t.Helper()
	all := slices.Clone(pin.Blobs)
	for _, m := range pin.Manifests {
		all = append(all, m.Descriptor)
	}
	for _, d := range all {
		rc, err := s.Open(f.t.Context(), pin, d)
		if err != nil {
			f.t.Fatal(err)
		}
		b, err := io.ReadAll(rc)
		rc.Close()
		if err != nil || digest.FromBytes(b) != d.Digest || int64(len(b)) != d.Size {
			f.t.Errorf("opened %s: %d bytes of %s, %v", d.Digest, len(b), digest.FromBytes(b), err)
		}
	}
}

// push puts a blob or manifest into a repository, tagged if tag is set.
func (f *fixture) push(repo, tag, mediaType string, b []byte) ocispec.Descriptor {
	f.t.Helper()
	r, err := f.hosts.Repository(f.host + "/" + repo)
	if err != nil {
		f.t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	if tag != "" {
		err = r.PushReference(f.t.Context(), d, bytes.NewReader(b), tag)
	} else {
		err = r.Push(f.t.Context(), d, bytes.NewReader(b))
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (f *fixture) pushJSON(repo, tag, mediaType string, v any) ocispec.Descriptor {
	f.t.Helper()
	return f.push(repo, tag, mediaType, encode(f.t, v))
}

// image pushes an image of one layer for "os/arch[/variant]".
func (f *fixture) image(repo, tag, platform string) ocispec.Descriptor {
	f.t.Helper()
	parts := append(strings.Split(platform, "/"), "")
	p := ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
	d := f.manifest(repo, tag, ocispec.MediaTypeImageConfig, ocispec.Image{Platform: p}, ocispec.Manifest{}, repo+tag+platform)
	d.Platform = &p
	return d
}

// manifest pushes m over a config and one layer of the given text.
func (f *fixture) manifest(repo, tag, configType string, config any, m ocispec.Manifest, layer string) ocispec.Descriptor {
	f.t.Helper()
	m.SchemaVersion = 2
	m.MediaType = ocispec.MediaTypeImageManifest
	m.Config = f.pushJSON(repo, "", configType, config)
	m.Layers = []ocispec.Descriptor{f.push(repo, "", ocispec.MediaTypeImageLayerGzip, []byte(layer))}
	d := f.pushJSON(repo, tag, m.MediaType, m)
	d.ArtifactType = m.ArtifactType
	return d
}

// attach pushes a referrer of subject.
func (f *fixture) attach(repo, artifactType string, subject ocispec.Descriptor) ocispec.Descriptor {
	f.t.Helper()
	subject.Platform = nil
	return f.manifest(repo, "", ocispec.MediaTypeEmptyJSON, struct{}{}, ocispec.Manifest{ArtifactType: artifactType, Subject: &subject}, artifactType+subject.Digest.String())
}

func (f *fixture) index(repo, tag string, children ...ocispec.Descriptor) ocispec.Descriptor {
	f.t.Helper()
	x := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: children}
	x.SchemaVersion = 2
	return f.pushJSON(repo, tag, x.MediaType, x)
}

// attestation pushes what buildx puts beside child in an index.
func (f *fixture) attestation(repo string, child ocispec.Descriptor) ocispec.Descriptor {
	f.t.Helper()
	d := f.manifest(repo, "", ocispec.MediaTypeImageConfig, struct{}{}, ocispec.Manifest{}, "attests "+child.Digest.String())
	d.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	d.Annotations = map[string]string{annotationReferenceType: attestationManifest, annotationReferenceDigest: child.Digest.String()}
	return d
}

// outline lists role, ref and short digest of a pin's manifests.
func outline(pin bundle.Pin) []string {
	var out []string
	for _, m := range pin.Manifests {
		line := m.Role + " " + m.Digest.Encoded()[:8]
		if m.Platform != nil {
			line += " " + platform{m.Platform.OS, m.Platform.Architecture, m.Platform.Variant}.String()
		}
		if m.Ref != "" {
			line += " " + m.Ref
		}
		out = append(out, line)
	}
	return out
}

func line(role string, d ocispec.Descriptor, rest ...string) string {
	return strings.Join(append([]string{role, d.Digest.Encoded()[:8]}, rest...), " ")
}

// strange is a registry in which anything can be said.
type strange struct {
	manifests map[string]said // by tag and digest
	blobs     map[digest.Digest][]byte
	before    func(w http.ResponseWriter, r *http.Request) bool // true: answered
}

type said struct {
	mediaType string
	digest    digest.Digest // of the header, "" for none
	body      []byte
	length    int // of the header, 0 for the real one
}

func (s *strange) add(tag, mediaType string, body []byte) ocispec.Descriptor {
	if s.manifests == nil {
		s.manifests, s.blobs = map[string]said{}, map[digest.Digest][]byte{}
	}
	d := digest.FromBytes(body)
	m := said{mediaType: mediaType, digest: d, body: body}
	s.manifests[d.String()] = m
	if tag != "" {
		s.manifests[tag] = m
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
}

func (s *strange) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.before != nil && s.before(w, r) {
		return
	}
	_, name, ok := strings.Cut(r.URL.Path, "/manifests/")
	if m, found := s.manifests[name]; ok && found {
		w.Header().Set("Content-Type", m.mediaType)
		if m.digest != "" {
			w.Header().Set("Docker-Content-Digest", m.digest.String())
		}
		length := m.length
		if length == 0 {
			length = len(m.body)
		}
		w.Header().Set("Content-Length", fmt.Sprint(length))
		if r.Method != http.MethodHead {
			w.Write(m.body) //nolint:errcheck // a length that lies makes it fail
		}
		return
	}
	_, name, ok = strings.Cut(r.URL.Path, "/blobs/")
	if b, found := s.blobs[digest.Digest(name)]; ok && found {
		w.Write(b) //nolint:errcheck // the client may have gone
		return
	}
	w.WriteHeader(http.StatusNotFound)
}
