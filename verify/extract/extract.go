// Package extract writes what a verified bundle carries to disk: files,
// directories, charts, modules and documents as files, images and the whole
// bundle as OCI image layouts.
//
// A signature says who made a bundle, not that its maker meant well: names are
// checked, sizes and counts are bounded before anything is written, and all
// writing goes through an os.Root. The destination gets its name only when
// everything in it is whole, checked and synced; a failed extraction leaves
// nothing behind.
package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/airlock-project/airlock/verify"
)

// NoItemError says that a bundle carries no such item.
type NoItemError struct {
	Item string
	Have []string // references carried
}

// Error implements error.
func (e *NoItemError) Error() string { return fmt.Sprintf("no item %q in the bundle", e.Item) }

// limits bound one extraction.
type limits struct {
	unpacked int64 // bytes that the layers of one item may unpack to
	layout   int64 // bytes of all blobs of a layout
	layers   int   // layers of an item that is written as files
	entries  int   // members of a directory
}

func defaultLimits() limits {
	return limits{
		unpacked: artifact.MaxBytes,
		layout:   archive.MaxBlob, // a bundle of any size is read in place; a terabyte of small files is a mistake
		layers:   1024,            // the most that Airlock makes are the 64 values files of a chart
		entries:  artifact.MaxEntries,
	}
}

// To extracts the item with that reference or name, or the name that it has in a
// mirror without prefix, into the directory out, or the whole bundle as the OCI
// layout it is where item is empty. That layout is the bundle in its other form:
// it opens under the same policy, with the signatures that lie beside the file
// laid beside the directory. out must not exist, its parent must. It returns the
// paths written.
//
// An item that is not carried is a *NoItemError, damage a *verify.ContentError
// or an *archive.FormatError, a bad file name an *artifact.NameError; what
// passes a limit wraps artifact.ErrTooLarge.
func To(ctx context.Context, b *verify.Bundle, item, out string) ([]string, error) {
	return to(ctx, b, item, out, defaultLimits())
}

// writer writes a planned extraction below root and returns the names of what a
// person would look for.
type writer func(ctx context.Context, root *os.Root) ([]string, error)

func to(ctx context.Context, b *verify.Bundle, item, out string, l limits) ([]string, error) {
	if _, err := os.Lstat(out); err == nil {
		return nil, fmt.Errorf("write %s: %w", out, fs.ErrExist)
	}
	write, err := plan(b, item, l)
	if err != nil {
		return nil, err
	}
	names, err := stage(ctx, filepath.Clean(out), write)
	for i, n := range names {
		names[i] = filepath.Join(out, n)
	}
	return names, err
}

// stage lets write fill a directory beside out, and names that directory out.
func stage(ctx context.Context, out string, write writer) (names []string, err error) {
	parent := filepath.Dir(out)
	tmp, err := os.MkdirTemp(parent, ".airlock-extract-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	// tmp is private while it fills; the directory in it has the mode that the
	// operator's umask gives it.
	content := filepath.Join(tmp, "content")
	if err := os.Mkdir(content, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(content)
	if err != nil {
		return nil, err
	}
	names, err = write(ctx, root)
	if err == nil {
		err = syncDirs(root)
	}
	if err := errors.Join(err, root.Close()); err != nil {
		return nil, err
	}
	if err := os.Rename(content, out); err != nil {
		return nil, err
	}
	return names, syncDir(os.Open(parent))
}

// syncDirs makes the names in root and everything below durable; the files
// themselves are synced as they are written.
func syncDirs(root *os.Root) error {
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(root.Open(name))
	})
}

func syncDir(d *os.File, err error) error {
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// plan decides what is written, and refuses what must not be, before there is
// anything on disk.
func plan(b *verify.Bundle, item string, l limits) (writer, error) {
	var entries []bundle.Entry
	for e, err := range b.Items() {
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	if item == "" {
		return planBundle(b, entries, l)
	}
	e, err := find(entries, item)
	if err != nil {
		return nil, err
	}
	if e.Kind == bundle.KindImage || e.Kind == bundle.KindTool || bundle.IsIndex(e.MediaType) {
		mine, err := closure(b, entries, e)
		if err != nil {
			return nil, err
		}
		index, err := bundle.EncodeIndex(b.Info().Info, mine)
		if err != nil {
			return nil, err
		}
		return planLayout(b, mine, index, l)
	}
	return planFiles(b, e, l)
}

// find returns the root that item names: by reference, by name, or by what
// mirror and serve call it, where only one root is called so.
func find(entries []bundle.Entry, item string) (bundle.Entry, error) {
	var refs []string
	var byRef, byName, byServed []bundle.Entry
	for _, e := range entries {
		if e.Role != bundle.RoleRoot {
			continue
		}
		refs = append(refs, e.Ref)
		if e.Ref == item {
			byRef = append(byRef, e)
		}
		if e.Name == item {
			byName = append(byName, e)
		}
		if slices.Contains(served(e), item) {
			byServed = append(byServed, e)
		}
	}
	found := byRef
	for _, more := range [][]bundle.Entry{byName, byServed} {
		if len(found) == 0 {
			found = more
		}
	}
	switch len(found) {
	case 0:
		return bundle.Entry{}, &NoItemError{Item: item, Have: refs}
	case 1:
		return found[0], nil
	}
	refs = refs[:0]
	for _, e := range found {
		refs = append(refs, fmt.Sprintf("%s %s", e.Kind, e.Ref))
	}
	slices.Sort(refs)
	return bundle.Entry{}, fmt.Errorf("item %q is ambiguous, give the reference: %s", item, strings.Join(refs, ", "))
}

// served lists what a reference is called where its host is left out: the name
// under which package mirror puts it and serves it, with its tag or digest.
func served(e bundle.Entry) []string {
	name, pinned, digested := strings.Cut(e.Ref, "@")
	host, path, ok := strings.Cut(name, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		path = name
	} else if slices.Contains(dockerHub(), host) && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	switch tagged := strings.LastIndexByte(path, ':') > strings.LastIndexByte(path, '/'); {
	case tagged:
		return []string{path}
	case digested:
		return []string{path + "@" + pinned, path + ":sha256-" + e.Digest.Encoded()[:12]}
	default:
		return []string{path, path + ":latest"}
	}
}

// dockerHub lists the hosts under which names without a path mean library/name.
func dockerHub() []string { return []string{"docker.io", "index.docker.io", "registry-1.docker.io"} }

// save writes a verified stream to a new file.
func save(ctx context.Context, root *os.Root, name string, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, artifact.Watch(ctx, r, nil, "")); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func node(b *verify.Bundle, e bundle.Entry) (bundle.Node, error) {
	raw, _, ok := b.Manifest(e.Digest)
	if !ok {
		return bundle.Node{}, fmt.Errorf("manifest %s: %w", e.Digest, verify.ErrNotCarried)
	}
	n, err := bundle.ParseNode(e.MediaType, raw)
	if err != nil {
		return bundle.Node{}, fmt.Errorf("manifest %s: %w", e.Digest, err)
	}
	return n, nil
}
