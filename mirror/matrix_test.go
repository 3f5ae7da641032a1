package mirror

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/mirror/target/oci"
	"github.com/olareg/olareg/config"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	orasremote "oras.land/oras-go/v2/registry/remote"
)

// matrixTarget is a registry that the whole suite runs against.
type matrixTarget struct {
	noAPI   bool // no referrers API
	workers int  // 0: as the product chooses
	handler func(t testing.TB) http.Handler
}

func TestMatrix(t *testing.T) {
	for name, m := range map[string]matrixTarget{
		"olareg in memory": {handler: func(t testing.TB) http.Handler {
			return olaregHandler(t, config.ConfigStorage{StoreType: config.StoreMem}, true)
		}},
		// Its directory store (v0.2.2) races with itself when two uploads begin.
		"olareg in a directory": {workers: 1, handler: func(t testing.TB) http.Handler {
			return olaregHandler(t, config.ConfigStorage{StoreType: config.StoreDir, RootDir: t.TempDir()}, true)
		}},
		"olareg without referrers": {noAPI: true, handler: func(t testing.TB) http.Handler {
			return olaregHandler(t, config.ConfigStorage{StoreType: config.StoreMem}, false)
		}},
		"distribution": {noAPI: true, handler: distributionHandler},
	} {
		t.Run(name, func(t *testing.T) { suite(t, m) })
	}
}

// suite is what every registry has to pass (registries.md 6.9): each way to log
// in with every kind of content, then each fault.
func suite(t *testing.T, m matrixTarget) {
	for _, access := range []string{"http", "https and basic", "https and token"} {
		t.Run(access, func(t *testing.T) {
			reg := serveOver(t, m.handler(t), strings.HasPrefix(access, "https"))
			reg.noAPI = m.noAPI
			o := accessOptions(t, reg, access)
			o.Workers = m.workers
			f := newFake(t)
			w := everyKind(f)
			reg.requests()
			result, _, err := runPaused(t.Context(), f, o)
			if err != nil || result.Failed != 0 || result.Pushed != len(w.tags) {
				t.Fatalf("%+v, %v", result, err)
			}
			checkRequests(t, f, reg.requests(), result)
			w.check(t, f, reg, o)
			reg.requests()
			if _, result, err = run(t.Context(), f, o); err != nil || result.Unchanged != len(w.tags) {
				t.Fatalf("second run: %+v, %v", result, err)
			}
			for _, r := range reg.requests() {
				if (r.writes() || strings.Contains(r.path, "/blobs/")) && r.status != http.StatusUnauthorized {
					t.Errorf("second run: %s", r)
				}
			}
		})
	}
	for name, fault := range matrixFaults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time goes into connections that close slowly
			suiteFault(t, m, fault)
		})
	}
}

// accessOptions locks the registry as access says, and has the key.
func accessOptions(t *testing.T, reg *registry, access string) Options {
	t.Helper()
	if access == "http" {
		return options(t, reg)
	}
	kind := strings.TrimPrefix(access, "https and ")
	return Options{To: reg.host + "/airlock", Hosts: protect(t, reg, kind).hosts(t), Target: oci.Target{}}
}

// wares are the tags that a bundle of every kind of content leads to.
type wares struct {
	tags                           map[string]digest.Digest // by repository:tag below the prefix
	index, sbom, sbomSig, cosigned ocispec.Descriptor
}

// everyKind fills a bundle with an image of two platforms with SBOM and
// signatures, an image with a zstd layer, an image in Docker's own format and
// an artifact.
func everyKind(f *fakeBundle) *wares {
	w := &wares{}
	w.index, w.sbom, w.sbomSig, w.cosigned = signed(f)
	zstd := f.layer(20, 400_000)
	zstd.MediaType = ocispec.MediaTypeImageLayerZstd
	small := f.image("zstd", zstd, f.layer(1, 3<<20))
	f.root("ghcr.io/team/zstd:v2", small)
	docker := f.manifest("application/vnd.docker.distribution.manifest.v2+json", ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: "application/vnd.docker.distribution.manifest.v2+json",
		Config:    f.blob("application/vnd.docker.container.image.v1+json", []byte(`{"os":"linux","architecture":"amd64"}`)),
		Layers:    []ocispec.Descriptor{f.blob("application/vnd.docker.image.rootfs.diff.tar.gzip", []byte("layer"))},
	})
	f.root("docker.io/old:1", docker)
	chart := f.manifest(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    f.blob("application/vnd.cncf.helm.config.v1+json", []byte(`{"name":"x","version":"1.0.0"}`)),
		Layers:    []ocispec.Descriptor{f.blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", []byte("chart"))},
	})
	f.entry(bundle.KindChart, "charts/x:1.0.0", bundle.RoleRoot, chart)
	w.tags = map[string]digest.Digest{
		"jetstack/x:v1": w.index.Digest, "team/zstd:v2": small.Digest, "library/old:1": docker.Digest, "charts/x:1.0.0": chart.Digest,
	}
	return w
}

// check reads everything back with another client.
func (w *wares) check(t *testing.T, f *fakeBundle, reg *registry, o Options) {
	t.Helper()
	for place, want := range w.tags {
		repository, tag, _ := strings.Cut(place, ":")
		repo, err := o.Hosts.Repository(o.To + "/" + repository)
		if err != nil {
			t.Fatal(err)
		}
		got, err := oras.Resolve(t.Context(), repo, tag, oras.DefaultResolveOptions)
		if err != nil || got.Digest != want {
			t.Errorf("%s = %s, %v; want %s", place, got.Digest, err, want)
			continue
		}
		readTree(t, f, repo, got)
	}
	repo, err := o.Hosts.Repository(o.To + "/jetstack/x")
	if err != nil {
		t.Fatal(err)
	}
	if reg.noAPI {
		if err := repo.SetReferrersCapability(false); err != nil {
			t.Fatal(err)
		}
	}
	checkPulled(t, repo, w.index, w.sbom, w.sbomSig, w.cosigned)
}

// readTree compares a manifest and all below it, byte by byte.
func readTree(t *testing.T, f *fakeBundle, repo *orasremote.Repository, d ocispec.Descriptor) {
	t.Helper()
	rc, err := repo.Fetch(t.Context(), d)
	if err != nil {
		t.Errorf("fetch %s: %v", d.Digest, err)
		return
	}
	defer rc.Close()
	raw, err := io.ReadAll(rc)
	if err != nil || !bytes.Equal(raw, f.blobs[d.Digest]) {
		t.Errorf("%s came back as %d bytes, want %d: %v", d.Digest, len(raw), len(f.blobs[d.Digest]), err)
	}
	if _, ok := f.manifests[d.Digest]; !ok {
		return
	}
	n, err := newGraph(f).node(d.Digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range append(n.children, n.blobs...) {
		readTree(t, f, repo, c)
	}
}

// checkRequests proves what an upload costs: two requests for a blob that is
// absent, one for one that is mounted, all over HTTP/1.1. A request that only
// learnt which login is wanted is not counted.
func checkRequests(t *testing.T, f *fakeBundle, log []request, result Result) {
	t.Helper()
	n, bodies := 0, int64(0)
	for _, r := range log {
		if r.proto != "HTTP/1.1" {
			t.Errorf("%s over %s", r, r.proto)
		}
		if strings.Contains(r.path, "/blobs/") && r.status != http.StatusUnauthorized {
			n++
			bodies += r.body
		}
	}
	if want := 2*result.Sent + result.Reused; n != want {
		t.Errorf("%d requests for %d blobs sent and %d reused, want %d", n, result.Sent, result.Reused, want)
	}
	var unique int64
	for d, raw := range f.blobs {
		if _, ok := f.manifests[d]; !ok {
			unique += int64(len(raw))
		}
	}
	if bodies != unique || result.Bytes != unique {
		t.Errorf("%d bytes went over the wire, %d by own count, unique are %d", bodies, result.Bytes, unique)
	}
}

// matrixFaults are what a bad network, a proxy or a tired registry do, each as
// a proxy that makes its fault for one run.
func matrixFaults() map[string]func() func(http.ResponseWriter, *http.Request) bool {
	put := func(r *http.Request) bool { return isUpload(r, http.MethodPut) && r.ContentLength > 100_000 }
	manifest := func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/")
	}
	first := func(match func(*http.Request) bool, h http.HandlerFunc) func() func(http.ResponseWriter, *http.Request) bool {
		return func() func(http.ResponseWriter, *http.Request) bool { return once(match, h) }
	}
	head := func(r *http.Request) bool { return r.Method == http.MethodHead }
	return map[string]func() func(http.ResponseWriter, *http.Request) bool{
		"cut after 0 bytes":         first(put, cut(0)),
		"cut after 150000 bytes":    first(put, cut(150_000)),
		"429 to a blob":             first(put, answerWith(429, "TOOMANYREQUESTS", "Retry-After", "1")),
		"429 to a manifest":         first(manifest, answerWith(429, "TOOMANYREQUESTS", "Retry-After", "1")),
		"429 to a question":         first(head, answerWith(429, "", "Retry-After", "1")),
		"500 to a blob":             first(put, answerWith(500, "UNKNOWN")),
		"500 to a manifest":         first(manifest, answerWith(500, "UNKNOWN")),
		"500 to a question":         first(head, answerWith(500, "")),
		"connection lost, manifest": first(manifest, cut(10)),
		"401 in the middle":         first(put, answerWith(401, "UNAUTHORIZED", "Www-Authenticate", `Basic realm="x"`)),
		"absolute location": func() func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				sw, ok := w.(*statusWriter)
				if ok {
					sw.ResponseWriter = &absolute{sw.ResponseWriter, "http://" + r.Host}
				}
				return !ok
			}
		},
		"blob lost again": first(manifest, answerWith(400, "MANIFEST_BLOB_UNKNOWN")),
		"413 to large bodies": func() func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				if put(r) {
					answerWith(http.StatusRequestEntityTooLarge, "")(w, r)
				}
				return put(r)
			}
		},
		"quota": func() func(http.ResponseWriter, *http.Request) bool {
			var n atomic.Int32
			return func(w http.ResponseWriter, r *http.Request) bool {
				if !put(r) || n.Add(1) > 1 {
					return false
				}
				answerWith(http.StatusForbidden, "DENIED")(w, r)
				return true
			}
		},
	}
}

// suiteFault runs into a fault: the run is complete or says what is missing,
// and the next one sends only that.
func suiteFault(t *testing.T, m matrixTarget, fault func() func(http.ResponseWriter, *http.Request) bool) {
	reg := serveOver(t, m.handler(t), false)
	reg.noAPI = m.noAPI
	o := options(t, reg)
	o.Workers = m.workers
	f := newFake(t)
	w := everyKind(f)
	reg.setFault(fault())
	result, _, err := runPaused(t.Context(), f, o)
	missing := 0
	stopped := fatal(err) // then what was not asked any more counts as missing
	if err != nil {
		if failed, ok := errors.AsType[*FailedError](err); ok {
			missing = len(failed.Missing)
		} else {
			missing = len(as[*PartialError](t, err).Missing)
		}
	}
	if missing != result.Failed || result.Pushed+result.Failed != len(w.tags) {
		t.Errorf("%d missing, %+v, %v", missing, result, err)
	}
	before := blobsSent(reg.requests())
	reg.setFault(nil)
	if _, again, err := run(t.Context(), f, o); err != nil || again.Pushed != missing && !(stopped && again.Pushed < missing) {
		t.Fatalf("second run: %+v, %v", again, err)
	}
	for d := range blobsSent(reg.requests()) {
		if before[d] > 0 {
			t.Errorf("blob %s was sent again", d)
		}
	}
	w.check(t, f, reg, o)
	reg.requests()
	if _, again, err := run(t.Context(), f, o); err != nil || again.Unchanged != len(w.tags) || len(blobsSent(reg.requests())) != 0 {
		t.Errorf("third run: %+v, %v", again, err)
	}
}
