package check

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/google/go-cmp/cmp"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/sirupsen/logrus"
)

// seen is a registry with a log of methods before it.
type seen struct {
	host string
	mu   sync.Mutex
	log  []string
}

func (s *seen) methods() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Sorted(slices.Values(s.log))
	return slices.Compact(list)
}

func serve(t *testing.T, h http.Handler) *seen {
	t.Helper()
	s := &seen{}
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.log = append(s.log, r.Method)
		s.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(ts.Close)
	s.host = ts.Listener.Addr().String()
	return s
}

func newOlareg(t *testing.T, referrers bool) http.Handler {
	t.Helper()
	s := olareg.New(config.Config{
		Storage: config.ConfigStorage{StoreType: config.StoreMem},
		API:     config.ConfigAPI{Referrer: config.ConfigAPIReferrer{Enabled: &referrers}},
	})
	t.Cleanup(func() { _ = s.Close() }) // memory only
	return s
}

func newDistribution(t *testing.T) http.Handler {
	t.Helper()
	t.Setenv("OTEL_TRACES_EXPORTER", "none")
	logrus.SetOutput(io.Discard) // distribution logs there and nowhere else
	c := &configuration.Configuration{Storage: configuration.Storage{
		"inmemory":    configuration.Parameters{},
		"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
	}}
	c.Log.Level = "panic"
	c.Log.AccessLog.Disabled = true
	c.Catalog.MaxEntries = 100
	return handlers.NewApp(context.WithoutCancel(t.Context()), c)
}

func hosts(t *testing.T, o remote.Options) *remote.Hosts {
	t.Helper()
	dir := t.TempDir()
	for _, v := range []string{"HOME", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
		t.Setenv(v, dir)
	}
	t.Setenv("REGISTRY_AUTH_FILE", "")
	o.Attempts = 1
	h, err := remote.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func run(t *testing.T, o Options) *Result {
	t.Helper()
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func row(r *Result, name string) Row {
	for _, row := range r.Rows {
		if row.Name == name {
			return row
		}
	}
	return Row{}
}

func TestCapabilities(t *testing.T) {
	for name, tc := range map[string]struct {
		handler http.Handler
		want    map[string]bool
	}{
		"olareg":                   {newOlareg(t, true), map[string]bool{"referrers": true, "single-post": true, "chunked-upload": true, "self-mount": true, "delete": false}},
		"olareg without referrers": {newOlareg(t, false), map[string]bool{"referrers": false, "single-post": true, "chunked-upload": true, "self-mount": true, "delete": false}},
		"distribution":             {newDistribution(t), map[string]bool{"referrers": false, "single-post": false, "chunked-upload": true, "self-mount": true, "delete": false}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, tc.handler)
			if err := fixture.Push(t.Context(), s.host, "team/app:v1"); err != nil {
				t.Fatal(err)
			}
			before := contents(t, s.host)
			h := hosts(t, remote.Options{PlainHTTP: []string{s.host}})
			r := run(t, Options{Registry: s.host + "/team", Repository: "app", Hosts: h, WriteProbe: true})
			if diff := cmp.Diff(tc.want, r.Capabilities); diff != "" {
				t.Errorf("capabilities (-want +got):\n%s", diff)
			}
			if !r.OK() || row(r, "tls").Status != Warn || row(r, "push").Status != OK || row(r, "manifest-size").Status != OK {
				t.Errorf("rows: %+v", r.Rows)
			}
			if diff := cmp.Diff(before, contents(t, s.host)); diff != "" {
				t.Errorf("the check changed what is there (-before +after):\n%s", diff)
			}
		})
	}
}

// contents lists what a registry has: repositories and their tags.
func contents(t *testing.T, host string) string {
	t.Helper()
	var text strings.Builder
	for _, path := range []string{"/v2/team/app/tags/list", "/v2/airlock-check/tags/list", "/v2/team/app/blobs/" + nothing.String(), "/v2/team/app/manifests/" + nothing.String()} {
		resp, err := http.Get("http://" + host + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(path + " " + resp.Status)
		if resp.StatusCode == http.StatusOK {
			text.WriteString(" " + strings.TrimSpace(string(b)))
		}
		text.WriteString("\n")
	}
	return text.String()
}

func TestReadOnlyByDefault(t *testing.T) {
	s := serve(t, newOlareg(t, true))
	h := hosts(t, remote.Options{PlainHTTP: []string{s.host}})
	r := run(t, Options{Registry: s.host, Hosts: h})
	if diff := cmp.Diff([]string{"GET"}, s.methods()); diff != "" {
		t.Errorf("methods (-want +got):\n%s", diff)
	}
	if !r.OK() || row(r, "push").Status != Unknown || r.Login.Source != "none (anonymous)" {
		t.Errorf("result: %+v", r)
	}
}

func TestClock(t *testing.T) {
	s := serve(t, newOlareg(t, true))
	h := hosts(t, remote.Options{PlainHTTP: []string{s.host}})
	for off, want := range map[time.Duration]Status{
		0: OK, 110 * time.Second: OK, -110 * time.Second: OK, 3 * time.Minute: Warn, -3 * time.Minute: Warn, 6 * time.Minute: Fail, -6 * time.Minute: Fail,
	} {
		r := run(t, Options{Registry: s.host, Hosts: h, Now: func() time.Time { return time.Now().Add(off) }})
		if got := row(r, "clock"); got.Status != want || r.OK() != (want != Fail) {
			t.Errorf("%s off: %+v, OK() = %v", off, got, r.OK())
		}
	}
}

func TestCredentials(t *testing.T) {
	s := serve(t, fixture.BasicAuth(newOlareg(t, true), "u", "right"))
	for password, want := range map[string]Status{"right": OK, "wrong": Fail} {
		h := hosts(t, remote.Options{PlainHTTP: []string{s.host}, Credentials: map[string]remote.Credential{s.host: {Username: "u", Password: password}}})
		r := run(t, Options{Registry: s.host, Hosts: h})
		got := row(r, "credentials")
		if got.Status != want || !strings.Contains(got.Text, "given for this run") || r.OK() != (want == OK) {
			t.Errorf("%s: %+v", password, got)
		}
		b, err := json.Marshal(r)
		if err != nil || strings.Contains(string(b), password+`"`) {
			t.Errorf("%v, or the result holds the password: %s", err, b)
		}
	}
	r := run(t, Options{Registry: s.host, Hosts: hosts(t, remote.Options{PlainHTTP: []string{s.host}})})
	if got := row(r, "credentials"); got.Status != Fail || r.OK() {
		t.Errorf("anonymous: %+v", got)
	}
}

func TestTroubles(t *testing.T) {
	limit := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength > 1<<20 {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	lossy := func(h http.Handler) http.Handler { // as ECR answers chunks (containers-roadmap#2831)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPatch {
				w.WriteHeader(http.StatusCreated)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	readOnly := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	for name, tc := range map[string]struct {
		handler http.Handler
		row     string
		status  Status
		text    string
	}{
		"no registry":        {http.NotFoundHandler(), "api", Fail, "no registry at /v2/"},
		"proxy with a limit": {limit(newOlareg(t, true)), "manifest-size", Warn, "4096 KiB"},
		"chunks are lost":    {lossy(newOlareg(t, true)), "chunked-upload", OK, "chunk 1 answered 201"},
		"push is refused":    {readOnly(newOlareg(t, true)), "push", Fail, "403"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, tc.handler)
			r := run(t, Options{Registry: s.host, Hosts: hosts(t, remote.Options{PlainHTTP: []string{s.host}}), WriteProbe: true})
			if got := row(r, tc.row); got.Status != tc.status || !strings.Contains(got.Text, tc.text) || r.OK() != (tc.status != Fail) {
				t.Errorf("got %+v of %+v", got, r.Rows)
			}
		})
	}
	r := run(t, Options{Registry: "127.0.0.1:1", Hosts: hosts(t, remote.Options{PlainHTTP: []string{"127.0.0.1"}})})
	if row(r, "reach").Status != Fail || r.OK() {
		t.Errorf("nobody listens: %+v", r.Rows)
	}
}

func TestProvider(t *testing.T) {
	s := serve(t, newOlareg(t, true))
	o := Options{Registry: s.host, Hosts: hosts(t, remote.Options{PlainHTTP: []string{s.host}}), Kind: "harbor"}
	notice := target.Notice{Code: target.ReadOnly, Fatal: true, Text: "read-only mode"}
	o.Inspect = func(context.Context) (target.State, error) {
		return target.State{Notices: []target.Notice{notice}}, nil
	}
	if r := run(t, o); r.OK() || !cmp.Equal(r.Notices, []target.Notice{notice}) || r.Kind != "harbor" {
		t.Errorf("a fatal notice: %+v", r)
	}
	o.Inspect = func(context.Context) (target.State, error) { return target.State{}, errors.New("away") }
	o.Explain = func(err error) error {
		return &target.Problem{Code: target.Denied, Remedy: "ask for the role", Err: err}
	}
	if got := row(run(t, o), "provider"); got.Status != Fail || got.Remedy != "ask for the role" || !strings.Contains(got.Text, "away") {
		t.Errorf("an adapter that fails: %+v", got)
	}
}

func TestOptions(t *testing.T) {
	h := hosts(t, remote.Options{})
	for _, registry := range []string{"", "plainname", "https://a.b", "a.b/UPPER", "a.b/x:tag", "a.b/x@sha256:1"} {
		if r, err := Run(t.Context(), Options{Registry: registry, Hosts: h}); err == nil {
			t.Errorf("%q: accepted as %+v", registry, r)
		}
	}
}

// authority signs a server certificate for localhost that ends after left.
func authority(t *testing.T, left time.Duration) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Site CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "registry"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(left),
		DNSNames: []string{"registry.site.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	caRaw, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leafRaw, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caRaw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{leafRaw}, PrivateKey: key}, file
}

func TestTLS(t *testing.T) {
	for name, tc := range map[string]struct {
		left time.Duration
		ca   bool
		host string
		want Status
		text string
	}{
		"good":         {365 * 24 * time.Hour, true, "registry.site.test", OK, `trusted through "Site CA"`},
		"ends soon":    {49 * time.Hour, true, "registry.site.test", Warn, `"registry" ends in 2 days`},
		"over":         {-time.Minute, true, "registry.site.test", Fail, "expired"},
		"unknown CA":   {time.Hour, false, "registry.site.test", Fail, "unknown authority"},
		"another name": {time.Hour, true, "other.site.test", Fail, "other.site.test"},
	} {
		t.Run(name, func(t *testing.T) {
			cert, file := authority(t, tc.left)
			ts := httptest.NewUnstartedServer(newOlareg(t, true))
			ts.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
			ts.Config.ErrorLog = nil
			ts.StartTLS()
			t.Cleanup(ts.Close)
			o := remote.Options{Resolve: map[string]string{tc.host: ts.Listener.Addr().String()}}
			trusted := ""
			if tc.ca {
				o.CAFiles = []string{file}
				trusted = file
			}
			r := run(t, Options{Registry: tc.host, Hosts: hosts(t, o)})
			if got := row(r, "tls"); got.Status != tc.want || !strings.Contains(got.Text, tc.text) {
				t.Errorf("got %+v, want %s with %q", got, tc.want, tc.text)
			}
			if len(r.Certificates) == 0 || r.Certificates[0].Subject != "registry" || !slices.Contains(r.Certificates[0].Names, "registry.site.test") {
				t.Fatalf("certificates: %+v", r.Certificates)
			}
			if last := r.Certificates[len(r.Certificates)-1]; tc.want != Fail && (last.Subject != "Site CA" || last.Trusted != trusted) {
				t.Errorf("trusted through %+v, want Site CA of %s", last, trusted)
			}
		})
	}
}
