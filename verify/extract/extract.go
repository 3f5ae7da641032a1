// Package extract writes items of a verified bundle to disk: files as files,
// images as OCI image layouts. It writes through os.Root only, and gives the
// destination its name when everything in it is whole and checked.
package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/bundle/source/file"
	"github.com/airlock-project/airlock/verify"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// NoItemError says that a bundle carries no such item.
type NoItemError struct {
	Item string
	Have []string // references carried
}

func (e *NoItemError) Error() string { return fmt.Sprintf("no item %q in the bundle", e.Item) }

// To extracts the item with that name or reference into the directory out, or
// the whole bundle as an OCI layout where item is empty. out must not exist. It
// returns the paths written.
func To(ctx context.Context, b *verify.Bundle, item, out string) ([]string, error) {
	if _, err := os.Lstat(out); err == nil {
		return nil, fmt.Errorf("write %s: %w", out, os.ErrExist)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(out)), filepath.Base(out)+".partial-")
	if err != nil {
		return nil, err
	}
	// After the rename the temporary name is gone and this does nothing.
	defer os.RemoveAll(tmp)
	root, err := os.OpenRoot(tmp)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	names, err := write(ctx, b, item, root)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, out); err != nil {
		return nil, err
	}
	for i, n := range names {
		names[i] = filepath.Join(out, n)
	}
	return names, nil
}

func write(ctx context.Context, b *verify.Bundle, item string, root *os.Root) ([]string, error) {
	entries, err := entriesOf(b)
	if err != nil {
		return nil, err
	}
	if item == "" {
		return layout(ctx, b, entries, root)
	}
	var refs []string
	for _, e := range entries {
		if e.Role != bundle.RoleRoot {
			continue
		}
		if e.Ref == item || e.Name == item {
			return one(ctx, b, e, entries, root)
		}
		refs = append(refs, e.Ref)
	}
	return nil, &NoItemError{Item: item, Have: refs}
}

func entriesOf(b *verify.Bundle) ([]bundle.Entry, error) {
	var out []bundle.Entry
	for e, err := range b.Items() {
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// one writes an item: an image with all that hangs on it as a layout, any
// other artifact layer by layer.
func one(ctx context.Context, b *verify.Bundle, e bundle.Entry, entries []bundle.Entry, root *os.Root) ([]string, error) {
	if e.Kind == bundle.KindImage || e.Kind == bundle.KindTool {
		mine := slices.DeleteFunc(slices.Clone(entries), func(x bundle.Entry) bool { return x.Name != e.Name || x.Kind != e.Kind })
		return layout(ctx, b, mine, root)
	}
	raw, _, ok := b.Manifest(e.Digest)
	if !ok {
		return nil, fmt.Errorf("manifest %s: %w", e.Digest, verify.ErrNotCarried)
	}
	n, err := bundle.ParseNode(e.MediaType, raw)
	if err != nil {
		return nil, err
	}
	var names []string
	for i, l := range n.Layers {
		name, err := layerName(e, l, i)
		if err != nil {
			return nil, err
		}
		if err := layer(ctx, b, l, name, root); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

// layerName is the title of a layer, or a name made of the item.
func layerName(e bundle.Entry, l bundle.Descriptor, i int) (string, error) {
	if t := l.Annotations[ocispec.AnnotationTitle]; t != "" {
		return t, file.BaseName(t)
	}
	name := strings.NewReplacer("/", "-", ":", "-").Replace(e.Ref)
	switch {
	case e.Kind == bundle.KindChart && strings.HasSuffix(l.MediaType, "tar+gzip"):
		name = strings.TrimPrefix(name, "charts-") + ".tgz"
	case e.Kind == bundle.KindChart:
		name = strings.TrimPrefix(name, "charts-") + ".tgz.prov"
	case e.Kind == bundle.KindModule:
		name = strings.TrimPrefix(name, "modules-") + ".zip"
	case i > 0:
		name = fmt.Sprintf("%s-%d", name, i)
	}
	return name, file.BaseName(name)
}

func layer(ctx context.Context, b *verify.Bundle, l bundle.Descriptor, name string, root *os.Root) error {
	rc, err := b.Fetch(ctx, l)
	if err != nil {
		return err
	}
	defer rc.Close()
	switch l.MediaType {
	case bundle.MediaTypeFile:
		meta, err := file.ParseMeta(l.Annotations)
		if err != nil {
			return err
		}
		return file.ExtractFile(root, name, rc, meta, file.Limits{})
	case bundle.MediaTypeDirectory:
		if err := root.Mkdir(name, 0o755); err != nil {
			return err
		}
		sub, err := root.OpenRoot(name)
		if err != nil {
			return err
		}
		defer sub.Close()
		return file.ExtractDirectory(sub, rc, file.Limits{})
	}
	return save(root, name, rc)
}

// save writes a verified stream to a new file.
func save(root *os.Root, name string, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Sync(), f.Close())
}

// layout writes entries as an OCI image layout. With all entries its index.json
// is the signed one, so that the directory is the bundle in its other form.
func layout(ctx context.Context, b *verify.Bundle, entries []bundle.Entry, root *os.Root) ([]string, error) {
	head, whole := b.Head(), false
	all, err := entriesOf(b)
	if err != nil {
		return nil, err
	}
	index := head.Index
	if whole = len(all) == len(entries); !whole {
		if index, err = bundle.EncodeIndex(b.Info().Info, entries); err != nil {
			return nil, err
		}
	}
	if err := root.MkdirAll("blobs/sha256", 0o755); err != nil {
		return nil, err
	}
	done := map[digest.Digest]bool{}
	for _, e := range entries {
		raw, _, ok := b.Manifest(e.Digest)
		if !ok {
			return nil, fmt.Errorf("manifest %s: %w", e.Digest, verify.ErrNotCarried)
		}
		n, err := bundle.ParseNode(e.MediaType, raw)
		if err != nil {
			return nil, err
		}
		for _, d := range append([]bundle.Descriptor{e.Descriptor}, n.Blobs()...) {
			if done[d.Digest] {
				continue
			}
			done[d.Digest] = true
			if err := blob(ctx, b, d, root); err != nil {
				return nil, err
			}
		}
	}
	files := map[string][]byte{"oci-layout": []byte(archive.Layout), "index.json": index}
	if whole {
		files["trusted_root.json"] = []byte(archive.TrustedRoot)
		if err := root.MkdirAll("signatures", 0o755); err != nil {
			return nil, err
		}
		for _, s := range head.Signatures {
			files["signatures/"+s.Name] = s.Data
		}
	}
	for name, data := range files {
		if err := root.WriteFile(name, data, 0o644); err != nil {
			return nil, err
		}
	}
	return []string{"index.json"}, nil
}

func blob(ctx context.Context, b *verify.Bundle, d bundle.Descriptor, root *os.Root) error {
	rc, err := b.Fetch(ctx, d)
	if err != nil {
		return err
	}
	defer rc.Close()
	return save(root, "blobs/sha256/"+d.Digest.Encoded(), rc)
}
