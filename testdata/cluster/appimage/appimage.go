// Package appimage packs one static program into an image that a real node can
// run.
package appimage

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
)

// New returns an image for linux/amd64 that runs a program with arguments, as
// the user 65532.
func New(program string, args ...string) (v1.Image, error) {
	data, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	path := filepath.Base(program)
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, h := range []tar.Header{{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, {Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: path, Mode: 0o755, Size: int64(len(data))}} {
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config = v1.Config{Entrypoint: append([]string{"/" + path}, args...), User: "65532:65532"}
	return mutate.ConfigFile(img, config)
}

// Write writes an image that runs a program into a file, a docker archive, with
// a reference.
func Write(file, ref, program string, args ...string) error {
	img, err := New(program, args...)
	if err != nil {
		return err
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(file, tag, img)
}

// Push puts an image that runs a program into a registry that speaks plain HTTP.
// ref is "repository:tag".
func Push(ctx context.Context, host, ref, program string, args ...string) error {
	img, err := New(program, args...)
	if err != nil {
		return err
	}
	repo, err := remote.NewRepository(host + "/" + ref)
	if err != nil {
		return err
	}
	repo.PlainHTTP = true
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	raw, err := img.RawManifest()
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for i, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			return err
		}
		err = repo.Push(ctx, descriptor(manifest.Layers[i]), rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			return fmt.Errorf("push %s: %w", ref, err)
		}
	}
	if err := repo.Push(ctx, descriptor(manifest.Config), bytes.NewReader(config)); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	d := ocispec.Descriptor{MediaType: string(manifest.MediaType), Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := repo.PushReference(ctx, d, bytes.NewReader(raw), repo.Reference.Reference); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	return nil
}

func descriptor(d v1.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: d.Size}
}
