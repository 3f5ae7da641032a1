package bundle_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func entry(name string) bundle.Entry {
	return bundle.Entry{
		Descriptor: bundle.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(name), Size: 10},
		Item:       bundle.Item{Kind: bundle.KindImage, Name: name, Ref: "example.com/" + name + ":1"},
		Role:       bundle.RoleRoot,
	}
}

func info() bundle.Info {
	i := fixture.Info()
	i.Created, i.Lock = fixture.Epoch, digest.FromString("lock")
	return i
}

func encode(t testing.TB, i bundle.Info, entries ...bundle.Entry) []byte {
	t.Helper()
	raw, err := bundle.EncodeIndex(i, entries)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestIndexRoundTrip(t *testing.T) {
	i := info()
	i.Expires, i.Audience, i.MinTool = fixture.Epoch.Add(time.Hour), []string{"north", "south"}, "v1.2.3"
	child := entry("child")
	child.Role, child.Ref, child.Platform = bundle.RoleChild, "", &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	want := bundle.Index{Info: i, Entries: []bundle.Entry{entry("a"), child, entry("b")}}
	got, err := bundle.ParseIndex(encode(t, i, want.Entries...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("index (-want +got):\n%s", diff)
	}
}

// TestIndexRefused: a signature over one of these would not make it an index.
func TestIndexRefused(t *testing.T) {
	good := encode(t, info(), entry("a"), entry("b"))
	if _, err := bundle.ParseIndex(good); err != nil {
		t.Fatal(err)
	}
	edit := func(old, repl string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("no %q in %s", old, good)
		}
		return bytes.Replace(good, []byte(old), []byte(repl), 1)
	}
	with := func(change func(*bundle.Info)) []byte {
		i := info()
		change(&i)
		return encode(t, i, entry("a"))
	}
	two := func(change func(e *bundle.Entry)) []byte {
		e := entry("a")
		change(&e)
		return encode(t, info(), entry("a"), e)
	}
	for name, raw := range map[string][]byte{
		"empty":             nil,
		"space":             append(bytes.Clone(good), ' '),
		"second document":   append(bytes.Clone(good), good...),
		"unknown key":       edit(`{"schemaVersion":2`, `{"x":1,"schemaVersion":2`),
		"duplicate key":     edit(`{"schemaVersion":2`, `{"schemaVersion":2,"schemaVersion":2`),
		"other case":        edit(`"manifests":`, `"Manifests":`),
		"schema version":    edit(`"schemaVersion":2`, `"schemaVersion":3`),
		"number form":       edit(`"size":10`, `"size":1e1`),
		"escape":            edit(`"image"`, `"\u0069mage"`),
		"not UTF-8":         edit(`"demo"`, "\"de\xffmo\""),
		"artifact type":     edit(bundle.ArtifactType, "application/x"),
		"format":            edit(`"dev.airlock.format":"1"`, `"dev.airlock.format":"2"`),
		"kind":              edit(`"dev.airlock.kind":"image"`, `"dev.airlock.kind":"virus"`),
		"role":              edit(`"dev.airlock.role":"root"`, `"dev.airlock.role":"boss"`),
		"release zero":      with(func(i *bundle.Info) { i.Release = 0 }),
		"product missing":   with(func(i *bundle.Info) { i.Product = "" }),
		"product with line": with(func(i *bundle.Info) { i.Product = "a\nb" }),
		"lock digest":       with(func(i *bundle.Info) { i.Lock = "sha256:00" }),
		"empty audience":    with(func(i *bundle.Info) { i.Audience = []string{""} }),
		"audience gap":      with(func(i *bundle.Info) { i.Audience = []string{"a", "", "b"} }),
		"minimal tool":      with(func(i *bundle.Info) { i.MinTool = "latest" }),
		"created":           edit(`2026-01-02T03:04:05Z`, `2026-01-02T05:04:05+02:00`),
		"listed twice":      two(func(*bundle.Entry) {}),
		"two sizes":         two(func(e *bundle.Entry) { e.Ref, e.Size = "example.com/x:1", 11 }),
		"two media types":   two(func(e *bundle.Entry) { e.Ref, e.MediaType = "example.com/x:1", ocispec.MediaTypeImageIndex }),
		"two digests":       two(func(e *bundle.Entry) { e.Digest = digest.FromString("x") }),
		"root without ref":  two(func(e *bundle.Entry) { e.Digest, e.Ref = digest.FromString("x"), "" }),
		"reference":         two(func(e *bundle.Entry) { e.Ref = "a b" }),
		"long name":         two(func(e *bundle.Entry) { e.Name, e.Ref = strings.Repeat("n", 513), "example.com/x:1" }),
		"sha512":            two(func(e *bundle.Entry) { e.Digest, e.Ref = digest.SHA512.FromString("x"), "example.com/x:1" }),
		"layer listed":      two(func(e *bundle.Entry) { e.MediaType, e.Ref = ocispec.MediaTypeImageLayerGzip, "example.com/x:1" }),
		"manifest too large": two(func(e *bundle.Entry) {
			e.Digest, e.Ref, e.Size = digest.FromString("x"), "example.com/x:1", archive.MaxManifest+1
		}),
	} {
		t.Run(name, func(t *testing.T) {
			if idx, err := bundle.ParseIndex(raw); err == nil {
				t.Errorf("accepted: %+v", idx)
			}
		})
	}
}

func FuzzParseIndex(f *testing.F) {
	seed := encode(f, info(), entry("a"), entry("b"))
	if _, err := bundle.ParseIndex(seed); err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, raw []byte) {
		idx, err := bundle.ParseIndex(raw)
		if err != nil {
			return
		}
		if again := encode(t, idx.Info, idx.Entries...); !bytes.Equal(again, raw) {
			t.Fatalf("accepted %s, which is written %s", raw, again)
		}
	})
}

func FuzzParseNode(f *testing.F) {
	seed := []byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`)
	if _, err := bundle.ParseNode(ocispec.MediaTypeImageManifest, seed); err != nil {
		f.Fatal(err)
	}
	f.Add(seed, true)
	f.Fuzz(func(t *testing.T, raw []byte, manifest bool) {
		mediaType := ocispec.MediaTypeImageIndex
		if manifest {
			mediaType = ocispec.MediaTypeImageManifest
		}
		n, err := bundle.ParseNode(mediaType, raw)
		if err != nil {
			return
		}
		for _, d := range append(n.Blobs(), n.Children...) {
			if err := bundle.CheckDescriptor(d); err != nil {
				t.Fatal(err)
			}
		}
		if (n.Config != nil) != manifest {
			t.Fatal("config of an index, or none of a manifest")
		}
	})
}

// TestContents is the rule of FORMAT.md for where a blob lies.
func TestContents(t *testing.T) {
	desc := func(name, mediaType string, size int64) bundle.Descriptor {
		return bundle.Descriptor{MediaType: mediaType, Digest: digest.FromString(name), Size: size}
	}
	blob := func(name string, size int64) archive.Blob {
		return archive.Blob{Digest: digest.FromString(name), Size: size}
	}
	m1, m2 := desc("m1", ocispec.MediaTypeImageManifest, 1), desc("m2", ocispec.MediaTypeImageManifest, 2)
	large := desc("large", ocispec.MediaTypeImageConfig, archive.MaxConfig+1)
	config := desc("config", ocispec.MediaTypeImageConfig, 3)
	gz, plain, zst := desc("gz", ocispec.MediaTypeImageLayerGzip, 4), desc("plain", ocispec.MediaTypeImageLayer, 5), desc("zst", bundle.MediaTypeFile, 6)
	nodes := map[digest.Digest]bundle.Node{
		m1.Digest: {Config: &large, Layers: []bundle.Descriptor{plain, gz, gz}},
		m2.Digest: {Config: &config, Layers: []bundle.Descriptor{zst, plain, gz}},
	}
	node := func(d bundle.Descriptor) (bundle.Node, error) { return nodes[d.Digest], nil }
	got, err := bundle.Contents([]bundle.Descriptor{m1, m2, m1}, node)
	want := archive.Contents{
		Meta:   []archive.Blob{blob("m1", 1), blob("m2", 2), blob("config", 3)},
		Placed: []archive.Blob{blob("gz", 4), blob("zst", 6)},
		Packed: []archive.Blob{blob("large", archive.MaxConfig+1), blob("plain", 5)},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("contents (-want +got): %v\n%s", err, diff)
	}
	gz.Size++
	nodes[m2.Digest] = bundle.Node{Config: &config, Layers: []bundle.Descriptor{gz}}
	_, err = bundle.Contents([]bundle.Descriptor{m1, m2}, node)
	if ge, ok := errors.AsType[*bundle.GraphError](err); !ok || ge.Digest != gz.Digest {
		t.Errorf("two sizes: %v", err)
	}
}
