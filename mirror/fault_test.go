package mirror

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	orasremote "oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

func isUpload(r *http.Request, method string) bool {
	return r.Method == method && strings.Contains(r.URL.Path, "/blobs/uploads/")
}

// once answers the first request that matches.
func once(match func(*http.Request) bool, answer http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
	var done atomic.Bool
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !match(r) || !done.CompareAndSwap(false, true) {
			return false
		}
		answer(w, r)
		return true
	}
}

func answerWith(status int, code string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		writeError(w, status, code, "injected")
	}
}

func cut(after int64) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, after) // cut next anyway
		panic(http.ErrAbortHandler)
	}
}

func TestFaults(t *testing.T) {
	put := func(r *http.Request) bool { return isUpload(r, http.MethodPut) }
	post := func(r *http.Request) bool { return isUpload(r, http.MethodPost) }
	tests := []struct {
		name  string
		match func(*http.Request) bool
		fault http.HandlerFunc
		waits int
		wait  time.Duration // at least
	}{
		{"500 to PUT", put, answerWith(500, "UNKNOWN"), 1, 0},
		{"500 to POST", post, answerWith(500, "UNKNOWN"), 1, 0},
		{"503 to PUT", put, answerWith(503, "UNAVAILABLE", "Retry-After", "7"), 1, 7 * time.Second},
		{"429 to PUT", put, answerWith(429, "TOOMANYREQUESTS", "Retry-After", "3"), 1, 3 * time.Second},
		{"upload lost", put, answerWith(404, "BLOB_UPLOAD_UNKNOWN"), 1, 0},
		{"upload invalid", put, answerWith(400, "BLOB_UPLOAD_INVALID"), 1, 0},
		{"416 to PUT", put, answerWith(416, "RANGE_INVALID"), 1, 0},
		{"damaged on the way", put, answerWith(400, "DIGEST_INVALID"), 1, 0},
		{"PUT cut at once", put, cut(0), 1, 0},
		{"PUT cut after 200000 bytes", put, cut(200_000), 1, 0},
		{"POST cut", post, cut(0), 1, 0},
		{"mount refused", post, answerWith(400, "UNSUPPORTED"), 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reg := newOlareg(t, true)
			reg.setFault(once(tt.match, tt.fault))
			f := newFake(t)
			f.root("quay.io/a/x:1", f.image("x", f.layer(1, 2<<20), f.layer(2, 300_000)))
			result, waits, err := runPaused(t.Context(), f, options(t, reg))
			if err != nil || result.Pushed != 1 {
				t.Fatalf("%+v, %v", result, err)
			}
			if len(waits) != tt.waits {
				t.Fatalf("%d waits, want %d", len(waits), tt.waits)
			}
			if tt.waits > 0 && waits[0] < tt.wait {
				t.Errorf("waited %s, want at least %s", waits[0], tt.wait)
			}
		})
	}
}

func TestFaultsForever(t *testing.T) {
	tests := []struct {
		name   string
		fault  http.HandlerFunc
		puts   int // of the one blob that is left
		reason string
	}{
		{"500", answerWith(500, "UNKNOWN"), maxAttempts, "500"},
		{"quota", answerWith(403, "DENIED"), 1, "injected"},
		{"digest", answerWith(400, "DIGEST_INVALID"), 2, "injected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reg := newOlareg(t, true)
			var puts atomic.Int32
			f := newFake(t)
			img := f.image("x")
			f.root("quay.io/a/x:1", img)
			reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
				if isUpload(r, http.MethodPut) {
					puts.Add(1)
					tt.fault(w, r)
					return true
				}
				return false
			})
			_, _, err := runPaused(t.Context(), f, options(t, reg))
			if err == nil || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("error %v", err)
			}
			if int(puts.Load()) != tt.puts {
				t.Errorf("%d PUTs, want %d", puts.Load(), tt.puts)
			}
			for _, r := range reg.requests() {
				if r.method == http.MethodPut && strings.Contains(r.path, "/manifests/") {
					t.Errorf("%s without its blob", r)
				}
			}
		})
	}
}

// Where neither PUT nor PATCH may be large, pieces are sent, if the registry
// keeps them; the way is remembered.
func TestStepsDownToChunks(t *testing.T) {
	const most = 1 << 20
	limit := func(w http.ResponseWriter, r *http.Request) bool {
		if r.ContentLength > most {
			answerWith(http.StatusRequestEntityTooLarge, "")(w, r)
			return true
		}
		return false
	}
	registries(t, func(t *testing.T, reg *registry) {
		reg.setFault(limit)
		f := newFake(t)
		f.root("quay.io/a/x:1", f.image("x", f.layer(1, 5*most+17), f.layer(2, 3*most)))
		o := options(t, reg)
		o.Workers = 1
		o.Target = &fakeTarget{limits: target.Limits{Chunks: true, ChunkSize: most}}
		o.Verify = VerifyFull
		result, waits, err := runPaused(t.Context(), f, o)
		if err != nil || len(waits) != 0 || result.Sent != 3 {
			t.Fatalf("%+v, %v, %v", result, waits, err)
		}
		refused, pieces := 0, 0
		for _, r := range reg.requests() {
			switch {
			case r.status == http.StatusRequestEntityTooLarge:
				refused++
			case r.method == http.MethodPatch:
				pieces++
			}
		}
		if refused != 2 || pieces < 9 {
			t.Errorf("%d refused, want 2 (PUT and PATCH); %d pieces, want 9 and the config", refused, pieces)
		}
		// A registry that loses pieces is never sent any.
		reg.setFault(limit)
		g := newFake(t)
		g.root("quay.io/a/y:1", g.image("y", g.layer(5, 2*most)))
		o.Target = &fakeTarget{}
		_, _, err = runPaused(t.Context(), g, o)
		if status(err) != 0 || err == nil || !strings.Contains(err.Error(), "413") {
			t.Errorf("error %v", err)
		}
		for _, r := range reg.requests() {
			if r.method == http.MethodPatch && r.body >= most {
				t.Errorf("piece sent: %s", r)
			}
		}
	})
}

// A token that runs out in the middle is replaced once and nothing is lost; a
// login that was taken away stops the run.
func TestLoginRunsOut(t *testing.T) {
	for _, kind := range []string{"basic", "token"} {
		t.Run(kind, func(t *testing.T) {
			reg := newOlareg(t, true)
			lock := protect(t, reg, kind)
			f := newFake(t)
			for i := range 6 {
				f.root("quay.io/a/x"+strconv.Itoa(i)+":1", f.image(strconv.Itoa(i), f.layer(uint64(i), 2<<20)))
			}
			o := options(t, reg)
			o.Hosts, o.Workers = lock.hosts(t), 2
			var puts atomic.Int32
			lock.before(func(r *http.Request) {
				if isUpload(r, http.MethodPut) && puts.Add(1) == 4 {
					lock.expire()
				}
			})
			result, waits, err := runPaused(t.Context(), f, o)
			if err != nil || result.Pushed != 6 || result.Sent != 12 || len(waits) > 1 {
				t.Errorf("%+v, %v, %v", result, waits, err)
			}
			lock.revoke()
			f.root("quay.io/a/new:1", f.image("new"))
			_, _, err = runPaused(t.Context(), f, o)
			_ = as[*remote.AuthError](t, err)
		})
	}
}

// A registry that stops answering is given up on and asked again.
func TestStall(t *testing.T) {
	reg := newOlareg(t, true)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	reg.setFault(once(func(r *http.Request) bool { return isUpload(r, http.MethodPut) && r.ContentLength > 1<<20 },
		func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.CopyN(io.Discard, r.Body, 100_000) // then nothing
			<-release
		}))
	f := newFake(t)
	f.root("quay.io/a/x:1", f.image("x", f.layer(1, 8<<20)))
	o := options(t, reg)
	o.Hosts = impatient{hosts(t, reg)}
	result, waits, err := runPaused(t.Context(), f, o)
	if err != nil || len(waits) != 1 || result.Sent != 2 {
		t.Errorf("%+v, %v, %v", result, waits, err)
	}
}

// impatient gives up after half a second where package remote gives a minute.
type impatient struct{ *remote.Hosts }

func (h impatient) Repository(reference string) (*orasremote.Repository, error) {
	r, err := h.Hosts.Repository(reference)
	if err != nil {
		return nil, err
	}
	r.Client = &auth.Client{Client: &http.Client{Transport: deadline{}}}
	return r, nil
}

type deadline struct{}

func (deadline) RoundTrip(req *http.Request) (*http.Response, error) {
	late := &stalled{}
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(500*time.Millisecond, func() { cancel(late) })
	defer timer.Stop()
	resp, err := http.DefaultTransport.RoundTrip(req.WithContext(ctx))
	if err != nil && errors.Is(context.Cause(ctx), late) {
		return nil, late
	}
	return resp, err
}

// stalled is a timeout as package remote reports it.
type stalled struct{}

func (*stalled) Error() string   { return "no progress of the upload for 500ms" }
func (*stalled) Timeout() bool   { return true }
func (*stalled) Temporary() bool { return true }

// Uploads on another host than the registry's, as object storage gives them.
func TestOtherHostLocation(t *testing.T) {
	reg := newOlareg(t, true)
	other := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("credentials of the registry went to another host")
		}
		reg.handler.ServeHTTP(w, r)
	}))
	lock := protect(t, reg, "basic")
	reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if lock.refuse(w, r) {
			return true
		}
		makeAbsolute(t, w, "http://"+other.host)
		return false
	})
	f := newFake(t)
	f.root("quay.io/a/x:1", f.image("x", f.layer(1, 2<<20)))
	o := options(t, reg)
	o.Hosts = lock.hosts(t, other.host)
	result, _, err := runPaused(t.Context(), f, o)
	if err != nil || result.Sent != 2 {
		t.Fatalf("%+v, %v", result, err)
	}
	var moved int64
	for _, r := range other.requests() {
		moved += r.body
	}
	if moved != result.Bytes {
		t.Errorf("%d bytes went to the other host, want %d", moved, result.Bytes)
	}
}

// Whatever happens, the error names every item that is not there.
func TestPartialNamesTheMissing(t *testing.T) {
	reg := newOlareg(t, true)
	f := newFake(t)
	f.root("quay.io/a/good:1", f.image("good"))
	o := options(t, reg)
	if _, _, err := runPaused(t.Context(), f, o); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		f.root("quay.io/a/bad"+strconv.Itoa(i)+":1", f.image("bad"+strconv.Itoa(i)))
	}
	reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if isUpload(r, http.MethodPut) {
			w.WriteHeader(http.StatusUnauthorized) // for good
			return true
		}
		return false
	})
	_, _, err := runPaused(t.Context(), f, o)
	p := as[*PartialError](t, err)
	want := []string{o.To + "/a/bad0:1", o.To + "/a/bad1:1", o.To + "/a/bad2:1"}
	if diff := cmp.Diff(want, p.Missing); diff != "" || p.Done != 1 {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	_ = as[*remote.AuthError](t, err)
}

// A proxy that limits bodies of PUT requests leaves PATCH.
func TestStepsDownToPatch(t *testing.T) {
	for _, code := range []int{http.StatusRequestEntityTooLarge, http.StatusMethodNotAllowed} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			registries(t, func(t *testing.T, reg *registry) {
				reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
					if isUpload(r, http.MethodPut) && r.ContentLength != 0 {
						answerWith(code, "UNKNOWN")(w, r)
						return true
					}
					return false
				})
				f := newFake(t)
				f.root("quay.io/a/x:1", f.image("x", f.layer(1, 2<<20)))
				o := options(t, reg)
				o.Workers = 1
				result, waits, err := runPaused(t.Context(), f, o)
				if err != nil || len(waits) != 0 || result.Sent != 2 {
					t.Fatalf("%+v, %v, %v", result, waits, err)
				}
				refused := 0
				for _, r := range reg.requests() {
					if r.status == code && r.method == http.MethodPut {
						refused++
					}
				}
				if refused != 1 {
					t.Errorf("%d PUTs were refused, want 1: the way is remembered", refused)
				}
			})
		})
	}
}

// Registries answer with relative, absolute and odd upload locations.
func TestUploadLocation(t *testing.T) {
	tests := []struct{ from, location, want string }{
		{"https://r.test/v2/a/blobs/uploads/", "/up/1?_state=s%2Fx", "https://r.test/up/1?_state=s%2Fx"},
		{"https://r.test/v2/a/blobs/uploads/", "1", "https://r.test/v2/a/blobs/uploads/1"},
		{"https://r.test/v2/a/blobs/uploads/", "https://other.test:9000/1", "https://other.test:9000/1"},
		{"https://r.test:443/v2/a/", "https://r.test/1", "https://r.test:443/1"},
		{"https://r.test/v2/a/", "https://user:secret@r.test/1", "https://r.test/1"},
		{"http://r.test/v2/a/", "https://r.test/1", "https://r.test/1"},
		{"https://r.test/v2/a/", "http://r.test/1", ""},
		{"https://r.test/v2/a/", "ftp://r.test/1", ""},
		{"https://r.test/v2/a/", "https://r.test/\x7f?token=secret", ""},
		{"https://r.test/v2/a/", "", ""},
	}
	for _, tt := range tests {
		from, err := url.Parse(tt.from)
		if err != nil {
			t.Fatal(err)
		}
		got, err := location(from, &http.Response{Header: http.Header{"Location": {tt.location}}})
		switch {
		case tt.want == "" && err == nil:
			t.Errorf("location(%q) = %s, want an error", tt.location, got)
		case tt.want == "" && strings.Contains(err.Error(), "secret"):
			t.Errorf("location(%q) shows a secret: %v", tt.location, err)
		case tt.want != "" && (err != nil || got.String() != tt.want):
			t.Errorf("location(%q) = %v, %v; want %s", tt.location, got, err, tt.want)
		}
	}
	u, _ := url.Parse("https://r.test/1?_state=a%2Fb%3D&x=1") // a constant
	d := digest.FromString("x")
	if got := closing(u, d); !strings.Contains(got, "_state=a%2Fb%3D") || !strings.Contains(got, "x=1") || !strings.Contains(got, url.QueryEscape(d.String())) {
		t.Errorf("closing = %s", got)
	}
}

// Absolute locations work end to end as well; olareg sends relative ones.
func TestAbsoluteLocation(t *testing.T) {
	reg := newOlareg(t, true)
	reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		makeAbsolute(t, w, "http://"+reg.host)
		return false
	})
	f := newFake(t)
	f.root("quay.io/a/x:1", f.image("x", f.layer(1, 1000)))
	if result, _, err := runPaused(t.Context(), f, options(t, reg)); err != nil || result.Sent != 2 {
		t.Errorf("%+v, %v", result, err)
	}
}

// makeAbsolute has the answer to a request give locations below base.
func makeAbsolute(t *testing.T, w http.ResponseWriter, base string) {
	t.Helper()
	sw, ok := w.(*statusWriter)
	if !ok {
		t.Fatalf("%T is no statusWriter", w)
	}
	sw.ResponseWriter = &absolute{sw.ResponseWriter, base}
}

type absolute struct {
	http.ResponseWriter
	base string
}

func (w *absolute) WriteHeader(code int) {
	if loc := w.Header().Get("Location"); strings.HasPrefix(loc, "/") {
		w.Header().Set("Location", w.base+loc)
	}
	w.ResponseWriter.WriteHeader(code)
}

// A damaged bundle is noticed while it streams; nothing of it gets a name.
func TestCorruptSource(t *testing.T) {
	registries(t, func(t *testing.T, reg *registry) {
		f := newFake(t)
		bad := f.layer(1, 3<<20)
		f.root("quay.io/a/bad:1", f.image("bad", bad))
		f.root("quay.io/a/good:1", f.image("good", f.layer(2, 1000)))
		f.setCorrupt(bad.Digest)
		o := options(t, reg)
		m, result, err := run(t.Context(), f, o)
		if got := as[*corruptError](t, err); got.digest != bad.Digest {
			t.Errorf("error names %s, want %s", got.digest, bad.Digest)
		}
		if result.Pushed != 1 || result.Failed != 1 || len(m.Entries) != 1 {
			t.Errorf("%+v, %+v", result, m)
		}
		if f.fetched[bad.Digest] != 1 {
			t.Errorf("damaged blob was read %d times", f.fetched[bad.Digest])
		}
		abandoned := false
		for _, r := range reg.requests() {
			if r.method == http.MethodPut && strings.Contains(r.path, "/a/bad/manifests/") {
				t.Errorf("%s", r)
			}
			abandoned = abandoned || r.method == http.MethodDelete
		}
		if !abandoned {
			t.Error("the upload was not abandoned")
		}
		repo, err := o.Hosts.Repository(o.To + "/a/bad")
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := repo.Blobs().Exists(t.Context(), bad); err != nil || ok {
			t.Errorf("the damaged blob exists: %v, %v", ok, err)
		}
	})
}

// One wrong password must not be tried for every image.
func TestUnauthorizedStopsAtOnce(t *testing.T) {
	var n atomic.Int32
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		w.Header().Set("Www-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer ts.Close()
	f := newFake(t)
	for i := range 200 {
		f.root("quay.io/a/x:"+strconv.Itoa(i), f.image(strconv.Itoa(i)))
	}
	m, _, err := run(t.Context(), f, options(t, &registry{host: strings.TrimPrefix(ts.URL, "http://")}))
	_ = as[*remote.AuthError](t, err)
	if n.Load() > 3 || len(m.Entries) != 0 {
		t.Errorf("%d requests, %d entries", n.Load(), len(m.Entries))
	}
}

func TestProgress(t *testing.T) {
	reg := newOlareg(t, true)
	reg.setFault(once(func(r *http.Request) bool { return isUpload(r, http.MethodPut) && r.ContentLength > 1<<20 }, cut(900_000)))
	f := newFake(t)
	layer := f.layer(1, 2<<20)
	f.root("quay.io/a/x:1", f.image("x", layer))
	events := make(chan bundle.Event, 1000)
	o := options(t, reg)
	o.Listener = func(e bundle.Event) { events <- e }
	if _, _, err := runPaused(t.Context(), f, o); err != nil {
		t.Fatal(err)
	}
	close(events)
	var total, moved int64
	done := map[string]bool{}
	for e := range events {
		total = max(total, e.Total)
		moved += e.Bytes
		done[e.Object] = done[e.Object] || e.Done
	}
	if total != moved || !done[layer.Digest.String()] || !done[o.To] {
		t.Errorf("total %d, moved %d, done %v", total, moved, done)
	}
}

// Large bodies wait for the registry's word: refusing them costs nothing.
func TestExpectContinue(t *testing.T) {
	reg := newOlareg(t, true)
	reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if isUpload(r, http.MethodPut) && r.Header.Get("Expect") != "" {
			answerWith(http.StatusForbidden, "DENIED")(w, r)
			return true
		}
		return false
	})
	f := newFake(t)
	layer := f.layer(1, 8<<20)
	f.root("quay.io/a/x:1", f.image("x", layer))
	_, _, err := run(t.Context(), f, options(t, reg))
	if p := as[*target.Problem](t, err); p.Code != target.Denied {
		t.Errorf("code %q, want %q", p.Code, target.Denied)
	}
	if f.fetched[layer.Digest] != 1 {
		t.Errorf("fetched %d times", f.fetched[layer.Digest])
	}
	for _, r := range reg.requests() {
		if r.status == http.StatusForbidden && r.body != 0 {
			t.Errorf("%s took %d bytes", r, r.body)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, "-1": 0, "x": 0, "99999": maxRetryAfter,
		now.Add(9 * time.Second).Format(http.TimeFormat):  9 * time.Second,
		now.Add(-9 * time.Second).Format(http.TimeFormat): 0,
		now.Add(9 * time.Hour).Format(http.TimeFormat):    maxRetryAfter,
	} {
		if got := retryAfter(v, now); got != want {
			t.Errorf("retryAfter(%q) = %s, want %s", v, got, want)
		}
	}
}
