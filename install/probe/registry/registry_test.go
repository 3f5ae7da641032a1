package registry

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/google/go-cmp/cmp"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
)

// front is a registry whose answers a test can spoil.
type front struct {
	http.Handler
	spoil func(w http.ResponseWriter, r *http.Request) bool
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.spoil == nil || !f.spoil(w, r) {
		f.Handler.ServeHTTP(w, r)
	}
}

// flipped answers with a manifest in which one byte differs.
func (f *front) flipped(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/manifests/") {
		return false
	}
	rec := httptest.NewRecorder()
	f.Handler.ServeHTTP(rec, r)
	maps.Copy(w.Header(), rec.Header())
	body := rec.Body.Bytes()
	body[len(body)-3] ^= 1
	w.WriteHeader(rec.Code)
	_, err := w.Write(body)
	return err == nil
}

// newRegistry starts a registry that holds an index of one image as
// app/web:v1 and returns its host and the index's digest.
func newRegistry(t *testing.T) (*front, string, digest.Digest, Probe) {
	t.Helper()
	f := &front{Handler: olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}})}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	hosts, err := remote.New(remote.Options{PlainHTTP: []string{host}, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	root := push(t, hosts, host+"/app/web")
	return f, host, root, Probe{Repository: func(ref string) (Repository, error) { return hosts.Repository(ref) }}
}

func push(t *testing.T, hosts *remote.Hosts, name string) digest.Digest {
	t.Helper()
	ctx := t.Context()
	store := memory.New()
	add := func(media string, data []byte) ocispec.Descriptor {
		desc, err := oras.PushBytes(ctx, store, media, data)
		if err != nil {
			t.Fatal(err)
		}
		return desc
	}
	conf := add(ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux"}`))
	layer := add(ocispec.MediaTypeImageLayerGzip, []byte("layer"))
	image := add(ocispec.MediaTypeImageManifest, encode(t, ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: conf, Layers: []ocispec.Descriptor{layer}}))
	index := add(ocispec.MediaTypeImageIndex, encode(t, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{image}}))
	if err := store.Tag(ctx, index, "v1"); err != nil {
		t.Fatal(err)
	}
	if err := store.Tag(ctx, image, "other"); err != nil {
		t.Fatal(err)
	}
	repo, err := hosts.Repository(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"v1", "other"} {
		if _, err := oras.Copy(ctx, store, tag, repo, tag, oras.DefaultCopyOptions); err != nil {
			t.Fatal(err)
		}
	}
	return index.Digest
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestManifest(t *testing.T) {
	layer := digest.FromString("layer").String()
	answer := func(status int, parts ...string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			for _, p := range parts {
				if !strings.Contains(r.Method+" "+r.URL.Path, p) {
					return false
				}
			}
			w.WriteHeader(status)
			return true
		}
	}
	for name, c := range map[string]struct {
		ref   string // an @ at the end stands for the digest
		spoil func(http.ResponseWriter, *http.Request) bool
		flip  bool
		nodes []any
		want  []string
	}{
		"nodes fit":       {ref: "/app/web@", nodes: []any{"linux/amd64"}},
		"nodes differ":    {ref: "/app/web@", nodes: []any{"linux/amd64", "linux/arm64"}, want: []string{"REG-05"}},
		"all there":       {ref: "/app/web@"},
		"tag leads there": {ref: "/app/web:v1@"},
		"tag elsewhere":   {ref: "/app/web:other@", want: []string{"REG-06"}},
		"no such tag":     {ref: "/app/web:v9@", want: []string{"REG-02"}},
		"no repository":   {ref: "/app/none@", want: []string{"REG-02"}},
		"layer gone":      {ref: "/app/web@", spoil: answer(404, "HEAD", layer), want: []string{"REG-06"}},
		"login":           {ref: "/app/web@", spoil: answer(401, "/manifests/"), want: []string{"REG-01"}},
		"forbidden":       {ref: "/app/web@", spoil: answer(403, "/manifests/"), want: []string{"REG-01"}},
		"broken":          {ref: "/app/web@", spoil: answer(500, "/blobs/"), want: []string{"REG-07"}},
		"no digest":       {ref: "/app/web:v1", want: []string{""}},
		"not a reference": {ref: "/App Web@", want: []string{""}},
		"other content":   {ref: "/app/web@", flip: true, want: []string{"REG-06"}},
	} {
		t.Run(name, func(t *testing.T) {
			f, host, root, p := newRegistry(t)
			f.spoil = c.spoil
			if c.flip {
				f.spoil = f.flipped
			}
			ref := host + c.ref
			if strings.HasSuffix(ref, "@") {
				ref += root.String()
			}
			res, err := p.Run(t.Context(), install.Input{With: map[string]any{"ref": ref, "blobs": true, "platforms": c.nodes}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, found := range res.Findings {
				got = append(got, found.Code)
				for field := range found.Fields {
					if found.Code != "" && !slices.Contains(p.Codes()[found.Code], field) {
						t.Errorf("field %s is not listed with %s", field, found.Code)
					}
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("%s\n%+v", d, res.Findings)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	hosts, err := remote.New(remote.Options{PlainHTTP: []string{"127.0.0.1:1"}, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	p := Probe{Repository: func(ref string) (Repository, error) { return hosts.Repository(ref) }}
	res, err := p.Run(t.Context(), install.Input{With: map[string]any{"ref": "127.0.0.1:1/a@" + digest.FromString("x").String()}})
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "REG-07" {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestArguments(t *testing.T) {
	for _, with := range []map[string]any{{}, {"reference": "x"}} {
		if _, err := (Probe{}).Run(context.Background(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
}
