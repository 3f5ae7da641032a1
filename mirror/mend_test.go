package mirror

import (
	"net/http"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// newForgetful is a registry that lets one delete.
func newForgetful(t *testing.T) *registry {
	t.Helper()
	c := &configuration.Configuration{Storage: configuration.Storage{
		"inmemory":    configuration.Parameters{},
		"delete":      configuration.Parameters{"enabled": true},
		"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
	}}
	c.Log.Level = "panic"
	c.Log.AccessLog.Disabled = true
	return serve(t, handlers.NewApp(t.Context(), c))
}

// A registry lost blobs and a child manifest while the tag stayed: reading back
// finds that out and the run sends it again.
func TestVerifyMends(t *testing.T) {
	for _, level := range []Level{VerifySample, VerifyFull} {
		t.Run(string(level), func(t *testing.T) {
			reg := newForgetful(t)
			f := newFake(t)
			layers := []ocispec.Descriptor{f.layer(1, 2000), f.layer(2, 3000)}
			child := f.image("child", layers...)
			f.root("quay.io/a/x:1", f.index(nil, child))
			o := options(t, reg)
			if _, _, err := run(t.Context(), f, o); err != nil {
				t.Fatal(err)
			}
			repo := reg.repository(t, "airlock/a/x")
			var config digest.Digest
			for d := range f.blobs {
				if _, manifest := f.manifests[d]; !manifest && d != layers[0].Digest && d != layers[1].Digest {
					config = d
				}
			}
			for _, d := range []digest.Digest{layers[0].Digest, layers[1].Digest, config} {
				if err := repo.Blobs().Delete(t.Context(), ocispec.Descriptor{MediaType: layers[0].MediaType, Digest: d}); err != nil {
					t.Fatal(err)
				}
			}
			if err := repo.Manifests().Delete(t.Context(), child); err != nil {
				t.Fatal(err)
			}
			// It also says of what it lost that it can be mounted.
			reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Query().Get("mount") == "" {
					return false
				}
				w.WriteHeader(http.StatusCreated)
				return true
			})
			o.Verify = level
			m, result, err := run(t.Context(), f, o)
			if err != nil || len(m.Entries) != 1 || result.Sent != 3 || result.Pushed != 1 || result.Unchanged != 0 {
				t.Fatalf("%+v, %v", result, err)
			}
			o.Verify = VerifyFull
			if _, result, err = run(t.Context(), f, o); err != nil || result.Sent != 0 || result.Unchanged != 1 {
				t.Errorf("afterwards: %+v, %v", result, err)
			}
		})
	}
}

// What the registry does not take again is named, with its repository.
func TestVerifyCannotMend(t *testing.T) {
	reg := newForgetful(t)
	f := newFake(t)
	layer := f.layer(1, 2000)
	f.root("quay.io/a/x:1", f.image("x", layer))
	o := options(t, reg)
	if _, _, err := run(t.Context(), f, o); err != nil {
		t.Fatal(err)
	}
	reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/blobs/"+layer.Digest.String()) {
			answerWith(http.StatusNotFound, "BLOB_UNKNOWN")(w, r)
			return true
		}
		return false
	})
	reg.requests()
	o.Verify = VerifyFull
	_, _, err := run(t.Context(), f, o)
	v := as[*VerifyError](t, err)
	if v.Object != o.To+"/a/x@"+layer.Digest.String() || strings.Contains(v.Error(), o.To+": ") {
		t.Errorf("error %v", v)
	}
	if n := len(blobsSent(reg.requests())); n != 1 {
		t.Errorf("%d blobs sent", n)
	}
}

// A registry that answers a question for a digest with another lies: no tag
// is in the way.
func TestWrongDigestIsNoConflict(t *testing.T) {
	reg := newOlareg(t, true)
	f := newFake(t)
	_, sbom, _, _ := signed(f)
	other := digest.FromString("other")
	reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodHead || !strings.HasSuffix(r.URL.Path, sbom.Digest.String()) {
			return false
		}
		w.Header().Set("Docker-Content-Digest", other.String())
		w.WriteHeader(http.StatusOK)
		return true
	})
	_, _, err := run(t.Context(), f, options(t, reg))
	if v := as[*VerifyError](t, err); !strings.Contains(v.Object, sbom.Digest.String()) || !strings.Contains(err.Error(), other.String()) {
		t.Errorf("error %v", err)
	}
}

// Where a registry says that it makes a repository on push, something may be
// there all the same.
func TestOnPushIsAsked(t *testing.T) {
	reg := newOlareg(t, true)
	f, g := newFake(t), newFake(t)
	g.root("quay.io/a/x:1", g.image("other"))
	f.root("quay.io/a/x:1", f.image("x"))
	o := options(t, reg)
	if _, _, err := run(t.Context(), g, o); err != nil {
		t.Fatal(err)
	}
	o.Target = onPush("airlock/a/x")
	_, _, err := run(t.Context(), f, o)
	_ = as[*ConflictError](t, err)
}

// An answer to HEAD has no words: a refusal is asked for again with GET.
func TestRefusedHeadIsAskedAgain(t *testing.T) {
	reg := newOlareg(t, true)
	f := newFake(t)
	f.root("quay.io/a/x:1", f.image("x"))
	reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		writeError(w, http.StatusForbidden, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")
		return true
	})
	_, _, err := run(t.Context(), f, options(t, reg))
	if err == nil || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("error %v", err)
	}
}
