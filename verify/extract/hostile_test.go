package extract

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func sameDigest(hex, data string) bool { return digest.FromString(data).Encoded() == hex }

// made carries pins that a test made: what a signer may sign, sense or not.
type made struct {
	spool *bundle.Spool
	pins  []bundle.Pin
}

func (m *made) Origin() string { return "made" }

func (m *made) Resolve(context.Context, []bundle.Pin) ([]bundle.Pin, error) { return m.pins, nil }

func (m *made) Open(_ context.Context, _ bundle.Pin, d bundle.Descriptor) (io.ReadCloser, error) {
	return m.spool.Open(d)
}

// layer is a layer of a made artifact.
type layer struct {
	mediaType, data string
	annotations     map[string]string
}

func titled(title string) layer {
	return layer{"text/plain", "content of " + title, map[string]string{ocispec.AnnotationTitle: title}}
}

// add spools an artifact and pins it as an item.
func (m *made) add(t *testing.T, item bundle.Item, layers ...layer) {
	t.Helper()
	descs := []bundle.Descriptor{}
	for _, l := range layers {
		d, err := m.spool.AddBytes(l.mediaType, []byte(l.data))
		if err != nil {
			t.Fatal(err)
		}
		d.Annotations = l.annotations
		descs = append(descs, d)
	}
	a, err := bundle.PackArtifact(m.spool, "text/plain", bundle.Descriptor{}, descs, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.pins = append(m.pins, artifact.Pin(item, "made", a, descs...))
}

// packed is a zstd layer of content with true annotations, unless lie says else.
func packed(t *testing.T, mediaType, title string, content []byte, lie func(*artifact.Meta)) layer {
	t.Helper()
	var b bytes.Buffer
	z, err := bundle.NewZstdWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	_, err = z.Write(content)
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	meta := artifact.Meta{Title: title, SHA256: digest.FromBytes(content).Encoded(), Size: int64(len(content)), Mode: 0o755}
	if lie != nil {
		lie(&meta)
	}
	return layer{mediaType, b.String(), meta.Annotations()}
}

func tarOf(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range headers {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestToHostile(t *testing.T) {
	tooLarge := func(err error) bool { return errors.Is(err, artifact.ErrTooLarge) }
	says := func(s string) func(error) bool {
		return func(err error) bool { return err != nil && strings.Contains(err.Error(), s) }
	}
	huge := func(m *artifact.Meta) { m.Size = 1 << 60 }
	zeros := make([]byte, 8<<20)
	dir := func(h ...tar.Header) layer { return packed(t, bundle.MediaTypeDirectory, "d", tarOf(t, h...), nil) }
	many := make([]layer, 1025)
	for i := range many {
		many[i] = titled(strings.Repeat("x", 1+i%200) + string(rune('a'+i/200)))
	}
	cases := map[string]struct {
		layers []layer
		is     func(error) bool
	}{
		"parent":                      {[]layer{titled("../x")}, is[*artifact.NameError]},
		"absolute":                    {[]layer{titled("/abs")}, is[*artifact.NameError]},
		"path":                        {[]layer{titled("a/b")}, is[*artifact.NameError]},
		"empty":                       {[]layer{titled("")}, is[*artifact.NameError]},
		"dot":                         {[]layer{titled(".")}, is[*artifact.NameError]},
		"two dots":                    {[]layer{titled("..")}, is[*artifact.NameError]},
		"backslash":                   {[]layer{titled(`a\b`)}, is[*artifact.NameError]},
		"line":                        {[]layer{titled("a\nb")}, is[*artifact.NameError]},
		"very long":                   {[]layer{titled(strings.Repeat("n", 100_000))}, is[*artifact.NameError]},
		"too long":                    {[]layer{titled(strings.Repeat("n", 256))}, is[*artifact.NameError]},
		"good before bad":             {[]layer{titled("good"), titled("../bad")}, is[*artifact.NameError]},
		"same title":                  {[]layer{titled("x"), {"text/html", "other", map[string]string{ocispec.AnnotationTitle: "x"}}}, says(`another layer is called "x" too`)},
		"no layers":                   {nil, says("has no layers")},
		"many layers":                 {many, tooLarge},
		"file without sum":            {[]layer{{bundle.MediaTypeFile, "x", map[string]string{ocispec.AnnotationTitle: "x"}}}, says(artifact.AnnotationSHA256)},
		"file promises too much":      {[]layer{packed(t, bundle.MediaTypeFile, "x", []byte("x"), huge)}, tooLarge},
		"file is a bomb":              {[]layer{packed(t, bundle.MediaTypeFile, "x", zeros, func(m *artifact.Meta) { m.Size = 10 })}, is[*artifact.ContentError]},
		"file is not zstd":            {[]layer{{bundle.MediaTypeFile, "plain", packed(t, "", "x", nil, nil).annotations}}, says(`extract "x"`)},
		"directory is a bomb":         {[]layer{packed(t, bundle.MediaTypeDirectory, "d", append(tarOf(t), zeros...), func(m *artifact.Meta) { m.Size = 2048 })}, is[*artifact.ContentError]},
		"directory promises too much": {[]layer{packed(t, bundle.MediaTypeDirectory, "d", tarOf(t), huge)}, tooLarge},
		"directory climbs":            {[]layer{dir(tar.Header{Name: "../x"})}, is[*artifact.NameError]},
		"directory links":             {[]layer{dir(tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc"})}, is[*artifact.TypeError]},
		"directory not alone":         {[]layer{dir(), titled("x")}, says("it must be alone")},
	}
	m := &made{spool: fixture.Spool(t)}
	item := func(name string) string { return strings.ReplaceAll(name, " ", "-") }
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		m.add(t, bundle.Item{Kind: bundle.KindFile, Name: item(name), Ref: "files/" + item(name) + ":v1"}, cases[name].layers...)
	}
	b := fixture.Open(t, m.spool, m)
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			_, err := To(t.Context(), b, "files/"+item(name)+":v1", out)
			if !tc.is(err) {
				t.Errorf("got %v", err)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			wantNothing(t, out)
		})
	}
}

// Layers together must not exceed what one item may take, however small the
// bundle is: the same blob may be named again and again.
func TestToSameBlobManyTimes(t *testing.T) {
	m := &made{spool: fixture.Spool(t)}
	m.add(t, bundle.Item{Kind: bundle.KindFile, Name: "bad", Ref: "files/bad:v1"},
		layer{"text/plain", strings.Repeat("x", 100), map[string]string{ocispec.AnnotationTitle: "a"}},
		layer{"text/plain", strings.Repeat("x", 100), map[string]string{ocispec.AnnotationTitle: "b"}})
	b := fixture.Open(t, m.spool, m)
	l := defaultLimits()
	for _, tc := range []struct {
		most int64
		ok   bool
	}{{199, false}, {200, true}} {
		l.unpacked = tc.most
		out := filepath.Join(t.TempDir(), "out")
		if _, err := to(t.Context(), b, "bad", out, l); tc.ok != (err == nil) || !tc.ok && !errors.Is(err, artifact.ErrTooLarge) {
			t.Errorf("limit %d: got %v", tc.most, err)
		}
	}
}

func TestToNamesWithoutTitle(t *testing.T) {
	m := &made{spool: fixture.Spool(t)}
	m.add(t, bundle.Item{Kind: bundle.KindChart, Name: "web", Ref: "oci.example.com/charts/web:1.2.3"},
		layer{mediaTypeProvenance, "signed", nil}, layer{mediaTypeChart, "chart", nil}, layer{"text/plain", "more", nil})
	out := filepath.Join(t.TempDir(), "out")
	written, err := To(t.Context(), fixture.Open(t, m.spool, m), "web", out)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"web-1.2.3.tgz.prov", "web-1.2.3.tgz", "3-web-1.2.3"}
	for i := range written {
		written[i] = filepath.Base(written[i])
	}
	if !slices.Equal(written, want) {
		t.Errorf("wrote %v, want %v", written, want)
	}
}

func TestToAmbiguous(t *testing.T) {
	m := &made{spool: fixture.Spool(t)}
	m.add(t, bundle.Item{Kind: bundle.KindFile, Name: "x", Ref: "files/x:v1"}, titled("a"))
	m.add(t, bundle.Item{Kind: bundle.KindModule, Name: "x", Ref: "modules/x:v1"}, titled("b"))
	b := fixture.Open(t, m.spool, m)
	out := filepath.Join(t.TempDir(), "out")
	if _, err := To(t.Context(), b, "x", out); err == nil || !strings.Contains(err.Error(), "file files/x:v1, module modules/x:v1") {
		t.Errorf("got %v, want both references", err)
	}
	wantNothing(t, out)
	if _, err := To(t.Context(), b, "modules/x:v1", out); err != nil {
		t.Error(err)
	}
}

// TestToSharedImage takes two images that share their platform manifest, which
// the index lists under the first only, and what is attached to it.
func TestToSharedImage(t *testing.T) {
	m := &made{spool: fixture.Spool(t)}
	child, blobs := m.manifest(t, ocispec.Manifest{})
	child.Role = bundle.RoleChild
	referrer, more := m.manifest(t, ocispec.Manifest{Subject: &child.Descriptor, ArtifactType: "application/spdx+json"})
	referrer.Role = bundle.RoleReferrer
	signature, _ := m.manifest(t, ocispec.Manifest{Annotations: map[string]string{"a": "signature"}})
	signature.Role, signature.Ref = bundle.RoleCosignTag, "r.example.com/a:sha256-"+child.Digest.Encoded()+".sig"
	unrelated, _ := m.manifest(t, ocispec.Manifest{Annotations: map[string]string{"a": "unrelated"}})
	unrelated.Ref = "r.example.com/c:v1"
	for i, ref := range []string{"r.example.com/a:v1", "r.example.com/b:v1"} {
		raw, err := json.Marshal(ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
			Manifests: []bundle.Descriptor{child.Descriptor}, Annotations: map[string]string{"i": string(rune('a' + i))},
		})
		if err != nil {
			t.Fatal(err)
		}
		d, err := m.spool.AddBytes(ocispec.MediaTypeImageIndex, raw)
		if err != nil {
			t.Fatal(err)
		}
		root := bundle.Manifest{Descriptor: d, Role: bundle.RoleRoot, Ref: ref, Raw: raw}
		m.pins = append(m.pins, bundle.Pin{
			Item: bundle.Item{Kind: bundle.KindImage, Name: ref, Ref: ref}, Origin: "made",
			Manifests: []bundle.Manifest{root, child, referrer, signature}, Blobs: append(slices.Clone(blobs), more...),
		})
	}
	m.pins = append(m.pins, bundle.Pin{Item: bundle.Item{Kind: bundle.KindImage, Name: "c", Ref: unrelated.Ref}, Origin: "made", Manifests: []bundle.Manifest{unrelated}, Blobs: blobs})
	b := fixture.Open(t, m.spool, m)
	for _, ref := range []string{"r.example.com/a:v1", "r.example.com/b:v1"} {
		out := filepath.Join(t.TempDir(), "out")
		if _, err := To(t.Context(), b, ref, out); err != nil {
			t.Fatal(err)
		}
		idx, err := bundle.ParseIndex([]byte(tree(t, out)["index.json"]))
		if err != nil {
			t.Fatal(err)
		}
		var got []digest.Digest
		for _, e := range idx.Entries {
			got = append(got, e.Digest)
			if e.Role == bundle.RoleRoot && e.Ref != ref {
				t.Errorf("%s: lists %s", ref, e.Ref)
			}
		}
		for _, d := range []digest.Digest{child.Digest, referrer.Digest, signature.Digest} {
			if !slices.Contains(got, d) {
				t.Errorf("%s: lacks %s", ref, d)
			}
		}
		if len(got) != 4 {
			t.Errorf("%s: lists %d manifests, want 4", ref, len(got))
		}
	}
}

// manifest spools an image manifest with the empty config and no layers.
func (m *made) manifest(t *testing.T, doc ocispec.Manifest) (bundle.Manifest, []bundle.Descriptor) {
	t.Helper()
	doc.Versioned = specs.Versioned{SchemaVersion: 2}
	doc.MediaType, doc.Config, doc.Layers = ocispec.MediaTypeImageManifest, bundle.EmptyConfig(), []bundle.Descriptor{}
	if _, err := m.spool.AddBytes(doc.Config.MediaType, ocispec.DescriptorEmptyJSON.Data); err != nil {
		t.Fatal(err)
	}
	packed, err := bundle.PackManifest(m.spool, doc)
	if err != nil {
		t.Fatal(err)
	}
	return packed, []bundle.Descriptor{doc.Config}
}
