package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// phantom is a registry whose blobs cost no disk: those that it gives are made
// as they are read, those that it takes are hashed and forgotten. So a bundle of
// any size can be mirrored where there is room for the bundle alone.
type phantom struct {
	*httptest.Server
	host string

	mu        sync.Mutex
	manifests map[string][]byte // by repository/manifests/reference
	made      map[digest.Digest]madeBlob
	taken     map[digest.Digest]bool
	images    []image
	total     int64 // bytes of the blobs it gives

	got      atomic.Int64 // bytes of bodies
	requests atomic.Int64
	uploads  atomic.Int64 // names of uploads
	now      atomic.Int64 // requests under way
	most     atomic.Int64
}

type madeBlob struct {
	seed uint64
	size int64
}

func newPhantom() *phantom {
	p := &phantom{manifests: map[string][]byte{}, made: map[digest.Digest]madeBlob{}, taken: map[digest.Digest]bool{}}
	p.Server = httptest.NewServer(p)
	p.host = strings.TrimPrefix(p.URL, "http://")
	return p
}

// pattern is what made blobs consist of: random bytes with the blob's number
// and the place in it before each MiB, so that no two blobs or places are alike.
var pattern = sync.OnceValue(func() []byte {
	b := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
})

// writeTo writes the blob.
func (b madeBlob) writeTo(w io.Writer) error {
	piece := pattern()
	var at int64
	for at < b.size {
		var head [16]byte
		binary.LittleEndian.PutUint64(head[:], b.seed)
		binary.LittleEndian.PutUint64(head[8:], uint64(at))
		for _, part := range [][]byte{head[:], piece} {
			n, err := w.Write(part[:min(int64(len(part)), b.size-at)])
			at += int64(n)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// carry adds images to what the registry gives. sizes are those of each image's
// layers, which are gzip by name only.
func (p *phantom) carry(ctx context.Context, name string, sizes ...[]int64) error {
	seed := uint64(0)
	for i, list := range sizes {
		m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
		m.Layers = make([]ocispec.Descriptor, len(list))
		g, _ := errgroup.WithContext(ctx)
		g.SetLimit(2)
		for k, size := range list {
			seed++
			b := madeBlob{seed, size}
			g.Go(func() error {
				h := sha256.New()
				if err := b.writeTo(h); err != nil {
					return err
				}
				d := digest.NewDigest(digest.SHA256, h)
				m.Layers[k] = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: d, Size: size}
				p.mu.Lock()
				p.made[d] = b
				p.mu.Unlock()
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}, Author: fmt.Sprint(name, i)}
		for _, l := range m.Layers {
			config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Digest)
		}
		raw, err := json.Marshal(config)
		if err != nil {
			return err
		}
		m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
		p.total += m.Config.Size
		for _, size := range list {
			p.total += size
		}
		img := image{repo: fmt.Sprintf("bench/%s%d", name, i), tag: "v1"}
		p.manifests[img.repo+"/blobs/"+m.Config.Digest.String()] = raw
		if raw, err = json.Marshal(m); err != nil {
			return err
		}
		p.manifests[img.repo+"/manifests/"+img.tag] = raw
		p.manifests[img.repo+"/manifests/"+digest.FromBytes(raw).String()] = raw
		p.images = append(p.images, img)
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (p *phantom) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.requests.Add(1)
	now := p.now.Add(1)
	defer p.now.Add(-1)
	for most := p.most.Load(); now > most && !p.most.CompareAndSwap(most, now); most = p.most.Load() {
	}
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	switch {
	case path == "":
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		p.give(w, r, path)
	case r.Method == http.MethodPost:
		p.open(w, r, path)
	case r.Method == http.MethodPut:
		if err := p.take(w, r, path); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

func (p *phantom) give(w http.ResponseWriter, r *http.Request, path string) {
	p.mu.Lock()
	raw, ok := p.manifests[path]
	_, name, _ := strings.Cut(path, "/blobs/")
	b, made := p.made[digest.Digest(name)]
	p.mu.Unlock()
	switch {
	case ok:
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Header().Set("Docker-Content-Digest", digest.FromBytes(raw).String())
		w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(raw) // a client that left shows there
		}
	case made:
		w.Header().Set("Content-Length", fmt.Sprint(b.size))
		if r.Method == http.MethodGet {
			_ = b.writeTo(w) // as above
		}
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (p *phantom) open(w http.ResponseWriter, r *http.Request, path string) {
	d := digest.Digest(r.URL.Query().Get("mount"))
	p.mu.Lock()
	has := p.taken[d]
	p.mu.Unlock()
	if has {
		w.WriteHeader(http.StatusCreated)
		return
	}
	w.Header().Set("Location", fmt.Sprintf("/v2/%s%d", path, p.uploads.Add(1)))
	w.WriteHeader(http.StatusAccepted)
}

func (p *phantom) take(w http.ResponseWriter, r *http.Request, path string) error {
	want := digest.Digest(r.URL.Query().Get("digest"))
	if strings.Contains(path, "/manifests/") {
		raw, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.manifests[path] = raw
		p.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
		return nil
	}
	h := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{r.Body}, make([]byte, 128<<10))
	p.got.Add(n)
	if err != nil {
		return err
	}
	if digest.NewDigest(digest.SHA256, h) != want {
		return errors.New("other content than its digest says")
	}
	p.mu.Lock()
	p.taken[want] = true
	p.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
	return nil
}
