//go:build all

package readers

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// images are the references in the definition and what they stand for.
type images struct {
	app, multi, chosen, odd, pinned string
	digests                         map[string]string // by reference
}

// definition makes a bundle of every kind of item that stock programs read:
// chosen is the index multi, of which one platform is carried.
// The name of odd is a legal Docker reference that image-spec's ref.name does
// not allow.
const definition = `apiVersion: airlock/v1
kind: Bundle
product: readers
version: v1.0.0
release: 3
images:
  - ref: %s
  - {ref: "%s", platforms: all}
  - {ref: "%s", platforms: [linux/arm64]}
  - ref: %s
  - ref: %s
charts: [{name: demo, path: chart}]
modules: [{name: network, path: module}]
files: [{path: docs, name: docs}]
tools: {path: tools, platforms: [linux/amd64, linux/arm64]}
`

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: demo}
spec:
  selector: {matchLabels: {app: demo}}
  template:
    metadata: {labels: {app: demo}}
    spec:
      containers: [{name: app, image: {{ .Values.image | quote }}}]
`

func newLaboratory(ctx context.Context, dir, host string) (*laboratory, error) {
	l := &laboratory{dir: dir, host: host, key: filepath.Join(dir, "release.key"), pub: filepath.Join(dir, "release.pub")}
	var err error
	if l.images, err = pushImages(ctx, host); err != nil {
		return nil, fmt.Errorf("push images: %w", err)
	}
	product := filepath.Join(dir, "product")
	i := l.images
	files := map[string][]byte{
		"airlock.yaml":                fmt.Appendf(nil, definition, i.app, i.multi, i.chosen, i.odd, i.pinned),
		"chart/Chart.yaml":            []byte("apiVersion: v2\nname: demo\nversion: 1.2.3+build.4\n"),
		"chart/values.yaml":           []byte("image: " + i.app + "\n"),
		"chart/templates/deploy.yaml": []byte(deployment),
		"module/main.tf":              []byte("output \"x\" { value = 1 }\n"),
		"docs/runbook.md":             []byte("# Runbook\n"),
		"tools/airlock-linux-amd64":   elf(62),  // EM_X86_64
		"tools/airlock-linux-arm64":   elf(183), // EM_AARCH64
	}
	for name, data := range files {
		if err := writeFile(filepath.Join(product, name), data); err != nil {
			return nil, err
		}
	}
	l.bundle = filepath.Join(dir, "out", "readers-v1.0.0.tar.zst")
	if err := os.Mkdir(filepath.Dir(l.bundle), 0o755); err != nil {
		return nil, err
	}
	sign := []string{"cosign", "sign", "-y", "--tlog-upload=false", "--allow-http-registry", "--key", l.key}
	for _, args := range [][]string{
		{"airlock", "keygen", "--name", filepath.Join(dir, "release")},
		append(slices.Clone(sign), host+"/team/app@"+i.digests[i.app]),
		append(slices.Clone(sign), "--new-bundle-format", host+"/team/multi@"+i.digests[i.multi]),
		{"airlock", "bundle", "create", "--plain-http", host, "--key", l.key, "-o", l.bundle},
	} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = product
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%q: %w\n%s", args, err, out)
		}
	}
	return l, nil
}

// elf returns the header of an ELF file for a machine (System V ABI, chapter
// 4), and nothing after it: it is carried, never run.
func elf(machine uint16) []byte {
	h := make([]byte, 64)
	copy(h, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(h[16:], 2) // ET_EXEC
	binary.LittleEndian.PutUint16(h[18:], machine)
	binary.LittleEndian.PutUint32(h[20:], 1)
	binary.LittleEndian.PutUint16(h[52:], 64)
	return h
}

// pushImages fills the registry: an image with a layer of every way a bundle
// stores one, an index of two platforms, and two images with unusual names.
func pushImages(ctx context.Context, host string) (images, error) {
	// No proxy: the registry is in this process.
	opts := []remote.Option{remote.WithContext(ctx), remote.WithTransport(&http.Transport{})}
	app, err := image("amd64", 1, 300<<10, 5<<20)
	if err != nil {
		return images{}, err
	}
	arm, err := image("arm64", 2, 1<<10, 200<<10)
	if err != nil {
		return images{}, err
	}
	odd, err := image("amd64", 3, 0, 1)
	if err != nil {
		return images{}, err
	}
	armDigest, err := arm.Digest()
	if err != nil {
		return images{}, err
	}
	i := images{
		app: host + "/team/app:v1", multi: host + "/team/multi:v2", chosen: host + "/team/multi:chosen", odd: host + "/team/odd__name:v1",
		pinned: host + "/team/pinned@" + armDigest.String(), digests: map[string]string{},
	}
	for ref, what := range map[string]remote.Taggable{i.app: app, i.odd: odd, i.pinned: arm} {
		if err := push(ref, what, opts, i.digests); err != nil {
			return images{}, err
		}
	}
	for _, child := range []v1.Image{app, arm} {
		d, err := child.Digest()
		if err != nil {
			return images{}, err
		}
		if err := push(host+"/team/multi@"+d.String(), child, opts, map[string]string{}); err != nil {
			return images{}, err
		}
	}
	multi, err := index(map[string]v1.Image{"amd64": app, "arm64": arm})
	if err != nil {
		return images{}, err
	}
	return i, errors.Join(push(i.multi, multi, opts, i.digests), push(i.chosen, multi, opts, i.digests))
}

// rawIndex is an image index as bytes.
type rawIndex []byte

func (r rawIndex) RawManifest() ([]byte, error)      { return r, nil }
func (rawIndex) MediaType() (types.MediaType, error) { return types.OCIImageIndex, nil }

// index lists the images of a repository by architecture. It is encoded as
// image-spec's own types are, which is what build tools push: skopeo 1.9
// encodes an index again and, told to preserve digests, refuses one that comes
// out differently.
func index(byArch map[string]v1.Image) (rawIndex, error) {
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, arch := range slices.Sorted(maps.Keys(byArch)) {
		raw, err := byArch[arch].RawManifest()
		if err != nil {
			return nil, err
		}
		idx.Manifests = append(idx.Manifests, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw)),
			Platform: &ocispec.Platform{OS: "linux", Architecture: arch},
		})
	}
	return json.Marshal(idx)
}

func push(ref string, what remote.Taggable, opts []remote.Option, digests map[string]string) error {
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		return err
	}
	if img, ok := what.(v1.Image); ok {
		err = remote.Write(r, img, opts...)
	} else {
		err = remote.Put(r, what, opts...)
	}
	if err != nil {
		return err
	}
	raw, err := what.RawManifest()
	digests[ref] = digest.FromBytes(raw).String()
	return err
}

// image makes an image of pseudo-random layers of the given sizes; the first
// layer says it is gzip, the next one that it is a plain tar, and so on.
func image(arch string, seed byte, sizes ...int) (v1.Image, error) {
	rnd := rand.NewChaCha8([32]byte{seed})
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	var err error
	for i, n := range sizes {
		var data bytes.Buffer
		if _, err := io.CopyN(&data, rnd, int64(n)); err != nil {
			return nil, err
		}
		mediaType := types.OCILayer
		if i%2 == 1 {
			mediaType = types.OCIUncompressedLayer
		}
		if img, err = mutate.AppendLayers(img, static.NewLayer(data.Bytes(), mediaType)); err != nil {
			return nil, err
		}
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", arch
	return mutate.ConfigFile(img, cfg)
}
