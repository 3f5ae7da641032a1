package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"

	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// registry is olareg in this process, on a directory, behind a handler that
// counts what clients send.
type registry struct {
	host string
	got  atomic.Int64 // bytes of request bodies
	stop func() error
}

func startRegistry(dir string) *registry {
	store := olareg.New(config.Config{
		Storage: config.ConfigStorage{StoreType: config.StoreDir, RootDir: dir},
		Log:     slog.New(slog.DiscardHandler),
	})
	r := &registry{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.Body = &countBody{ReadCloser: req.Body, n: &r.got}
		store.ServeHTTP(w, req)
	}))
	r.host = strings.TrimPrefix(s.URL, "http://")
	r.stop = func() error {
		s.Close()
		return store.Close()
	}
	return r
}

// close stops a registry, and does nothing to none.
func (r *registry) close() error {
	if r == nil {
		return nil
	}
	return r.stop()
}

// received is how many bytes clients have sent.
func (r *registry) received() int64 {
	if r == nil {
		return 0
	}
	return r.got.Load()
}

type countBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *countBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// floorWorkers is how many blobs move at once where nothing but moving is
// measured: as many as airlock mirror sends.
const floorWorkers = 8

// upload puts blobs into a repository with plain requests: nothing is verified
// on the way, and the kernel moves the bytes.
func (r *registry) upload(ctx context.Context, in *inputs, repo string, blobs []ocispec.Descriptor) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(floorWorkers)
	for _, d := range blobs {
		g.Go(func() error { return r.put(ctx, in, repo, d) })
	}
	return g.Wait()
}

func (r *registry) put(ctx context.Context, in *inputs, repo string, d ocispec.Descriptor) error {
	loc, err := r.do(ctx, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", "", nil, 0, http.StatusAccepted)
	if err != nil {
		return err
	}
	u, err := url.Parse(loc)
	if err != nil {
		return err
	}
	q := u.Query()
	q.Set("digest", d.Digest.String())
	f, err := os.Open(in.path(d.Digest))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = r.do(ctx, http.MethodPut, u.Path+"?"+q.Encode(), "application/octet-stream", f, d.Size, http.StatusCreated)
	return err
}

// do sends a request, insists on an answer and returns its location.
func (r *registry) do(ctx context.Context, method, path, mediaType string, body io.Reader, size int64, want int) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.host+path, body)
	if err != nil {
		return "", err
	}
	req.ContentLength = size
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", err
	}
	if resp.StatusCode != want {
		return "", fmt.Errorf("%s %s: answer %s, want %d", method, path, resp.Status, want)
	}
	return resp.Header.Get("Location"), nil
}

// fill gives the registry both images.
func (r *registry) fill(ctx context.Context, in *inputs) error {
	for _, img := range in.images {
		if err := r.upload(ctx, in, img.repo, img.blobs); err != nil {
			return err
		}
		raw, err := os.ReadFile(in.path(img.manifest.Digest))
		if err != nil {
			return err
		}
		path := "/v2/" + img.repo + "/manifests/" + img.tag
		if _, err := r.do(ctx, http.MethodPut, path, img.manifest.MediaType, bytes.NewReader(raw), int64(len(raw)), http.StatusCreated); err != nil {
			return err
		}
	}
	return nil
}

// download reads every distinct blob once and drops it.
func (r *registry) download(ctx context.Context, in *inputs) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(floorWorkers)
	done := map[string]bool{}
	for _, img := range in.images {
		for _, d := range img.blobs {
			if done[d.Digest.String()] {
				continue
			}
			done[d.Digest.String()] = true
			g.Go(func() error {
				_, err := r.do(ctx, http.MethodGet, "/v2/"+img.repo+"/blobs/"+d.Digest.String(), "", nil, 0, http.StatusOK)
				return err
			})
		}
	}
	return g.Wait()
}
