package mirror

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror/target/oci"
	"github.com/airlock-project/airlock/verify"
	"github.com/google/go-cmp/cmp"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	orasremote "oras.land/oras-go/v2/registry/remote"
)

func TestRunWholeGraph(t *testing.T) {
	registries(t, func(t *testing.T, reg *registry) {
		f := newFake(t)
		index, sbom, sbomSig, cosign := signed(f)
		o := options(t, reg)
		m, result, err := run(t.Context(), f, o)
		if err != nil {
			t.Fatal(err)
		}
		if result.Pushed != 1 || result.Failed != 0 || result.LeftOut != 0 {
			t.Errorf("result %+v", result)
		}
		refs := []string{sbom.Digest.String(), sbomSig.Digest.String(), cosign.Digest.String()}
		slices.Sort(refs)
		want := manifests.RelocationMap{
			APIVersion: manifests.APIVersion, Kind: manifests.KindRelocationMap,
			Bundle: f.Info().Digest.String(), Target: reg.host + "/airlock", PlainHTTP: reg.caFile == "",
			Entries: []manifests.Relocation{{
				Kind: bundle.KindImage, Source: "quay.io/jetstack/x:v1", SourceDigest: index.Digest.String(),
				Target: reg.host + "/airlock/jetstack/x:v1", Digest: index.Digest.String(),
				Platforms: []string{"linux/amd64", "linux/arm64/v8"}, Referrers: refs,
			}},
		}
		if diff := cmp.Diff(want, m); diff != "" {
			t.Errorf("relocation map (-want +got):\n%s", diff)
		}
		foreseen, err := relocation(t.Context(), f, o)
		if diff := cmp.Diff(want, foreseen); err != nil || diff != "" {
			t.Errorf("relocation map without asking (-want +got): %v\n%s", err, diff)
		}
		checkOrder(t, reg.requests(), index.Digest)
		checkPulled(t, reg.repository(t, "airlock/jetstack/x"), index, sbom, sbomSig, cosign)
		checkAgain(t, f, o, reg)
	})
}

// checkOrder proves that each name is written after what it names.
func checkOrder(t *testing.T, log []request, root digest.Digest) {
	t.Helper()
	at := func(method, suffix string) int {
		return slices.IndexFunc(log, func(r request) bool { return r.method == method && strings.HasSuffix(r.path, suffix) })
	}
	lastBlob := -1
	for i, r := range log {
		if strings.Contains(r.path, "/blobs/uploads/") {
			lastBlob = i
		}
	}
	firstManifest := slices.IndexFunc(log, func(r request) bool { return r.method == http.MethodPut && strings.Contains(r.path, "/manifests/") })
	byDigest := at(http.MethodPut, "/manifests/"+root.String())
	cosign := at(http.MethodPut, ".sig")
	tag := at(http.MethodPut, "/manifests/v1")
	if lastBlob < 0 || !(lastBlob < firstManifest && firstManifest < byDigest && byDigest < cosign && cosign < tag) {
		t.Errorf("order: last blob %d, first manifest %d, root %d, cosign tag %d, tag %d", lastBlob, firstManifest, byDigest, cosign, tag)
	}
	for i, r := range log {
		if r.method == http.MethodPut && i > tag {
			t.Errorf("%s comes after the tag", r)
		}
		if r.proto != "HTTP/1.1" {
			t.Errorf("%s over %s", r, r.proto)
		}
	}
}

// checkPulled reads everything back with another client.
func checkPulled(t *testing.T, repo *orasremote.Repository, index, sbom, sbomSig, cosign ocispec.Descriptor) {
	t.Helper()
	ctx := t.Context()
	got, err := oras.Resolve(ctx, repo, "v1", oras.DefaultResolveOptions)
	if err != nil || got.Digest != index.Digest {
		t.Errorf("tag v1 = %s, %v; want %s", got.Digest, err, index.Digest)
	}
	got, err = oras.Resolve(ctx, repo, "sha256-"+index.Digest.Encoded()+".sig", oras.DefaultResolveOptions)
	if err != nil || got.Digest != cosign.Digest {
		t.Errorf("cosign tag = %s, %v; want %s", got.Digest, err, cosign.Digest)
	}
	for subject, want := range map[digest.Digest]ocispec.Descriptor{index.Digest: sbom, sbom.Digest: sbomSig} {
		var found []ocispec.Descriptor
		err := repo.Referrers(ctx, ocispec.Descriptor{Digest: subject}, "", func(list []ocispec.Descriptor) error {
			found = append(found, list...)
			return nil
		})
		if err != nil || len(found) != 1 || found[0].Digest != want.Digest {
			t.Errorf("referrers of %s = %v, %v; want %s", subject, found, err, want.Digest)
			continue
		}
		if found[0].ArtifactType == "" || found[0].Annotations["made-by"] != "test" {
			t.Errorf("referrer %+v lost type or annotations", found[0])
		}
	}
}

// checkAgain proves that a second run only looks.
func checkAgain(t *testing.T, f *fakeBundle, o Options, reg *registry) {
	t.Helper()
	reg.requests()
	_, result, err := run(t.Context(), f, o)
	if err != nil || result.Unchanged != 1 || result.Pushed != 0 {
		t.Errorf("second run: %+v, %v", result, err)
	}
	log := reg.requests()
	for _, r := range log {
		if r.writes() {
			t.Errorf("second run sends %s", r)
		}
	}
	want := 4 // two tags, the referrers of two subjects
	if log[len(log)-1].method == http.MethodHead {
		want = 7 // no API: one question about it, two indexes, two referrers by digest
	}
	if len(log) != want {
		t.Errorf("second run: %d requests, want %d: %v", len(log), want, log)
	}
}

func TestRunCountsRequests(t *testing.T) {
	registries(t, func(t *testing.T, reg *registry) {
		f := newFake(t)
		f.root("quay.io/a/x:1", f.image("x", f.layer(1, 100_000), f.layer(2, 2<<20), f.layer(3, 0)))
		o := options(t, reg)
		if _, _, err := run(t.Context(), f, o); err != nil {
			t.Fatal(err)
		}
		// 4 blobs of POST and PUT, HEAD before and after, one PUT for the tag.
		if log := reg.requests(); len(log) != 4*2+3 {
			t.Errorf("first run: %d requests, want 11: %v", len(log), log)
		}
		f.root("quay.io/a/x:2", f.entries[0].Descriptor)
		f.entries = f.entries[1:]
		_, result, err := run(t.Context(), f, o)
		if err != nil || result.Sent != 0 || result.Reused != 4 {
			t.Errorf("new tag: %+v, %v", result, err)
		}
		// Blobs that are there cost one request each.
		if log := reg.requests(); len(log) != 4+3 {
			t.Errorf("new tag: %d requests, want 7: %v", len(log), log)
		}
		_, result, err = run(t.Context(), f, o)
		if log := reg.requests(); err != nil || result.Unchanged != 1 || len(log) != 1 {
			t.Errorf("again: %+v, %v, %v", result, err, log)
		}
	})
}

func TestRunSendsSharedBlobsOnce(t *testing.T) {
	registries(t, func(t *testing.T, reg *registry) {
		f := newFake(t)
		shared := f.layer(1, 4<<20)
		f.root("quay.io/a/x:1", f.image("x", shared, f.layer(2, 50_000)))
		f.root("ghcr.io/b/y:1", f.image("y", shared, f.layer(3, 60_000)))
		f.root("ghcr.io/b/y:2", f.image("y", shared, f.layer(4, 60_000)))
		o := options(t, reg)
		_, result, err := run(t.Context(), f, o)
		if err != nil {
			t.Fatal(err)
		}
		var unique, sent int64
		for d, raw := range f.blobs {
			if _, ok := f.manifests[d]; !ok {
				unique += int64(len(raw))
			}
		}
		for _, r := range reg.requests() {
			if strings.Contains(r.path, "/blobs/uploads/") {
				sent += r.body
			}
		}
		if sent != unique || result.Bytes != unique || result.Reused != 1 {
			t.Errorf("sent %d of %d unique bytes, result %+v", sent, unique, result)
		}
		for d, n := range f.fetched {
			if n != 1 {
				t.Errorf("%s was read %d times", d, n)
			}
		}
		// A later bundle mounts from what an unchanged image has.
		f.root("quay.io/c/z:1", f.image("z", shared))
		_, result, err = run(t.Context(), f, o)
		if err != nil || result.Unchanged != 3 || result.Pushed != 1 || result.Sent != 1 || result.Reused != 1 {
			t.Errorf("second bundle: %+v, %v", result, err)
		}
	})
}

func TestRunConflict(t *testing.T) {
	registries(t, func(t *testing.T, reg *registry) {
		f := newFake(t)
		old := f.image("old", f.layer(1, 1000))
		f.root("quay.io/a/x:1", old)
		o := options(t, reg)
		if _, _, err := run(t.Context(), f, o); err != nil {
			t.Fatal(err)
		}
		reg.requests()
		f.entries = nil
		changed := f.image("new", f.layer(2, 1000))
		f.root("quay.io/a/x:1", changed)
		f.root("quay.io/a/y:1", f.image("y", f.layer(3, 1000)))
		m, result, err := run(t.Context(), f, o)
		partial := as[*PartialError](t, err)
		conflict := as[*ConflictError](t, err)
		want := &ConflictError{Target: reg.host + "/airlock/a/x:1", Existing: old.Digest, Want: changed.Digest}
		if diff := cmp.Diff(want, conflict); diff != "" {
			t.Errorf("conflict (-want +got):\n%s", diff)
		}
		if partial.Done != 1 || partial.Total != 2 || result.Failed != 1 || len(m.Entries) != 1 || m.Entries[0].Source != "quay.io/a/y:1" {
			t.Errorf("partial %+v, result %+v, map %+v", partial, result, m)
		}
		for _, r := range reg.requests() {
			if strings.Contains(r.path, "/a/x/") && r.method != http.MethodHead {
				t.Errorf("conflicting item: %s", r)
			}
		}
	})
}

// A later bundle carries the same image with one more signature.
func TestRunAddsSignatures(t *testing.T) {
	registries(t, func(t *testing.T, reg *registry) {
		f := newFake(t)
		image := f.image("x", f.layer(1, 1000))
		f.root("quay.io/a/x:1", image)
		o := options(t, reg)
		if _, _, err := run(t.Context(), f, o); err != nil {
			t.Fatal(err)
		}
		added := f.artifact("application/vnd.test.signature", "late", image)
		f.entry(bundle.KindImage, "", bundle.RoleReferrer, added)
		cosign := f.image("cosign", f.layer(9, 10))
		f.entry(bundle.KindImage, "quay.io/a/x:sha256-"+image.Digest.Encoded()+".sig", bundle.RoleCosignTag, cosign)
		_, result, err := run(t.Context(), f, o)
		if err != nil || result.Pushed != 1 {
			t.Fatalf("%+v, %v", result, err)
		}
		repo := reg.repository(t, "airlock/a/x")
		list, err := repo.Predecessors(t.Context(), image)
		if err != nil || len(list) != 1 || list[0].Digest != added.Digest {
			t.Errorf("referrers = %v, %v", list, err)
		}
		got, err := oras.Resolve(t.Context(), repo, "sha256-"+image.Digest.Encoded()+".sig", oras.DefaultResolveOptions)
		if err != nil || got.Digest != cosign.Digest {
			t.Errorf("cosign tag = %v, %v", got, err)
		}
	})
}

// What speaks of an index that was cut down stays in the bundle.
func TestRunDerivedIndex(t *testing.T) {
	registries(t, func(t *testing.T, reg *registry) {
		f := newFake(t)
		amd := f.image("amd64", f.layer(1, 1000))
		amd.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
		absent := amd
		absent.Digest = digest.FromString("not carried")
		whole := f.index(nil, amd, absent)
		derived := f.index(map[string]string{bundle.AnnotationDerivedFrom: whole.Digest.String()}, amd)
		f.root("quay.io/a/x:1", derived)
		f.entry(bundle.KindImage, "quay.io/a/x:1", bundle.RoleSourceIndex, whole)
		f.entry(bundle.KindImage, "", bundle.RoleReferrer, f.artifact("application/spdx+json", "sbom", whole))
		f.entry(bundle.KindImage, "quay.io/a/x:sha256-"+whole.Digest.Encoded()+".sig", bundle.RoleCosignTag, f.image("sig"))
		m, result, err := run(t.Context(), f, options(t, reg))
		if err != nil || result.LeftOut != 2 {
			t.Fatalf("%+v, %v", result, err)
		}
		e := m.Entries[0]
		if e.SourceDigest != whole.Digest.String() || e.Digest != derived.Digest.String() || len(e.Referrers) != 0 {
			t.Errorf("entry %+v", e)
		}
		for _, r := range reg.requests() {
			if strings.Contains(r.path, whole.Digest.Encoded()) {
				t.Errorf("source index: %s", r)
			}
		}
	})
}

func TestPlanCollisions(t *testing.T) {
	f := newFake(t)
	f.root("quay.io/a/x:1", f.image("one", f.layer(1, 10)))
	f.root("ghcr.io/a/x:1", f.image("two", f.layer(2, 10)))
	f.root("ghcr.io/b/UPPER:1", f.image("three"))
	_, err := makePlan(t.Context(), f, Options{To: "r.test/p"})
	c := as[*CollisionError](t, err)
	if c.Place.String() != "p/a/x:1" || !strings.Contains(err.Error(), "UPPER") {
		t.Errorf("error %v", err)
	}
	f.entries = f.entries[:2]
	plan, err := makePlan(t.Context(), f, Options{To: "r.test/p", Mapping: Mapping{Hosts: KeepHost}})
	if err != nil || len(plan.Items) != 2 {
		t.Fatalf("keeping hosts: %v", err)
	}
	f.entries[1].Descriptor = f.entries[0].Descriptor
	plan, err = makePlan(t.Context(), f, Options{To: "r.test/p"})
	if err != nil || len(plan.Items) != 1 || len(plan.Items[0].Origins) != 2 {
		t.Errorf("same content twice: %+v, %v", plan, err)
	}
	if _, err := makePlan(t.Context(), f, Options{To: "r.test/" + strings.Repeat("a/", 130) + "a"}); err == nil {
		t.Error("a name longer than 255 bytes is accepted")
	}
}

func TestDryRun(t *testing.T) {
	reg := newOlareg(t, true)
	f := newFake(t)
	shared := f.layer(1, 5000)
	same := f.image("same", shared)
	f.root("quay.io/a/same:1", same)
	f.root("quay.io/a/taken:1", f.image("before"))
	o := options(t, reg)
	if _, _, err := run(t.Context(), f, o); err != nil {
		t.Fatal(err)
	}
	reg.requests()
	f.entries = nil
	f.root("quay.io/a/absent:1", f.image("absent", shared))
	f.root("quay.io/a/same:1", same)
	f.root("quay.io/a/taken:1", f.image("after"))
	p, err := dryRun(t.Context(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	var states []State
	for _, it := range p.Items {
		states = append(states, it.State)
	}
	if diff := cmp.Diff([]State{Absent, Same, Conflict}, states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	if p.Totals.Blobs != 1 || p.Totals.Mounts != 1 || p.Totals.Bytes >= 5000 || p.Totals.Requests != 2+1+2 {
		t.Errorf("totals %+v", p.Totals)
	}
	if taken := p.Items[2]; taken.Tags[0].Have == "" || taken.Tags[0].Have == taken.Tags[0].Want || taken.Problem == "" {
		t.Errorf("conflict %+v", taken)
	}
	for _, r := range reg.requests() {
		if r.method != http.MethodHead {
			t.Errorf("dry run sends %s", r)
		}
	}
}

func TestRunCancelled(t *testing.T) {
	reg := newOlareg(t, true)
	f := newFake(t)
	for i := range 5 {
		f.root("quay.io/a/x:"+string(rune('a'+i)), f.image("x", f.layer(uint64(i+1), 1<<20)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	reg.setFault(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			cancel()
		}
		return false
	})
	m, _, err := run(ctx, f, options(t, reg))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if len(m.Entries) == 5 {
		t.Error("a cancelled run claims all")
	}
}

func TestZeroOptions(t *testing.T) {
	if _, _, err := run(t.Context(), newFake(t), Options{To: "r.test"}); err == nil {
		t.Error("no hosts: accepted")
	}
	if _, _, err := run(t.Context(), newFake(t), Options{}); err == nil {
		t.Error("no target: accepted")
	}
}

// The zero bundle is no proof of anything.
func TestZeroBundle(t *testing.T) {
	reg := newOlareg(t, true)
	if _, _, err := Run(t.Context(), &verify.Bundle{}, options(t, reg)); err == nil {
		t.Error("Run takes an unverified bundle")
	}
	if _, err := DryRun(t.Context(), &verify.Bundle{}, options(t, reg)); err == nil {
		t.Error("DryRun takes an unverified bundle")
	}
	if _, err := Handler(t.Context(), &verify.Bundle{}, nil); err == nil {
		t.Error("Handler takes an unverified bundle")
	}
	if log := reg.requests(); len(log) != 0 {
		t.Errorf("requests were sent: %v", log)
	}
}

// Over TLS with a password, the bodies still go over HTTP/1.1.
func TestRunAuthenticated(t *testing.T) {
	users, err := config.NewAuthBasicStatic(map[string]string{"robot": "secret"}, false)
	if err != nil {
		t.Fatal(err)
	}
	s := olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}, Auth: users})
	t.Cleanup(func() { _ = s.Close() }) // memory only
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("%s %s over %s", r.Method, r.URL.Path, r.Proto)
		}
		s.ServeHTTP(w, r)
	}))
	ts.EnableHTTP2 = true
	ts.StartTLS()
	t.Cleanup(ts.Close)
	ca := authority(t, ts)
	host := strings.TrimPrefix(ts.URL, "https://")
	f := newFake(t)
	signed(f)
	for _, password := range []string{"wrong", "secret"} {
		h, err := remote.New(remote.Options{
			CAFiles: []string{ca}, Attempts: 1,
			Credentials: map[string]remote.Credential{host: {Username: "robot", Password: password}},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, result, err := run(t.Context(), f, Options{To: host + "/airlock", Hosts: h, Target: oci.Target{}})
		if password == "secret" {
			if err != nil || result.Pushed != 1 {
				t.Errorf("%+v, %v", result, err)
			}
			continue
		}
		_ = as[*remote.AuthError](t, err)
		if strings.Contains(err.Error(), password) {
			t.Errorf("error shows the password: %v", err)
		}
	}
}
