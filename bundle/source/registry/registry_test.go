package registry

import (
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/manifests"
	"github.com/google/go-cmp/cmp"
	"github.com/olareg/olareg/config"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var _ bundle.Source = (*Source)(nil)

func TestSingleImage(t *testing.T) {
	f := newFixture(t, newOlareg(t, config.Config{}))
	d := f.image("app", "v1", "linux/amd64")
	ref := f.host + "/app:v1"
	pin := f.must(ref, "linux/amd64")
	want := bundle.Item{Kind: bundle.KindImage, Name: ref, Ref: ref}
	if diff := cmp.Diff(want, pin.Item); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{line("root", d, "linux/amd64", ref)}, outline(pin)); diff != "" {
		t.Error(diff)
	}
	if len(pin.Blobs) != 2 || pin.Origin != f.host+"/app:v1@"+d.Digest.String() {
		t.Errorf("blobs %v, origin %s", pin.Blobs, pin.Origin)
	}
	if got := f.source(ref).Origin(); got != "image "+ref {
		t.Errorf("Origin() = %q", got)
	}

	byDigest := f.host + "/app@" + d.Digest.String()
	if got := f.must(byDigest); got.Manifests[0].Ref != byDigest {
		t.Errorf("by digest: %v", outline(got))
	}
	f.take()
	both := f.host + "/app:anything@" + d.Digest.String()
	if got, err := f.resolve(both); err != nil || got.Manifests[0].Ref != both || got.Origin != both {
		t.Errorf("tag and digest: %v, %v, %s", outline(got), err, got.Origin)
	}
	for _, q := range f.take() {
		if strings.Contains(q, "anything") {
			t.Errorf("the tag was asked for although the digest is given: %s", q)
		}
	}
}

func TestIndex(t *testing.T) {
	f := newFixture(t, newOlareg(t, config.Config{}))
	amd, arm := f.image("app", "", "linux/amd64"), f.image("app", "", "linux/arm64")
	v6, v7 := f.image("app", "", "linux/arm/v6"), f.image("app", "", "linux/arm/v7")
	aAmd, aArm := f.attestation("app", amd), f.attestation("app", arm)
	root := f.index("app", "v1", amd, arm, v6, v7, aAmd, aArm)
	ref := f.host + "/app:v1"

	whole := []string{
		line("root", root, ref),
		line("child", amd, "linux/amd64"), line("child", arm, "linux/arm64"),
		line("child", v6, "linux/arm/v6"), line("child", v7, "linux/arm/v7"),
		line("child", aAmd), line("child", aArm),
	}
	for _, all := range [][]string{nil, {"all"}, {"linux/amd64", "linux/arm64/v8", "linux/arm"}} {
		if diff := cmp.Diff(whole, outline(f.must(ref, all...))); diff != "" {
			t.Errorf("%v: %s", all, diff)
		}
	}

	for _, tc := range []struct {
		want []string
		kept []string
	}{
		{[]string{"linux/amd64"}, []string{line("child", amd, "linux/amd64"), line("child", aAmd)}},
		{[]string{"linux/arm64", "linux/amd64"}, []string{line("child", amd, "linux/amd64"), line("child", arm, "linux/arm64"), line("child", aAmd), line("child", aArm)}},
		{[]string{"linux/arm/v7"}, []string{line("child", v7, "linux/arm/v7")}},
		{[]string{"linux/arm"}, []string{line("child", v6, "linux/arm/v6"), line("child", v7, "linux/arm/v7")}},
	} {
		pin := f.must(ref, tc.want...)
		got := outline(pin)
		if got[0] != "root "+pin.Manifests[0].Digest.Encoded()[:8]+" "+ref || got[1] != line("source-index", root) {
			t.Errorf("%v: begins with %v", tc.want, got[:2])
		}
		if diff := cmp.Diff(tc.kept, got[2:]); diff != "" {
			t.Errorf("%v: %s", tc.want, diff)
		}
	}

	_, err := f.resolve(ref, "linux/amd64", "linux/s390x", "windows/amd64")
	want := &PlatformError{Ref: ref, Missing: []string{"linux/s390x", "windows/amd64"}, Have: []string{"linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64"}}
	if e, _ := errors.AsType[*PlatformError](err); cmp.Diff(want, e) != "" {
		t.Errorf("missing platforms: %v\n%s", err, cmp.Diff(want, e))
	}
}

func TestSingleImageOfOtherPlatform(t *testing.T) {
	f := newFixture(t, newOlareg(t, config.Config{}))
	f.image("app", "v1", "linux/arm64")
	_, err := f.resolve(f.host+"/app:v1", "linux/amd64")
	if e, ok := errors.AsType[*PlatformError](err); !ok || !slices.Equal(e.Missing, []string{"linux/amd64"}) || !slices.Equal(e.Have, []string{"linux/arm64"}) {
		t.Errorf("got %v, want both platforms named", err)
	}
	f.manifest("chart", "1.0.0", "application/vnd.cncf.helm.config.v1+json", struct{}{}, ocispec.Manifest{}, "chart")
	f.must(f.host+"/chart:1.0.0", "linux/amd64")
}

// The derived index is the source's descriptors, byte by byte.
func TestDerivedIndexGolden(t *testing.T) {
	s := &strange{}
	f := newFixture(t, s)
	layer := `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}`
	kept := s.add("", mediaTypeDockerManifest, []byte(`{"schemaVersion":2,"mediaType":"`+mediaTypeDockerManifest+`","config":`+layer+`,"layers":[]}`))
	one := `{ "size":256, "digest":"` + kept.Digest.String() + `","mediaType":"` + mediaTypeDockerManifest + `", "platform":{"os":"linux","architecture":"amd64","features":["<sse4>"]} }`
	if kept.Size != 256 {
		t.Fatalf("the child has %d bytes", kept.Size)
	}
	two := `{"mediaType":"` + mediaTypeDockerManifest + `","digest":"sha256:` + strings.Repeat("a", 64) + `","size":1,"platform":{"os":"linux","architecture":"arm64"}}`
	root := s.add("v1", mediaTypeDockerList, []byte(`{"manifests":[`+two+`,`+one+`],"mediaType":"`+mediaTypeDockerList+`","schemaVersion":2,"x":1}`))

	pin, err := f.resolve(f.host+"/app:v1", "linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	want := `{"schemaVersion":2,"mediaType":"` + mediaTypeDockerList + `","manifests":[` + one + `],"annotations":{"dev.airlock.derived-from":"` + root.Digest.String() + `"}}`
	if diff := cmp.Diff(want, string(pin.Manifests[0].Raw)); diff != "" {
		t.Error(diff)
	}
}

func TestReferrersAndCosignTags(t *testing.T) {
	off := false
	for name, c := range map[string]config.Config{
		"API":        {},
		"tag schema": {API: config.ConfigAPI{Referrer: config.ConfigAPIReferrer{Enabled: &off}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, newOlareg(t, c))
			amd, arm := f.image("app", "", "linux/amd64"), f.image("app", "", "linux/arm64")
			root := f.index("app", "v1", amd, arm)
			sbom := f.attach("app", "application/spdx+json", root)
			sbomSig := f.attach("app", "application/vnd.dev.cosign.artifact.sig.v1+json", sbom)
			amdSBOM := f.attach("app", "application/spdx+json", amd)
			f.attach("app", "application/spdx+json", arm)
			sigTag := "sha256-" + root.Digest.Encoded() + ".sig"
			sig := f.manifest("app", sigTag, ocispec.MediaTypeImageConfig, struct{}{}, ocispec.Manifest{}, "signature")
			attTag := "sha256-" + amd.Digest.Encoded() + ".att"
			att := f.manifest("app", attTag, ocispec.MediaTypeImageConfig, struct{}{}, ocispec.Manifest{}, "attestation")

			pin := f.must(f.host+"/app:v1", "linux/amd64")
			want := []string{
				"root " + pin.Manifests[0].Digest.Encoded()[:8] + " " + f.host + "/app:v1",
				line("source-index", root),
				line("child", amd, "linux/amd64"),
				line("referrer", sbom), line("cosign-tag", sig, f.host+"/app:"+sigTag),
				line("referrer", amdSBOM), line("cosign-tag", att, f.host+"/app:"+attTag),
				line("referrer", sbomSig),
			}
			if diff := cmp.Diff(want, outline(pin)); diff != "" {
				t.Error(diff)
			}
			if pin.Manifests[3].ArtifactType != "application/spdx+json" {
				t.Errorf("artifact type %q", pin.Manifests[3].ArtifactType)
			}
			again := f.must(f.host+"/app:v1", "linux/amd64")
			if diff := cmp.Diff(pin, again); diff != "" {
				t.Errorf("a second resolve differs: %s", diff)
			}
		})
	}
}

// What is a referrer and a cosign tag at once is listed as both, fetched once.
func TestManifestOfTwoRoles(t *testing.T) {
	f := newFixture(t, newOlareg(t, config.Config{}))
	root := f.image("app", "v1", "linux/amd64")
	sig := f.attach("app", "application/vnd.dev.cosign.artifact.sig.v1+json", root)
	r, err := f.hosts.Repository(f.host + "/app")
	if err != nil {
		t.Fatal(err)
	}
	tag := "sha256-" + root.Digest.Encoded() + ".sig"
	if err := r.Tag(t.Context(), sig, tag); err != nil {
		t.Fatal(err)
	}
	ref := f.host + "/app:v1"
	want := []string{line("root", root, "linux/amd64", ref), line("referrer", sig), line("cosign-tag", sig, f.host+"/app:"+tag)}
	if diff := cmp.Diff(want, outline(f.must(ref))); diff != "" {
		t.Error(diff)
	}
}

func TestNestedIndex(t *testing.T) {
	f := newFixture(t, newOlareg(t, config.Config{}))
	amd, arm, s390 := f.image("app", "", "linux/amd64"), f.image("app", "", "linux/arm64"), f.image("app", "", "linux/s390x")
	inner := f.index("app", "", amd, arm)
	root := f.index("app", "v1", inner, s390)
	ref := f.host + "/app:v1"
	want := []string{line("root", root, ref), line("child", inner), line("child", s390, "linux/s390x"), line("child", amd, "linux/amd64"), line("child", arm, "linux/arm64")}
	if diff := cmp.Diff(want, outline(f.must(ref))); diff != "" {
		t.Error(diff)
	}
	got := outline(f.must(ref, "linux/amd64"))
	want = []string{line("source-index", root), line("child", inner), line("child", amd, "linux/amd64"), line("child", arm, "linux/arm64")}
	if diff := cmp.Diff(want, got[1:]); diff != "" {
		t.Error(diff)
	}
	deep := inner
	for range 3 {
		deep = f.index("app", "deep", deep)
	}
	f.must(f.host + "/app:deep")
	f.index("app", "deep", deep)
	if _, err := f.resolve(f.host + "/app:deep"); err == nil || !strings.Contains(err.Error(), "nest deeper than 4") {
		t.Errorf("got %v, want a limit on depth", err)
	}
}

func TestLocked(t *testing.T) {
	f := newFixture(t, newOlareg(t, config.Config{}))
	amd, arm := f.image("app", "", "linux/amd64"), f.image("app", "", "linux/arm64")
	root := f.index("app", "v1", amd, arm, f.attestation("app", amd))
	f.attach("app", "application/spdx+json", amd)
	ref := f.host + "/app:v1"
	pin := f.must(ref, "linux/amd64")
	f.image("app", "v1", "linux/amd64") // the tag moves on

	locked := pin
	locked.Manifests = slices.Clone(pin.Manifests)
	for i := range locked.Manifests {
		locked.Manifests[i].Raw = nil
	}
	f.connect(remote.Options{PlainHTTP: []string{f.host}}) // with an empty spool
	f.take()
	s := f.source(ref, "linux/amd64")
	got, err := s.Resolve(t.Context(), []bundle.Pin{locked})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]bundle.Pin{locked}, got); diff != "" {
		t.Error(diff)
	}
	if q := f.take(); len(q) != 0 {
		t.Errorf("resolving from a lock asked %v", q)
	}
	f.openAll(s, got[0])
	for _, q := range f.take() {
		if !strings.Contains(q, "sha256:") {
			t.Errorf("opening from a lock asked %s", q)
		}
	}

	locked.Manifests = slices.DeleteFunc(slices.Clone(locked.Manifests), func(m bundle.Manifest) bool { return m.Digest == amd.Digest })
	f.connect(remote.Options{PlainHTTP: []string{f.host}})
	_, err = f.source(ref, "linux/amd64").Open(t.Context(), locked, locked.Manifests[0].Descriptor)
	if e, ok := errors.AsType[*DigestError](err); !ok || e.Want != locked.Manifests[0].Digest {
		t.Errorf("a lock without the child: got %v, want *DigestError", err)
	}
	if _, err := f.source(ref+"@"+root.Digest.String()).Resolve(t.Context(), []bundle.Pin{pin}); err != nil {
		t.Errorf("the digest is that of the source index: %v", err)
	}
	if _, err := f.source(ref+"@"+amd.Digest.String()).Resolve(t.Context(), []bundle.Pin{pin}); err == nil {
		t.Error("a lock that contradicts the definition's digest was taken")
	}
}

func TestBasicAuthOverTLS(t *testing.T) {
	dir := config.ConfigStorage{StoreType: config.StoreDir, RootDir: t.TempDir()}
	seed := newFixture(t, newOlareg(t, config.Config{Storage: dir}))
	seed.image("app", "v1", "linux/amd64") // without login, whose password hash is slow
	a, err := config.NewAuthBasicStatic(map[string]string{"me": "s3cr3t"}, false)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewTLSServer(newOlareg(t, config.Config{Auth: a, Storage: dir}))
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &fixture{requests: &requests{}, t: t, host: s.Listener.Addr().String()}
	o := remote.Options{CAFiles: []string{ca}, Credentials: map[string]remote.Credential{f.host: {Username: "me", Password: "s3cr3t"}}}
	f.connect(o)
	f.must(f.host + "/app:v1")

	for name, c := range map[string]map[string]remote.Credential{
		"wrong password": {f.host: {Username: "me", Password: "wr0ng"}},
		"no credentials": nil,
	} {
		o.Credentials = c
		f.connect(o)
		_, err := f.resolve(f.host + "/app:v1")
		if e, ok := errors.AsType[*remote.AuthError](err); !ok || e.Host != f.host || strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("%s: got %v, want *remote.AuthError", name, err)
		}
	}
	f.connect(remote.Options{})
	if _, err := f.resolve(f.host + "/app:v1"); err == nil || !strings.Contains(err.Error(), "resolve image "+f.host+"/app:v1: secure the connection") {
		t.Errorf("unknown CA: got %v", err)
	}
}

func TestNotThere(t *testing.T) {
	f := newFixture(t, newOlareg(t, config.Config{}))
	f.image("app", "v1", "linux/amd64")
	_, err := f.resolve(f.host + "/app:v2")
	if e, ok := errors.AsType[*remote.NotFoundError](err); !ok || e.Ref != f.host+"/app:v2" {
		t.Errorf("got %v, want *remote.NotFoundError", err)
	}
	_, err = f.resolve(f.host + "/app@" + digest.FromString("x").String())
	if _, ok := errors.AsType[*remote.NotFoundError](err); !ok {
		t.Errorf("got %v, want *remote.NotFoundError", err)
	}
}

func TestDefinitionRefused(t *testing.T) {
	f := newFixture(t, newOlareg(t, config.Config{}))
	for _, tc := range []struct {
		img  manifests.Image
		want string
	}{
		{manifests.Image{Ref: "Bad/Name"}, `reference "Bad/Name"`},
		{manifests.Image{Ref: "a.b/c", Platforms: manifests.Platforms{"amd64"}}, `platform "amd64": want os/arch`},
		{manifests.Image{Ref: "a.b/c", Platforms: manifests.Platforms{"all", "linux/amd64"}}, `platform "all": want os/arch`},
	} {
		_, err := New(f.hosts, f.spool, tc.img, nil).Resolve(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: got %v, want %q", tc.img, err, tc.want)
		}
	}
	if len(f.take()) != 0 {
		t.Error("a request was made")
	}
}

func TestRepositoryAsWritten(t *testing.T) {
	for in, want := range map[string]string{
		"nginx": "nginx", "nginx:1": "nginx", "a:5000/b": "a:5000/b", "a:5000/b:c": "a:5000/b", "a/b:c@sha256:d": "a/b", "a/b@sha256:d": "a/b",
	} {
		if got := repositoryAsWritten(in); got != want {
			t.Errorf("repositoryAsWritten(%q) = %q, want %q", in, got, want)
		}
	}
}
