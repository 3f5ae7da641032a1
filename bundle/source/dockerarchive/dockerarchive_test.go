package dockerarchive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/airlock-project/airlock/bundle/source/file"
	"github.com/airlock-project/airlock/manifests"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var _ bundle.Source = (*Source)(nil)

const ref = "backend:v1.0.0"

func newSpool(t testing.TB) *bundle.Spool {
	t.Helper()
	s, err := bundle.OpenSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// entry is a member of a tar made by a test.
type entry struct {
	name string
	data []byte
	link string // symbolic link
	typ  byte
}

func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Size: int64(len(e.data)), Mode: 0o644, Typeflag: e.typ, Linkname: e.link}
		if e.link != "" && e.typ == 0 {
			h.Typeflag = tar.TypeSymlink
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// layer is a layer tar of about size bytes; the same seed gives the same one.
func layer(t testing.TB, seed int64, size int) []byte {
	data := make([]byte, size)
	rand.New(rand.NewSource(seed)).Read(data)
	return makeTar(t, entry{name: fmt.Sprintf("etc/file-%d", seed), data: data})
}

func configFor(layers ...[]byte) []byte {
	ids := []string{}
	for _, l := range layers {
		ids = append(ids, digest.FromBytes(l).String())
	}
	b, _ := json.Marshal(ids) // strings always encode
	return fmt.Appendf(nil, `{"architecture":"amd64","os":"linux", "rootfs":{"type":"layers","diff_ids":%s},"x-odd":  1}`, b)
}

func dockerSave(config string, tags []string, layers ...string) []byte {
	b, _ := json.Marshal([]any{map[string]any{"Config": config, "RepoTags": tags, "Layers": layers}}) // strings always encode
	return b
}

func read(t testing.TB, raw []byte) (*Image, *bundle.Spool, error) {
	t.Helper()
	s := newSpool(t)
	img, err := Read(t.Context(), bytes.NewReader(raw), s, Options{As: ref})
	return img, s, err
}

// check reads everything of an image back and checks digests and diffIDs.
func check(t *testing.T, s *bundle.Spool, img *Image) {
	t.Helper()
	blobs := map[digest.Digest][]byte{}
	all := img.Blobs
	for _, m := range img.Manifests {
		all = append(all[:len(all):len(all)], m.Descriptor)
	}
	for _, d := range all {
		rc, err := s.Open(d)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			t.Fatal(err)
		}
		if int64(len(b)) != d.Size || digest.FromBytes(b) != d.Digest {
			t.Errorf("blob %s is not what its descriptor says", d.Digest)
		}
		blobs[d.Digest] = b
	}
	for i, l := range manifestOf(t, img).Layers {
		b := blobs[l.Digest]
		if l.MediaType == ocispec.MediaTypeImageLayerZstd {
			z, err := zstd.NewReader(nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, err = z.DecodeAll(b, nil); err != nil {
				t.Fatal(err)
			}
			z.Close()
			if got := digest.FromBytes(b); got != img.DiffIDs[i] {
				t.Errorf("layer %d unpacks to %s, want %s", i, got, img.DiffIDs[i])
			}
		}
	}
}

func manifestOf(t *testing.T, img *Image) ocispec.Manifest {
	t.Helper()
	var m ocispec.Manifest
	if err := json.Unmarshal(img.Manifests[0].Raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDockerSave(t *testing.T) {
	a, b := layer(t, 1, 100_000), layer(t, 2, 200)
	config := configFor(a, b, a)
	id := digest.FromBytes(config)
	// As Docker wrote it before version 25: layers first, a layer that occurs
	// twice as a link, small files beside each.
	raw := makeTar(t,
		entry{name: "l1/", typ: tar.TypeDir},
		entry{name: "l1/layer.tar", data: a}, entry{name: "l1/VERSION", data: []byte("1.0")},
		entry{name: "l2/layer.tar", data: b}, entry{name: "l3/layer.tar", link: "../l1/layer.tar"},
		entry{name: id.Encoded() + ".json", data: config},
		entry{name: "manifest.json", data: dockerSave(id.Encoded()+".json", []string{ref}, "l1/layer.tar", "l2/layer.tar", "l3/layer.tar")},
		entry{name: "repositories", data: []byte("{}")},
	)
	img, s, err := read(t, raw)
	if err != nil {
		t.Fatal(err)
	}
	check(t, s, img)
	m := manifestOf(t, img)
	if m.Config.Digest != id || m.Config.MediaType != ocispec.MediaTypeImageConfig || len(m.Layers) != 3 || m.Layers[0].Digest != m.Layers[2].Digest {
		t.Errorf("manifest = %+v", m)
	}
	if len(img.Blobs) != 3 || img.Platform.Architecture != "amd64" || img.ConfigDigest != id {
		t.Errorf("image = %+v", img)
	}
	if got, want := img.Manifests[0].Digest.String(), "sha256:a2307cd27e24e6ca614475963281628a8b839d1d1ef861989bf0373d88faec0a"; got != want {
		t.Errorf("golden digest = %s, want %s", got, want)
	}
}

func TestGoContainerRegistryTar(t *testing.T) {
	base, err := random.Image(100_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	cf, err := base.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf.OS, cf.Architecture = "linux", "arm64"
	want, err := mutate.ConfigFile(base, cf)
	if err != nil {
		t.Fatal(err)
	}
	other, err := random.Image(1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	images := map[name.Tag]v1.Image{}
	for as, img := range map[string]v1.Image{ref: want, "other:v1": other} {
		tag, err := name.NewTag(as)
		if err != nil {
			t.Fatal(err)
		}
		images[tag] = img
	}
	if err := tarball.MultiWriteToFile(path, images); err != nil {
		t.Fatal(err)
	}
	entry := manifests.Image{Path: path, As: ref, Platforms: manifests.Platforms{"linux/arm64"}}
	s := New(newSpool(t), entry, file.Options{})
	pins, err := s.Resolve(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := want.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if pins[0].Blobs[0].Digest.String() != id.String() {
		t.Errorf("config = %s, want %s", pins[0].Blobs[0].Digest, id)
	}
	if pins[0].Manifests[0].Ref != ref || pins[0].Name != ref || pins[0].Kind != bundle.KindImage {
		t.Errorf("pin = %+v", pins[0])
	}
	again, err := New(newSpool(t), entry, file.Options{}).Resolve(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(pins, again); d != "" {
		t.Errorf("second read differs:\n%s", d)
	}
	entry.Platforms = manifests.Platforms{"linux/amd64"}
	_, err = New(newSpool(t), entry, file.Options{}).Resolve(t.Context(), nil)
	if _, ok := errors.AsType[*PlatformError](err); !ok {
		t.Errorf("other platform: got %v, want *PlatformError", err)
	}
	entry.As = "third:v1"
	_, err = New(newSpool(t), entry, file.Options{}).Resolve(t.Context(), nil)
	if e, ok := errors.AsType[*SelectError](err); !ok || len(e.Have) != 2 {
		t.Errorf("unknown tag: got %v, want *SelectError", err)
	}
}

// ociLayout is a layout with one manifest over the layers as they are given.
func ociLayout(t *testing.T, mediaType string, layers, plain [][]byte) ([]entry, digest.Digest) {
	t.Helper()
	config := configFor(plain...)
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: desc(ocispec.MediaTypeImageConfig, config)}
	m.SchemaVersion = 2
	entries := []entry{{name: "oci-layout", data: []byte(`{"imageLayoutVersion":"1.0.0"}`)}, blobEntry(config)}
	for _, l := range layers {
		m.Layers = append(m.Layers, desc(mediaType, l))
		entries = append(entries, blobEntry(l))
	}
	raw, err := json.MarshalIndent(m, "", "   ") // bytes that Airlock would not write itself
	if err != nil {
		t.Fatal(err)
	}
	root := desc(m.MediaType, raw)
	root.Annotations = map[string]string{ocispec.AnnotationRefName: "v1.0.0"}
	index, err := json.Marshal(ocispec.Index{Manifests: []ocispec.Descriptor{root}})
	if err != nil {
		t.Fatal(err)
	}
	return append(entries, blobEntry(raw), entry{name: "index.json", data: index}), root.Digest
}

func desc(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func blobEntry(b []byte) entry { return entry{name: blobName(digest.FromBytes(b)), data: b} }

func TestLayout(t *testing.T) {
	plain := layer(t, 3, 100_000)
	var packed bytes.Buffer
	z, err := bundle.NewZstdWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name      string
		mediaType string
		layer     []byte
		docker    bool // manifest.json too
		verbatim  bool // the layout's own manifest comes out
	}{
		{"compressed", ocispec.MediaTypeImageLayerZstd, packed.Bytes(), false, true},
		{"uncompressed", ocispec.MediaTypeImageLayer, plain, false, true},
		{"docker with compressed layers", ocispec.MediaTypeImageLayerZstd, packed.Bytes(), true, true},
		{"docker with plain layers", ocispec.MediaTypeImageLayer, plain, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			entries, root := ociLayout(t, tc.mediaType, [][]byte{tc.layer}, [][]byte{plain})
			config := configFor(plain)
			if tc.docker {
				entries = append(entries, entry{name: "manifest.json", data: dockerSave(blobName(digest.FromBytes(config)), []string{ref}, blobName(digest.FromBytes(tc.layer)))})
			}
			img, s, err := read(t, makeTar(t, entries...))
			if err != nil {
				t.Fatal(err)
			}
			check(t, s, img)
			if got := img.Manifests[0].Digest == root; got != tc.verbatim {
				t.Errorf("manifest kept = %v, want %v", got, tc.verbatim)
			}
			if img.ConfigDigest != digest.FromBytes(config) || img.Platform.OS != "linux" {
				t.Errorf("image = %+v", img)
			}
			if tc.docker && !cmp.Equal(img.RepoTags, []string{ref}) {
				t.Errorf("RepoTags = %v", img.RepoTags)
			}
		})
	}
}

// A layout that means another image than manifest.json is not believed.
func TestLayoutOfAnotherImage(t *testing.T) {
	other, mine := layer(t, 4, 100_000), layer(t, 5, 100_000)
	entries, _ := ociLayout(t, ocispec.MediaTypeImageLayerGzip, [][]byte{other}, [][]byte{other})
	config := configFor(mine)
	img, s, err := read(t, makeTar(t, append(entries, entry{name: "c.json", data: config}, entry{name: "m.tar", data: mine},
		entry{name: "manifest.json", data: dockerSave("c.json", []string{ref}, "m.tar")})...))
	if err != nil {
		t.Fatal(err)
	}
	check(t, s, img)
	if img.ConfigDigest != digest.FromBytes(config) {
		t.Errorf("config = %s", img.ConfigDigest)
	}
}

func TestCompressedTar(t *testing.T) {
	a := layer(t, 1, 100)
	config := configFor(a)
	raw := makeTar(t, entry{name: "c.json", data: config}, entry{name: "a.tar", data: a}, entry{name: "manifest.json", data: dockerSave("c.json", nil, "a.tar")})
	var b bytes.Buffer
	z, err := bundle.NewZstdWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	img, s, err := read(t, b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	check(t, s, img)
}

func as[E error](err error) bool { _, ok := errors.AsType[E](err); return ok }

func text(want string) func(error) bool {
	return func(err error) bool { return err != nil && strings.Contains(err.Error(), want) }
}

func TestRefuses(t *testing.T) {
	a, b := layer(t, 1, 100_000), layer(t, 2, 100_000)
	config := configFor(a)
	id := digest.FromBytes(config).Encoded()
	ok := []entry{{name: "c.json", data: config}, {name: "a.tar", data: a}, {name: "manifest.json", data: dockerSave("c.json", []string{ref}, "a.tar")}}
	with := func(more ...entry) []entry { return append(ok[:len(ok):len(ok)], more...) }
	layout, _ := ociLayout(t, ocispec.MediaTypeImageLayer, [][]byte{a}, [][]byte{a})
	wrongIDs, _ := ociLayout(t, ocispec.MediaTypeImageLayer, [][]byte{a}, [][]byte{b})
	for _, tc := range []struct {
		name    string
		entries []entry
		is      func(error) bool
	}{
		{"parent", with(entry{name: "../x"}), as[*artifact.NameError]},
		{"absolute", with(entry{name: "/x"}), as[*artifact.NameError]},
		{"link outside", with(entry{name: "l", link: "../x"}), as[*artifact.NameError]},
		{"absolute link", with(entry{name: "l", link: "/etc/passwd"}), as[*artifact.NameError]},
		{"device", with(entry{name: "d", typ: tar.TypeBlock}), as[*artifact.TypeError]},
		{"named pipe", with(entry{name: "d", typ: tar.TypeFifo}), as[*artifact.TypeError]},
		{"two manifests", with(ok[2]), text("stands twice")},
		{"two manifests, one with ./", with(entry{name: "./manifest.json", data: ok[2].data}), text("stands twice")},
		{"no layer", []entry{ok[0], ok[2]}, as[*MissingError]},
		{"no config", []entry{ok[1], ok[2]}, as[*MissingError]},
		{"no manifest", ok[:2], text("neither manifest.json nor index.json")},
		{"wrong layer", []entry{ok[0], {name: "a.tar", data: b}, ok[2]}, as[*DiffIDError]},
		{"link loop", []entry{ok[0], {name: "a.tar", link: "b.tar"}, {name: "b.tar", link: "a.tar"}, ok[2]}, text("chain of links")},
		{"too few layers", []entry{ok[0], {name: "manifest.json", data: dockerSave("c.json", nil)}}, text("want as many")},
		{"config is not its name", []entry{{name: id + ".json", data: configFor(b)}, ok[1], {name: "manifest.json", data: dockerSave(id+".json", nil, "a.tar")}}, as[*DigestError]},
		{"config outside", []entry{ok[1], {name: "manifest.json", data: dockerSave("../c.json", nil, "a.tar")}}, as[*artifact.NameError]},
		{"config is a layer", []entry{ok[1], {name: "manifest.json", data: dockerSave("a.tar", nil, "a.tar")}}, text("no JSON document")},
		{"config without platform", []entry{{name: "c.json", data: []byte(`{"rootfs":{"type":"layers","diff_ids":[]}}`)}, {name: "manifest.json", data: dockerSave("c.json", nil)}}, text("names no platform")},
		{"manifest.json is no list", []entry{{name: "manifest.json", data: []byte(`{}`)}}, text("read manifest.json")},
		{"layout: flipped blob", flip(layout, blobName(digest.FromBytes(a))), as[*DigestError]},
		{"layout: wrong diffID", wrongIDs, as[*DiffIDError]},
		{"layout: blob missing", drop(layout, blobName(digest.FromBytes(a))), as[*MissingError]},
		{"layout: bad digest", []entry{{name: "index.json", data: []byte(`{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:../../x","size":1}]}`)}}, text("is no sha256 digest")},
		{"layout: other media type", []entry{{name: "index.json", data: []byte(`{"manifests":[{"mediaType":"text/plain","digest":"sha256:00","size":1}]}`)}}, text("no index and no manifest")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, _, err := read(t, makeTar(t, tc.entries...)); !tc.is(err) {
				t.Errorf("got %v", err)
			}
		})
	}
	raw := makeTar(t, ok...)
	if _, _, err := read(t, raw[:len(raw)/2]); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off: got %v, want unexpected EOF", err)
	}
	if _, _, err := read(t, nil); err == nil {
		t.Error("empty file was taken")
	}
}

func flip(entries []entry, name string) []entry {
	out := append([]entry(nil), entries...)
	for i, e := range out {
		if e.name == name {
			out[i].data = bytes.Clone(e.data)
			out[i].data[len(e.data)/2] ^= 1
		}
	}
	return out
}

func drop(entries []entry, name string) []entry {
	var out []entry
	for _, e := range entries {
		if e.name != name {
			out = append(out, e)
		}
	}
	return out
}

func TestBomb(t *testing.T) {
	b := &bomb{r: bytes.NewReader(make([]byte, 100)), left: 50}
	if _, err := io.Copy(io.Discard, b); err == nil {
		t.Error("100 bytes came out of a limit of 50")
	}
}

func TestCheckAs(t *testing.T) {
	for as, want := range map[string]bool{
		"backend:v1": true, "library/x:1": true, "quay.io/a/b:v1": true, "localhost:5000/x:1": true,
		"": false, "backend": false, "localhost:5000/x": false, "Backend:v1": false, "x@sha256:" + strings.Repeat("0", 64): false, "x:v1 ": false,
	} {
		if err := CheckAs(as); (err == nil) != want {
			t.Errorf("CheckAs(%q) = %v", as, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	a := layer(f, 1, 100)
	f.Add(makeTar(f, entry{name: "c.json", data: configFor(a)}, entry{name: "a.tar", data: a}, entry{name: "manifest.json", data: dockerSave("c.json", nil, "a.tar")}))
	f.Add(makeTar(f, entry{name: "index.json", data: []byte(`{"manifests":[{}]}`)}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		s, err := bundle.OpenSpool(filepath.Join(dir, "spool"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		img, err := Read(t.Context(), bytes.NewReader(raw), s, Options{As: ref})
		if err == nil && (len(img.Manifests) == 0 || img.Manifests[0].Raw == nil) {
			t.Fatal("image without manifest")
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Fatalf("wrote outside the spool: %v, %v", entries, err)
		}
	})
}

// TestPlatforms: a variant counts only where it is asked for; an error names
// what is wanted and what there is.
func TestPlatforms(t *testing.T) {
	v8 := &Image{Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}
	plain := &Image{Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64"}}
	for _, tc := range []struct {
		img  *Image
		want manifests.Platforms
		err  string
	}{
		{v8, manifests.Platforms{"linux/arm64"}, ""},
		{plain, manifests.Platforms{"linux/arm64/v8"}, ""},
		{plain, manifests.Platforms{"all"}, ""},
		{v8, manifests.Platforms{"linux/amd64", "linux/arm64"}, ""},
		{v8, manifests.Platforms{"linux/amd64"}, "image is not available for linux/amd64; it has linux/arm64/v8"},
		{v8, manifests.Platforms{"linux/arm64/v9"}, "image is not available for linux/arm64/v9; it has linux/arm64/v8"},
	} {
		got := ""
		if err := tc.img.checkPlatforms(tc.want); err != nil {
			got = err.Error()
		}
		if got != tc.err {
			t.Errorf("%v: got %q, want %q", tc.want, got, tc.err)
		}
	}
}
