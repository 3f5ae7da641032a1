// Package helm brings Helm charts into a bundle: from a directory, a .tgz, an
// HTTP repository or an OCI registry.
//
// A chart from a registry keeps its manifest, and so its digest and whatever
// was signed about it. Every other chart becomes the OCI artifact that helm
// push would make of it, byte for byte, except that the clock gives way to the
// bundle's creation time. A .tgz is carried as it is; a directory is packaged
// by package chart.
package helm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	orasremote "oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/manifests"
)

// Hosts makes the clients of this source; *remote.Hosts of bundle/remote is one.
type Hosts interface {
	// Repository returns a client for the repository that reference names.
	Repository(reference string) (*orasremote.Repository, error)
	// Auth returns the client for HTTP repositories.
	Auth() *auth.Client
}

// Source is one chart of a definition. It implements bundle.Source and
// bundle.Discoverer and is safe for concurrent use.
type Source struct {
	hosts   Hosts
	spool   *bundle.Spool
	dir     string
	chart   manifests.Chart
	created time.Time
	listen  bundle.Listener

	mu     sync.Mutex
	loaded map[string]*chart.Chart // by digest of the layer: Discover follows Resolve
}

// New makes a source for c. Relative paths in c are relative to dir. Content
// that is made or small enough to keep goes to spool; created stands in every
// manifest made.
func New(hosts Hosts, spool *bundle.Spool, dir string, c manifests.Chart, created time.Time, l bundle.Listener) *Source {
	return &Source{hosts: hosts, spool: spool, dir: dir, chart: c, created: created, listen: l, loaded: map[string]*chart.Chart{}}
}

// Origin implements bundle.Source.
func (s *Source) Origin() string { return "chart " + s.chart.Name }

// Resolve implements bundle.Source. It returns the chart, and its values files
// as a second item where the definition names some. With a lock, a registry is
// asked for the locked digest and an HTTP repository for the locked version.
func (s *Source) Resolve(ctx context.Context, locked []bundle.Pin) ([]bundle.Pin, error) {
	pins, err := s.resolve(ctx, locked)
	if err != nil {
		return nil, fmt.Errorf("chart %q: %w", s.chart.Name, err)
	}
	return pins, nil
}

func (s *Source) resolve(ctx context.Context, locked []bundle.Pin) ([]bundle.Pin, error) {
	pin, version, err := s.resolveChart(ctx, lockedChart(locked))
	if err != nil {
		return nil, err
	}
	pins := []bundle.Pin{pin}
	if len(s.chart.Values) > 0 {
		v, err := s.packValues(version)
		if err != nil {
			return nil, err
		}
		pins = append(pins, v)
	}
	return pins, nil
}

func lockedChart(locked []bundle.Pin) *bundle.Pin {
	i := slices.IndexFunc(locked, func(p bundle.Pin) bool { return p.Kind == bundle.KindChart && len(p.Manifests) > 0 })
	if i < 0 {
		return nil
	}
	return &locked[i]
}

// resolveChart pins the chart and returns its version as a tag.
func (s *Source) resolveChart(ctx context.Context, locked *bundle.Pin) (bundle.Pin, string, error) {
	c := s.chart
	switch {
	case c.Path != "":
		raw, err := s.readPath()
		if err != nil {
			return bundle.Pin{}, "", err
		}
		return s.pack(raw, filepath.ToSlash(c.Path))
	case strings.HasPrefix(c.Repository, ociScheme):
		reference := strings.TrimPrefix(c.Repository, ociScheme)
		if c.Chart != "" {
			reference = strings.TrimSuffix(reference, "/") + "/" + c.Chart
		}
		return s.pull(ctx, reference, c.Version, locked)
	default:
		return s.resolveHTTP(ctx, locked)
	}
}

// readPath reads the .tgz, or packages the directory, that the definition names.
func (s *Source) readPath() ([]byte, error) {
	path := filepath.FromSlash(s.chart.Path)
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.dir, path)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if fi.IsDir() {
		var buf bytes.Buffer
		err := chart.Package(&buf, path, s.created)
		return buf.Bytes(), err
	}
	return readFile(path, chart.MaxArchive)
}

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a plain file", path)
	}
	return readAll(f, limit, path)
}

// readAll reads at most limit bytes of what name calls.
func readAll(r io.Reader, limit int64, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: more than %d bytes", name, limit)
	}
	return b, nil
}

// load reads a chart archive and keeps the chart for Discover.
func (s *Source) load(raw []byte, layer bundle.Descriptor) (*chart.Chart, error) {
	c, err := chart.Load(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded[layer.Digest.String()] = c
	return c, nil
}

// Open implements bundle.Source.
func (s *Source) Open(ctx context.Context, pin bundle.Pin, desc bundle.Descriptor) (io.ReadCloser, error) {
	if s.spool.Has(desc) {
		return s.spool.Open(desc)
	}
	r, err := s.fetch(ctx, pin, desc)
	if err != nil {
		return nil, fmt.Errorf("chart %q: open %s: %w", s.chart.Name, desc.Digest, err)
	}
	return r, nil
}
