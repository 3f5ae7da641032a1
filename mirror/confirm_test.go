package mirror

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
)

func TestVerifyLevels(t *testing.T) {
	registries(t, func(t *testing.T, reg *registry) {
		f := newFake(t)
		signed(f)
		f.root("ghcr.io/b/y:1", f.image("y", f.layer(1, 3<<20)))
		o := options(t, reg)
		if _, _, err := run(t.Context(), f, o); err != nil {
			t.Fatal(err)
		}
		type count = struct{ blobs, manifests int }
		for level, want := range map[Level]count{
			VerifyHead:   {},
			VerifySample: {blobs: 2}, // one of each repository
			VerifyFull:   countContent(t, f, o),
		} {
			reg.requests()
			o.Verify = level
			_, result, err := run(t.Context(), f, o)
			if err != nil || result.Unchanged != 2 {
				t.Errorf("%s: %+v, %v", level, result, err)
			}
			blobs, manifests := 0, 0
			for _, r := range reg.requests() {
				switch {
				case r.method != http.MethodGet, fallbackTag.MatchString(r.path): // a list of referrers
				case strings.Contains(r.path, "/blobs/"):
					blobs++
				case strings.Contains(r.path, "/manifests/"):
					manifests++
				}
			}
			if got := (count{blobs, manifests}); got != want {
				t.Errorf("%s read %+v, want %+v", level, got, want)
			}
		}
		o.Verify = "some"
		if _, _, err := run(t.Context(), f, o); err == nil {
			t.Error("an unknown level is accepted")
		}
	})
}

// countContent counts what a plan puts where, each digest once per repository.
func countContent(t *testing.T, f *fakeBundle, o Options) (n struct{ blobs, manifests int }) {
	t.Helper()
	plan, err := makePlan(t.Context(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i := range plan.Items {
		it := &plan.Items[i]
		for _, b := range it.Blobs {
			if k := it.Repository + b.Digest.String(); !seen[k] {
				seen[k] = true
				n.blobs++
			}
		}
		for m := range it.manifests() {
			if k := it.Repository + m.desc.Digest.String(); !seen[k] {
				seen[k] = true
				n.manifests++
			}
		}
	}
	return n
}

// A registry that gives other bytes back than it took is found out, and only
// what holds them is not there.
func TestVerifyFindsLies(t *testing.T) {
	tests := map[string]struct {
		lie  http.HandlerFunc
		want string
	}{
		"other content": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 5000)) }, errDiffers.Error()},
		"too short":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("x")) }, errDiffers.Error()},
		"too long":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 9000)) }, errDiffers.Error()},
		"not there":     {answerWith(http.StatusNotFound, "BLOB_UNKNOWN"), errVanished.Error()},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reg := newOlareg(t, true)
			f := newFake(t)
			bad := f.layer(1, 5000)
			f.root("quay.io/a/bad:1", f.image("bad", bad))
			f.root("quay.io/a/good:1", f.image("good", f.layer(2, 5000)))
			reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, bad.Digest.String()) {
					tt.lie(w, r)
					return true
				}
				return false
			})
			o := options(t, reg)
			o.Verify = VerifyFull
			m, result, err := run(t.Context(), f, o)
			p := as[*PartialError](t, err)
			v := as[*VerifyError](t, err)
			if !strings.Contains(v.Error(), tt.want) || !strings.Contains(v.Object, bad.Digest.String()) {
				t.Errorf("error %v", v)
			}
			if len(p.Missing) != 1 || result.Failed != 1 || len(m.Entries) != 1 || m.Entries[0].Source != "quay.io/a/good:1" {
				t.Errorf("%+v, %+v, %+v", p.Missing, result, m)
			}
		})
	}
}

// A manifest that was taken and is not there is noticed without reading bytes.
func TestVerifyHead(t *testing.T) {
	reg := newOlareg(t, true)
	f := newFake(t)
	_, sbom, _, _ := signed(f)
	reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, sbom.Digest.String()) {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	})
	_, _, err := run(t.Context(), f, options(t, reg))
	if v := as[*VerifyError](t, err); !strings.Contains(v.Object, sbom.Digest.String()) {
		t.Errorf("error %v", err)
	}
}

// While the registry throttles, fewer things are done at once, and nothing is lost.
func TestThrottledRun(t *testing.T) {
	reg := newOlareg(t, true)
	n := 0
	reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if !isUpload(r, http.MethodPost) && !isUpload(r, http.MethodPut) && r.Method != http.MethodPut {
			return false
		}
		reg.mu.Lock()
		n++
		throttle := n%5 == 0
		reg.mu.Unlock()
		if throttle {
			answerWith(http.StatusTooManyRequests, "TOOMANYREQUESTS", "Retry-After", "1")(w, r)
		}
		return throttle
	})
	f := newFake(t)
	for i := range 12 {
		f.root("quay.io/a/x"+strconv.Itoa(i)+":1", f.image(strconv.Itoa(i), f.layer(uint64(i), 2000)))
	}
	o := options(t, reg)
	result, waits, err := runPaused(t.Context(), f, o)
	if err != nil || result.Pushed != 12 || result.Sent != 24 || len(waits) < 10 {
		t.Errorf("%+v, %d waits, %v", result, len(waits), err)
	}
	sent := blobsSent(reg.requests())
	if len(sent) != 24 {
		t.Errorf("%d blobs sent", len(sent))
	}
	reg.setFault(nil)
	if _, result, err := run(t.Context(), f, o); err != nil || result.Unchanged != 12 || len(blobsSent(reg.requests())) != 0 {
		t.Errorf("second run: %+v, %v", result, err)
	}
}
