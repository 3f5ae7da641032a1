package mirror

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target/oci"
	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	orasremote "oras.land/oras-go/v2/registry/remote"
)

// request is one line of a registry's log.
type request struct {
	method, path, query string
	body                int64
	status              int
	proto               string
}

func (r request) String() string {
	return fmt.Sprintf("%s %s?%s -> %d", r.method, r.path, r.query, r.status)
}

// writes reports whether a request changes anything.
func (r request) writes() bool { return r.method != http.MethodHead && r.method != http.MethodGet }

// registry is a real registry with a log and, where wanted, faults before it.
type registry struct {
	host    string
	handler http.Handler // the registry itself, without log and faults
	caFile  string       // over TLS
	noAPI   bool         // no referrers API, and an answer to it that oras-go does not know

	mu      sync.Mutex
	log     []request
	serving int                                               // requests whose handler has not ended
	ended   *sync.Cond                                        // one has
	fault   func(w http.ResponseWriter, r *http.Request) bool // true: answered
}

type countingBody struct {
	io.ReadCloser
	n int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(code int) {
	w.status = code
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func serve(t testing.TB, h http.Handler) *registry { return serveOver(t, h, false) }

// serveOver serves over TLS, where wanted, with an authority of its own and
// HTTP/2 on offer.
func serveOver(t testing.TB, h http.Handler, secure bool) *registry {
	t.Helper()
	reg := &registry{handler: h}
	reg.ended = sync.NewCond(&reg.mu)
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := &countingBody{ReadCloser: r.Body}
		// A copy: net/http looks at the body of its own request to tell whether a
		// client that expects 100-continue must be cut off.
		r = r.WithContext(r.Context())
		r.Body = body
		sw := &statusWriter{ResponseWriter: w, status: 200}
		path, query := r.URL.Path, r.URL.RawQuery
		reg.mu.Lock()
		reg.serving++
		reg.mu.Unlock()
		defer func() {
			reg.mu.Lock()
			defer reg.mu.Unlock()
			reg.serving--
			reg.ended.Broadcast()
			reg.log = append(reg.log, request{r.Method, path, query, body.n, sw.status, r.Proto})
		}()
		reg.mu.Lock()
		fault := reg.fault
		reg.mu.Unlock()
		if fault != nil && fault(sw, r) {
			return
		}
		h.ServeHTTP(sw, r)
	}))
	ts.Config.ErrorLog = log.New(io.Discard, "", 0) // connections that a test cuts
	t.Cleanup(ts.Close)
	if !secure {
		ts.Start()
		reg.host = strings.TrimPrefix(ts.URL, "http://")
		return reg
	}
	ts.EnableHTTP2 = true
	ts.StartTLS()
	reg.host, reg.caFile = strings.TrimPrefix(ts.URL, "https://"), authority(t, ts)
	return reg
}

// authority writes the certificate of a test server to a file.
func authority(t testing.TB, ts *httptest.Server) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: ts.Certificate().Raw}
	if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (r *registry) setFault(f func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
}

// requests returns the log and empties it. A client has its answer before the
// handler that wrote it has ended, so what is being served is waited for.
func (r *registry) requests() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.serving > 0 {
		r.ended.Wait()
	}
	log := r.log
	r.log = nil
	return log
}

func newOlareg(t testing.TB, referrers bool) *registry {
	t.Helper()
	reg := serve(t, olaregHandler(t, config.ConfigStorage{StoreType: config.StoreMem}, referrers))
	reg.noAPI = !referrers
	return reg
}

func olaregHandler(t testing.TB, storage config.ConfigStorage, referrers bool) http.Handler {
	t.Helper()
	s := olareg.New(config.Config{Storage: storage, API: config.ConfigAPI{Referrer: config.ConfigAPIReferrer{Enabled: &referrers}}})
	t.Cleanup(func() { _ = s.Close() }) // the storage goes with the test
	return s
}

// repository opens a repository for reading back.
func (r *registry) repository(t testing.TB, path string) *orasremote.Repository {
	t.Helper()
	repo, err := hosts(t, r).Repository(r.host + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	if r.noAPI {
		if err := repo.SetReferrersCapability(false); err != nil {
			t.Fatal(err)
		}
	}
	return repo
}

func newDistribution(t testing.TB) *registry { return serve(t, distributionHandler(t)) }

func distributionHandler(t testing.TB) http.Handler {
	t.Helper()
	c := &configuration.Configuration{Storage: configuration.Storage{
		"inmemory":    configuration.Parameters{},
		"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
	}}
	c.Log.Level = "panic"
	c.Log.AccessLog.Disabled = true
	c.Catalog.MaxEntries = 100
	return handlers.NewApp(context.WithoutCancel(t.Context()), c)
}

// registries are the real ones that every test of the whole path runs against.
func registries(t *testing.T, test func(t *testing.T, reg *registry)) {
	t.Run("olareg", func(t *testing.T) { test(t, newOlareg(t, true)) })
	t.Run("olareg without referrers", func(t *testing.T) { test(t, newOlareg(t, false)) })
	t.Run("distribution", func(t *testing.T) { test(t, newDistribution(t)) })
}

func hosts(t testing.TB, reg *registry) *remote.Hosts {
	t.Helper()
	h, err := remote.New(remote.Options{PlainHTTP: []string{reg.host}, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func options(t testing.TB, reg *registry) Options {
	return Options{To: reg.host + "/airlock", Hosts: hosts(t, reg), Target: oci.Target{}}
}

// runPaused is run with pauses recorded instead of waited for.
func runPaused(ctx context.Context, src source, o Options) (Result, []time.Duration, error) {
	plan, err := makePlan(ctx, src, o)
	if err != nil {
		return Result{}, nil, err
	}
	e, err := newEngine(src, o, plan)
	if err != nil {
		return Result{}, nil, err
	}
	var mu sync.Mutex
	var waits []time.Duration
	e.pause = func(_ context.Context, attempt int, err error) error {
		mu.Lock()
		defer mu.Unlock()
		waits = append(waits, backoff(attempt, err))
		return nil
	}
	err = e.run(ctx, nil)
	return e.result, waits, err
}
