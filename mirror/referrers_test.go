package mirror

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// attested makes an image with two referrers.
func attested(f *fakeBundle) (image, sbom, signature ocispec.Descriptor) {
	image = f.image("x", f.layer(1, 1000))
	f.root("quay.io/a/x:1", image)
	sbom = f.artifact("application/spdx+json", "sbom", image)
	signature = f.artifact("application/vnd.test.signature", "signature", image)
	f.entry(bundle.KindImage, "", bundle.RoleReferrer, sbom)
	f.entry(bundle.KindImage, "", bundle.RoleReferrer, signature)
	return image, sbom, signature
}

func sortedDigests(list ...ocispec.Descriptor) []digest.Digest {
	var out []digest.Digest
	for _, d := range list {
		out = append(out, d.Digest)
	}
	slices.Sort(out)
	return out
}

// putTag writes a manifest under a tag with another client.
func putTag(t *testing.T, reg *registry, repository, mediaType, tag string, raw []byte) digest.Digest {
	t.Helper()
	r, err := newRepo(hosts(t, reg), reg.host, repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.write(t.Context(), mediaType, raw, tag); err != nil {
		t.Fatal(err)
	}
	return digest.FromBytes(raw)
}

func getTag(t *testing.T, reg *registry, repository, tag string) (raw json.RawMessage) {
	t.Helper()
	_, rc, err := reg.repository(t, repository).FetchReference(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if err := json.NewDecoder(rc).Decode(&raw); err != nil {
		t.Fatal(err)
	}
	return raw
}

// A registry that takes referrers and does not list them fails the item by the
// digests of subject and referrers, before its tag is written.
func TestReferrersNotListed(t *testing.T) {
	reg := newOlareg(t, true)
	f := newFake(t)
	image, sbom, signature := attested(f)
	f.root("quay.io/a/plain:1", f.image("plain"))
	reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		writeJSON(w, http.StatusOK, ocispec.MediaTypeImageIndex, map[string]any{
			"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": []any{},
		})
		return true
	})
	o := options(t, reg)
	result, waits, err := runPaused(t.Context(), f, o)
	e := as[*ReferrersError](t, err)
	if diff := cmp.Diff(sortedDigests(sbom, signature), e.Missing); diff != "" || e.Subject != image.Digest {
		t.Errorf("subject %s, missing (-want +got):\n%s", e.Subject, diff)
	}
	for _, d := range []ocispec.Descriptor{image, sbom, signature} {
		if !strings.Contains(err.Error(), d.Digest.String()) {
			t.Errorf("error %q does not name %s", err, d.Digest)
		}
	}
	if p := as[*PartialError](t, err); len(p.Missing) != 1 || result.Pushed != 1 || len(waits) != fewAttempts {
		t.Errorf("%+v, %+v, %d waits", p, result, len(waits))
	}
	for _, r := range reg.requests() {
		if r.method == http.MethodPut && strings.HasSuffix(r.path, "/a/x/manifests/1") {
			t.Errorf("%s without its signatures", r)
		}
	}
	// A list that only lags behind is waited for.
	reg.setFault(once(func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/referrers/") },
		func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusOK, ocispec.MediaTypeImageIndex, map[string]any{"schemaVersion": 2, "manifests": []any{}})
		}))
	if result, waits, err = runPaused(t.Context(), f, o); err != nil || result.Pushed != 1 || len(waits) != 1 {
		t.Errorf("%+v, %v, %v", result, waits, err)
	}
}

// The index under the fallback tag keeps what others wrote, says type and
// annotations of what is added, and is not written again when it is complete.
func TestFallbackIndexIsExtended(t *testing.T) {
	reg := newDistribution(t)
	f := newFake(t)
	image, sbom, signature := attested(f)
	g := newFake(t)
	g.root("quay.io/a/x:other", g.image("other"))
	o := options(t, reg)
	if _, _, err := run(t.Context(), g, o); err != nil {
		t.Fatal(err)
	}
	other := g.entries[0].Descriptor
	foreign := map[string]any{"mediaType": other.MediaType, "digest": other.Digest, "size": other.Size, "artifactType": "text/x", "x-kept": "yes"}
	before, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": []any{foreign}, "annotations": map[string]string{"by": "other"},
	})
	if err != nil {
		t.Fatal(err)
	}
	tag := "sha256-" + image.Digest.Encoded()
	putTag(t, reg, "airlock/a/x", ocispec.MediaTypeImageIndex, tag, before)
	reg.requests()
	if _, _, err := run(t.Context(), f, o); err != nil {
		t.Fatal(err)
	}
	puts := 0
	for _, r := range reg.requests() {
		if r.method == http.MethodPut && strings.HasSuffix(r.path, tag) {
			puts++
		}
	}
	var got struct {
		Manifests   []map[string]any
		Annotations map[string]string
	}
	if err := json.Unmarshal(getTag(t, reg, "airlock/a/x", tag), &got); err != nil {
		t.Fatal(err)
	}
	if puts != 1 || len(got.Manifests) != 3 || got.Manifests[0]["x-kept"] != "yes" || got.Annotations["by"] != "other" {
		t.Fatalf("%d writes, index %+v", puts, got)
	}
	types := map[string]any{}
	for _, m := range got.Manifests[1:] {
		types[m["digest"].(string)] = m["artifactType"]
		if a, ok := m["annotations"].(map[string]any); !ok || a["made-by"] != "test" {
			t.Errorf("entry %v lost its annotations", m)
		}
	}
	if types[sbom.Digest.String()] != "application/spdx+json" || types[signature.Digest.String()] != "application/vnd.test.signature" {
		t.Errorf("types %v", types)
	}
	if _, result, err := run(t.Context(), f, o); err != nil || result.Unchanged != 1 {
		t.Errorf("second run: %+v, %v", result, err)
	}
	for _, r := range reg.requests() {
		if r.writes() {
			t.Errorf("second run: %s", r)
		}
	}
}

// A run that ended between a referrer and the index that lists it is completed.
func TestFallbackIndexIsMended(t *testing.T) {
	reg := newDistribution(t)
	f := newFake(t)
	image, _, _ := attested(f)
	o := options(t, reg)
	if _, _, err := run(t.Context(), f, o); err != nil {
		t.Fatal(err)
	}
	tag := "sha256-" + image.Digest.Encoded()
	empty := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	putTag(t, reg, "airlock/a/x", ocispec.MediaTypeImageIndex, tag, empty)
	if _, result, err := run(t.Context(), f, o); err != nil || result.Pushed != 1 || result.Sent != 0 {
		t.Errorf("%+v, %v", result, err)
	}
	var got ocispec.Index
	if err := json.Unmarshal(getTag(t, reg, "airlock/a/x", tag), &got); err != nil || len(got.Manifests) != 2 {
		t.Errorf("%d entries, %v", len(got.Manifests), err)
	}
}

// Another writer replaces the index right after it was written: it is written
// once more, on top of theirs.
func TestFallbackIndexRace(t *testing.T) {
	reg := newDistribution(t)
	f := newFake(t)
	image, _, _ := attested(f)
	tag := "sha256-" + image.Digest.Encoded()
	empty := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	puts := 0
	reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, tag) {
			if puts++; puts == 1 { // theirs comes after ours
				reg.handler.ServeHTTP(w, r)
				reg.setFault(nil)
				putTag(t, reg, "airlock/a/x", ocispec.MediaTypeImageIndex, tag, empty)
				return true
			}
		}
		return false
	})
	if _, _, err := run(t.Context(), f, options(t, reg)); err != nil {
		t.Fatal(err)
	}
	var got ocispec.Index
	if err := json.Unmarshal(getTag(t, reg, "airlock/a/x", tag), &got); err != nil || len(got.Manifests) != 2 {
		t.Errorf("%d entries, %v", len(got.Manifests), err)
	}
}

// Where the fallback tag cannot be changed, or is somebody else's, the image
// arrives, the tag stays, and the run says what cannot be found there.
func TestFallbackTagIsFixed(t *testing.T) {
	tests := map[string]struct {
		mediaType string
		raw       func(other ocispec.Descriptor, f *fakeBundle) []byte
		refuse    int
	}{
		"immutable": {ocispec.MediaTypeImageIndex, func(ocispec.Descriptor, *fakeBundle) []byte {
			return []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
		}, http.StatusPreconditionFailed},
		"another image": {ocispec.MediaTypeImageManifest, func(other ocispec.Descriptor, f *fakeBundle) []byte { return f.blobs[other.Digest] }, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reg := newDistribution(t)
			f := newFake(t)
			image, sbom, signature := attested(f)
			g := newFake(t)
			other := g.image("other")
			g.root("quay.io/a/x:other", other)
			o := options(t, reg)
			if _, _, err := run(t.Context(), g, o); err != nil {
				t.Fatal(err)
			}
			tag := "sha256-" + image.Digest.Encoded()
			before := putTag(t, reg, "airlock/a/x", tt.mediaType, tag, tt.raw(other, g))
			reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
				if tt.refuse != 0 && r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, tag) {
					answerWith(tt.refuse, "DENIED")(w, r)
					return true
				}
				return false
			})
			for _, round := range []string{"first", "second"} {
				m, result, err := run(t.Context(), f, o)
				e := as[*ReferrersError](t, err)
				if diff := cmp.Diff(sortedDigests(sbom, signature), e.Missing); diff != "" || !errors.Is(err, errFixedTag) {
					t.Errorf("%s run: %v, missing (-want +got):\n%s", round, err, diff)
				}
				p := as[*PartialError](t, err)
				if p.Done != 1 || len(p.Missing) != 2 || result.Failed != 0 || len(m.Entries) != 1 {
					t.Errorf("%s run: %+v, %+v, %+v", round, p, result, m.Entries)
				}
			}
			if got := digest.FromBytes(getTag(t, reg, "airlock/a/x", tag)); got != before {
				t.Errorf("the tag was moved to %s", got)
			}
			if getTag(t, reg, "airlock/a/x", "1") == nil {
				t.Error("the image has no tag")
			}
		})
	}
}
