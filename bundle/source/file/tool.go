package file

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxTool bounds one tool binary, in bytes; Airlock's has about 150 MB.
const MaxTool = 1 << 30

// Tool carries Airlock itself: a scratch image of one static file, /airlock,
// per node platform, under one index. It implements bundle.Source.
type Tool struct {
	spool    *bundle.Spool
	binaries map[string]string
	opts     Options
}

// NewTool returns the source of the tool image. binaries maps a platform
// ("linux/amd64") to the path of its binary. A Linux binary must be an ELF file
// for its platform: finding out inside the gap would be late.
func NewTool(spool *bundle.Spool, binaries map[string]string, opts Options) *Tool {
	return &Tool{spool: spool, binaries: maps.Clone(binaries), opts: opts}
}

// Origin implements bundle.Source.
func (t *Tool) Origin() string { return "tool airlock" }

// Open implements bundle.Source.
func (t *Tool) Open(_ context.Context, _ bundle.Pin, desc bundle.Descriptor) (io.ReadCloser, error) {
	return t.spool.Open(desc)
}

// Resolve makes the images and their index, tagged "airlock:<version>".
func (t *Tool) Resolve(ctx context.Context, _ []bundle.Pin) ([]bundle.Pin, error) {
	if err := artifact.CheckTag(t.opts.Version); err != nil {
		return nil, fmt.Errorf("pack tool: %w", err)
	}
	if len(t.binaries) == 0 {
		return nil, errors.New("pack tool: no binary given")
	}
	ref := "airlock:" + t.opts.Version
	pin := bundle.Pin{Item: bundle.Item{Kind: bundle.KindTool, Name: "airlock", Ref: ref}, Origin: t.Origin()}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	var children []bundle.Manifest
	for _, platform := range slices.Sorted(maps.Keys(t.binaries)) {
		m, blobs, err := t.image(ctx, platform)
		if err != nil {
			return nil, fmt.Errorf("pack tool for %s: %w", platform, err)
		}
		index.Manifests = append(index.Manifests, m.Descriptor)
		children = append(children, m)
		for _, b := range blobs {
			pin.Blobs = artifact.AppendBlob(pin.Blobs, b)
		}
	}
	raw, err := json.Marshal(index)
	if err != nil {
		return nil, fmt.Errorf("encode tool index: %w", err)
	}
	desc, err := t.spool.AddBytes(index.MediaType, raw)
	if err != nil {
		return nil, err
	}
	root := bundle.Manifest{Descriptor: desc, Role: bundle.RoleRoot, Ref: ref, Raw: raw}
	pin.Manifests = append([]bundle.Manifest{root}, children...)
	return []bundle.Pin{pin}, nil
}

// image makes the image of one platform and returns it with its config and
// layer.
func (t *Tool) image(ctx context.Context, name string) (bundle.Manifest, []bundle.Descriptor, error) {
	platform, err := ParsePlatform(name)
	if err != nil {
		return bundle.Manifest{}, nil, err
	}
	layer, diffID, err := t.layer(ctx, platform, t.opts.Path(t.binaries[name]))
	if err != nil {
		return bundle.Manifest{}, nil, err
	}
	created := time.Unix(t.opts.Created.Unix(), 0).UTC()
	raw, err := json.Marshal(ocispec.Image{
		Created:  &created,
		Platform: platform,
		Config:   ocispec.ImageConfig{Entrypoint: []string{"/airlock"}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
	})
	if err != nil {
		return bundle.Manifest{}, nil, fmt.Errorf("encode config: %w", err)
	}
	config, err := t.spool.AddBytes(ocispec.MediaTypeImageConfig, raw)
	if err != nil {
		return bundle.Manifest{}, nil, err
	}
	m, err := bundle.PackManifest(t.spool, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config,
		Layers:    []bundle.Descriptor{layer},
	})
	m.Role, m.Platform = bundle.RoleChild, &platform
	return m, []bundle.Descriptor{config, layer}, err
}

// layer spools a tar of the one file as a zstd layer.
func (t *Tool) layer(ctx context.Context, platform ocispec.Platform, path string) (bundle.Descriptor, digest.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return bundle.Descriptor{}, "", err
	}
	defer f.Close() // only read
	fi, err := f.Stat()
	if err != nil {
		return bundle.Descriptor{}, "", err
	}
	if !fi.Mode().IsRegular() || fi.Size() > MaxTool {
		return bundle.Descriptor{}, "", fmt.Errorf("%q is not a file of at most %d bytes", path, MaxTool)
	}
	br := bufio.NewReader(artifact.Watch(ctx, f, t.opts.Listen, t.Origin()))
	if err := checkMachine(br, platform, path); err != nil {
		return bundle.Descriptor{}, "", err
	}
	var head bytes.Buffer
	tw := tar.NewWriter(&head)
	if err := tw.WriteHeader(artifact.FileHeader("airlock", 0o755, fi.Size(), t.opts.Created)); err != nil {
		return bundle.Descriptor{}, "", err
	}
	// One member: header, bytes, padding to 512, two blocks of zeros (POSIX pax).
	tail := make([]byte, (512-fi.Size()%512)%512+1024)
	body := &io.LimitedReader{R: br, N: fi.Size()}
	desc, diffID, size, err := t.spool.AddZstd(ocispec.MediaTypeImageLayerZstd, io.MultiReader(&head, body, bytes.NewReader(tail)))
	if err == nil && size != 512+fi.Size()+int64(len(tail)) {
		err = fmt.Errorf("%q changed while it was read", path)
	}
	return desc, diffID, err
}

func checkMachine(br *bufio.Reader, p ocispec.Platform, path string) error {
	want, known := map[string]string{
		"amd64": "EM_X86_64", "arm64": "EM_AARCH64", "386": "EM_386", "arm": "EM_ARM",
		"ppc64le": "EM_PPC64", "s390x": "EM_S390", "riscv64": "EM_RISCV",
	}[p.Architecture]
	if p.OS != "linux" || !known {
		return nil
	}
	got, err := artifact.PeekELF(br)
	if err != nil {
		return err
	}
	if got == "" {
		return fmt.Errorf("%q is no ELF file: build it with GOOS=linux GOARCH=%s", path, p.Architecture)
	}
	if got != want {
		return fmt.Errorf("%q is built for %s, want %s: build it with GOARCH=%s", path, got, want, p.Architecture)
	}
	return nil
}

// ParsePlatform reads "os/arch" or "os/arch/variant".
func ParsePlatform(s string) (ocispec.Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return ocispec.Platform{}, fmt.Errorf("platform %q is not os/arch or os/arch/variant", s)
	}
	p := ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}
