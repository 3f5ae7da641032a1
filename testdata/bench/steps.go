package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/airlock-project/airlock/verify"
	"golang.org/x/sync/errgroup"
)

// step is one row of the table. Rows run in their order, once a round, so that
// whatever else the machine does falls on all of them.
type step struct {
	Name  string `json:"name"`
	Floor string `json:"floor,omitempty"` // the row that does the least that this one must do
	peer  string // the row of skopeo to compare with
	once  bool   // in the first round only
	run   func(b *bench, ctx context.Context) (sample, error)
}

// Rows that others are compared with.
const (
	rowCreate = "airlock bundle create"
	rowCp     = "cp of the bundle"
	rowSync   = "cp and sync"
	rowSum    = "sha256sum of all blobs"
	rowHash   = "SHA-256 of all blobs, all cores"
	rowUpload = "plain upload of all blobs"
	rowPull   = "skopeo copy --all, registry to layout"
	rowPush   = "skopeo copy --all, layout to registry"
)

func steps(skopeo, large bool) []step {
	list := []step{
		{Name: rowCreate, Floor: rowSync, peer: rowPull, run: (*bench).create},
		{Name: rowCp, run: (*bench).cp},
		{Name: rowSync, run: (*bench).cpSync},
		{Name: rowSum, run: (*bench).sha256sum},
		{Name: rowHash, run: (*bench).hash},
		{Name: "plain download of all blobs", run: (*bench).download},
		{Name: "airlock verify", Floor: rowHash, run: (*bench).verify},
		{Name: "airlock verify --signature-only", Floor: rowHash, run: (*bench).signature},
		{Name: "verify.Open in process", Floor: rowHash, run: (*bench).open},
		{Name: rowUpload, peer: rowPush, run: (*bench).upload},
		{Name: "airlock mirror, empty registry", Floor: rowUpload, peer: rowPush, run: (*bench).mirror},
		{Name: "airlock mirror again", Floor: rowUpload, peer: rowPush, run: (*bench).mirrorAgain},
		{Name: "airlock bundle create, itself inside", Floor: rowSync, peer: rowPull, run: (*bench).createSelf},
	}
	if skopeo {
		list = append(list,
			step{Name: rowPull, Floor: rowSync, run: (*bench).skopeoPull},
			step{Name: rowPush, Floor: rowUpload, run: (*bench).skopeoPush})
	}
	return append(list, shapes(large)...)
}

// create makes the bundle that the following steps of the round use.
func (b *bench) create(ctx context.Context) (sample, error) {
	if err := b.fresh("small"); err != nil {
		return sample{}, err
	}
	return b.measure(ctx, b.path("small"), b.airlock, "bundle", "create", "--key", b.path("bench.key"), "--plain-http", b.source.host, "-o", b.bundle())
}

// createSelf makes a bundle that carries the airlock binary, as bundles do
// unless the definition names other tools.
func (b *bench) createSelf(ctx context.Context) (sample, error) {
	if err := b.fresh("self"); err != nil {
		return sample{}, err
	}
	s, err := b.measure(ctx, b.path("self"), b.airlock, "bundle", "create", "--key", b.path("bench.key"), "--plain-http", b.source.host, "-o", b.path("self", "out.tar.zst"))
	if err != nil {
		return sample{}, err
	}
	fi, err := os.Stat(b.path("self", "out.tar.zst"))
	if err != nil {
		return sample{}, err
	}
	b.selfSize = fi.Size()
	return s, b.fresh("self")
}

// fresh empties a work folder of create and writes the definition again.
func (b *bench) fresh(name string) error {
	if err := os.RemoveAll(b.path(name)); err != nil {
		return err
	}
	if err := os.Mkdir(b.path(name), 0o755); err != nil {
		return err
	}
	var def strings.Builder
	def.WriteString("apiVersion: airlock/v1\nkind: Bundle\nproduct: bench\nversion: v1.0.0\nrelease: 1\nimages:\n")
	for _, img := range b.in.images {
		fmt.Fprintf(&def, "  - {ref: %q}\n", b.source.host+"/"+img.repo+":"+img.tag)
	}
	if name == "small" {
		fmt.Fprintf(&def, "tools: {path: %q, platforms: [%s]}\n", b.path("tools"), b.platform)
	}
	return os.WriteFile(b.path(name, "airlock.yaml"), []byte(def.String()), 0o644)
}

func (b *bench) cp(ctx context.Context) (sample, error) {
	s, err := b.measure(ctx, b.dir, "cp", b.bundle(), b.path("copy"))
	if err != nil {
		return sample{}, err
	}
	return s, os.Remove(b.path("copy"))
}

func (b *bench) cpSync(ctx context.Context) (sample, error) {
	s, err := b.measure(ctx, b.dir, "dd", "if="+b.bundle(), "of="+b.path("copy"), "bs=1M", "conv=fsync", "status=none")
	if err != nil {
		return sample{}, err
	}
	return s, os.Remove(b.path("copy"))
}

func (b *bench) sha256sum(ctx context.Context) (sample, error) {
	argv := []string{"sha256sum"}
	for _, d := range b.in.unique {
		argv = append(argv, b.in.path(d.Digest))
	}
	return b.measure(ctx, b.dir, argv...)
}

// hash is the floor of whatever verifies: crypto/sha256 of this program, which
// uses the processor's instructions where sha256sum may not.
func (b *bench) hash(context.Context) (sample, error) {
	return b.clock(func() error {
		var g errgroup.Group
		g.SetLimit(runtime.NumCPU())
		for _, d := range b.in.unique {
			g.Go(func() error {
				f, err := os.Open(b.in.path(d.Digest))
				if err != nil {
					return err
				}
				_, err = io.CopyBuffer(struct{ io.Writer }{sha256.New()}, struct{ io.Reader }{f}, make([]byte, 512<<10))
				return errors.Join(err, f.Close())
			})
		}
		return g.Wait()
	})
}

func (b *bench) download(ctx context.Context) (sample, error) {
	return b.clock(func() error { return b.source.download(ctx, b.in) })
}

func (b *bench) verify(ctx context.Context) (sample, error) {
	return b.measure(ctx, b.dir, b.airlock, "verify", b.bundle(), "--key", b.path("bench.pub"))
}

func (b *bench) signature(ctx context.Context) (sample, error) {
	return b.measure(ctx, b.dir, b.airlock, "verify", b.bundle(), "--key", b.path("bench.pub"), "--signature-only")
}

func (b *bench) open(ctx context.Context) (sample, error) {
	return b.clock(func() error {
		p, err := verify.KeyPolicy(b.path("bench.pub"))
		if err != nil {
			return err
		}
		f, err := verify.Open(ctx, b.bundle(), p, verify.Options{})
		if err != nil {
			return err
		}
		return f.Close()
	})
}

func (b *bench) upload(ctx context.Context) (s sample, err error) {
	if err := b.emptyTarget(); err != nil {
		return sample{}, err
	}
	return b.clock(func() error { return b.target.upload(ctx, b.in, b.in.images[0].repo, b.in.unique) })
}

func (b *bench) mirror(ctx context.Context) (sample, error) {
	if err := b.emptyTarget(); err != nil {
		return sample{}, err
	}
	return b.mirrorAgain(ctx)
}

func (b *bench) mirrorAgain(ctx context.Context) (sample, error) {
	return b.measure(ctx, b.dir, b.airlock, "mirror", b.bundle(), "--key", b.path("bench.pub"), "--to", b.target.host, "--plain-http", b.target.host)
}

// skopeoPull copies both images into one layout: it has the blobs that they
// share after the first.
func (b *bench) skopeoPull(ctx context.Context) (sample, error) {
	s, err := b.skopeo(ctx, "--src-tls-verify=false", func(img image) (from, to string) {
		return "docker://" + b.source.host + "/" + img.repo + ":" + img.tag, "oci:" + b.path("copy") + ":" + filepath.Base(img.repo)
	})
	if err != nil {
		return sample{}, err
	}
	return s, os.RemoveAll(b.path("copy"))
}

func (b *bench) skopeoPush(ctx context.Context) (sample, error) {
	if err := b.emptyTarget(); err != nil {
		return sample{}, err
	}
	return b.skopeo(ctx, "--dest-tls-verify=false", func(img image) (from, to string) {
		return "oci:" + b.in.dir + ":" + filepath.Base(img.repo), "docker://" + b.target.host + "/" + img.repo + ":" + img.tag
	})
}

func (b *bench) skopeo(ctx context.Context, flag string, where func(image) (from, to string)) (sum sample, err error) {
	for _, img := range b.in.images {
		from, to := where(img)
		s, err := b.measure(ctx, b.dir, "skopeo", "--insecure-policy", "copy", "--all", flag, from, to)
		if err != nil {
			return sample{}, err
		}
		sum.Seconds += s.Seconds
		sum.CPU += s.CPU
		sum.Written += s.Written
		sum.Received += s.Received
		sum.Peak = max(sum.Peak, s.Peak)
	}
	return sum, nil
}
