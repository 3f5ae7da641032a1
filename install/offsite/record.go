package offsite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/airlock-project/airlock/install"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
)

// Types of the record.
const (
	recordType = "application/vnd.airlock.record.v1"
	fileType   = "application/vnd.airlock.record.file.v1"
)

// Limits on a record that is restored.
const (
	maxFile  = 1 << 30
	maxTotal = 8 << 30
	maxFiles = 16 << 10
)

// files are the parts of a state directory that a record has: nothing that is
// secret, and not the key that hides secrets in hashes. The ledger comes first.
var files = []string{"ledger.jsonl", "run.json", "checkpoints.jsonl", "report.json"}

var artifactPattern = regexp.MustCompile(`^artifacts/[0-9a-f]{64}$`)

// Push copies a record: first under its run, then as the site's newest. A blob
// that is there already is not sent again. The warning says that the newest was
// another state directory's.
func Push(ctx context.Context, p Place, rec install.Published) (warning string, err error) {
	root, err := os.OpenRoot(rec.Dir)
	if err != nil {
		return "", fmt.Errorf("open state directory: %w", err)
	}
	defer root.Close()
	layers, err := pushFiles(ctx, p, root)
	if err != nil {
		return "", err
	}
	if _, err := pushBytes(ctx, p, ocispec.MediaTypeEmptyJSON, ocispec.DescriptorEmptyJSON.Data); err != nil {
		return "", err
	}
	desc, manifest, err := packed(recordType, layers, rec.At, map[string]string{
		annotationSite: rec.Site, annotationRun: rec.RunID, annotationSeq: strconv.FormatInt(rec.Head.Seq, 10), annotationHead: rec.Head.Hash,
	})
	if err != nil {
		return "", err
	}
	newest := LedgerTag(rec.Site, "")
	if warning, err = fork(ctx, p, newest, rec); err != nil {
		return "", err
	}
	for _, tag := range []string{LedgerTag(rec.Site, rec.RunID), newest} {
		if err := p.PushReference(ctx, desc, bytes.NewReader(manifest), tag); err != nil {
			return "", fmt.Errorf("write %s: %w", tag, err)
		}
	}
	return warning, nil
}

// Compare holds a record against the site's newest one before a run. Where the
// record here has no entries yet, the copy is only told of; where it has, and
// the copy is none of its earlier parts, the error is an *install.ForkError.
// where is the place's name, for people.
func Compare(ctx context.Context, p Place, where string, rec install.Published) (warning string, err error) {
	newest := LedgerTag(rec.Site, "")
	m, _, err := fetchManifest(ctx, p, newest, recordType)
	if err != nil || m == nil {
		return "", err
	}
	copied := install.Head{Hash: m.Annotations[annotationHead]}
	if copied.Seq, err = strconv.ParseInt(m.Annotations[annotationSeq], 10, 64); err != nil {
		return "", fmt.Errorf("record %s: it does not say which entry is its last", newest)
	}
	run := m.Annotations[annotationRun]
	switch {
	case rec.Known(copied):
		return "", nil
	case rec.Head.Seq == 0:
		return fmt.Sprintf("the registry has a record of this site (run %s, entry %d), and this state directory is new: airlock checklist restore gets it back; what is done here begins another",
			run, copied.Seq), nil
	}
	return "", &install.ForkError{RunID: run, Head: copied, Have: rec.Head, Where: where}
}

// fork warns where the newest record is not an earlier part of this ledger.
func fork(ctx context.Context, p Place, newest string, rec install.Published) (string, error) {
	m, _, err := fetchManifest(ctx, p, newest, recordType)
	if err != nil || m == nil {
		return "", err
	}
	seq, err := strconv.ParseInt(m.Annotations[annotationSeq], 10, 64)
	if err == nil && rec.Known(install.Head{Seq: seq, Hash: m.Annotations[annotationHead]}) {
		return "", nil
	}
	return fmt.Sprintf("the registry held the ledger of another state directory of this site as its newest (run %s, entry %s): it stays there as %s",
		m.Annotations[annotationRun], m.Annotations[annotationSeq], LedgerTag(rec.Site, m.Annotations[annotationRun])), nil
}

func pushFiles(ctx context.Context, p Place, root *os.Root) ([]ocispec.Descriptor, error) {
	names := slices.Clone(files)
	artifacts, err := fs.ReadDir(root.FS(), "artifacts")
	if err != nil {
		return nil, fmt.Errorf("list state directory: %w", err)
	}
	for _, e := range artifacts {
		if name := path.Join("artifacts", e.Name()); artifactPattern.MatchString(name) { // else a file half written
			names = append(names, name)
		}
	}
	var layers []ocispec.Descriptor
	for _, name := range names {
		desc, err := describe(root, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := pushBlob(ctx, p, desc, func() (io.ReadCloser, error) { return root.Open(name) }); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		layers = append(layers, desc)
	}
	return layers, nil
}

func describe(root *os.Root, name string) (ocispec.Descriptor, error) {
	f, err := root.Open(name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer f.Close()
	d := digest.SHA256.Digester()
	size, err := io.Copy(d.Hash(), f)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{
		MediaType: fileType, Digest: d.Digest(), Size: size, Annotations: map[string]string{ocispec.AnnotationTitle: name},
	}, nil
}

// MissingError is a record that is not in the registry.
type MissingError struct{ Reference string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("no record %s in the registry", e.Reference)
}

// Restored says what a record says of itself.
type Restored struct {
	Digest digest.Digest
	Site   string
	RunID  string
	Files  int
	Bytes  int64
}

// Restore makes a state directory of the record that a tag or digest names.
// check is called with its path before it gets its name, and refuses it by an
// error. dir must not exist. Nothing is left where it fails.
func Restore(ctx context.Context, p Place, reference, dir string, check func(dir string) error) (*Restored, error) {
	if _, err := os.Lstat(dir); err == nil {
		return nil, &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrExist}
	}
	m, d, err := fetchManifest(ctx, p, reference, recordType)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, &MissingError{reference}
	}
	out := &Restored{Digest: d, Site: m.Annotations[annotationSite], RunID: m.Annotations[annotationRun], Files: len(m.Layers)}
	if err := vet(m, out); err != nil {
		return nil, fmt.Errorf("record %s: %w", reference, err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dir)), ".airlock-restore-*")
	if err != nil {
		return nil, err
	}
	err = fill(ctx, p, m, tmp)
	if err == nil {
		err = check(tmp)
	}
	if err == nil {
		err = os.Rename(tmp, dir)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(tmp))
	}
	return out, nil
}

// vet refuses names and sizes that no record has.
func vet(m *ocispec.Manifest, out *Restored) error {
	if len(m.Layers) > maxFiles {
		return fmt.Errorf("it has %d files, at most %d are restored", len(m.Layers), maxFiles)
	}
	seen := map[string]bool{}
	for _, l := range m.Layers {
		name := l.Annotations[ocispec.AnnotationTitle]
		switch {
		case !slices.Contains(files, name) && !artifactPattern.MatchString(name):
			return fmt.Errorf("a record has no file %q", name)
		case seen[name]:
			return fmt.Errorf("it has file %q twice", name)
		case l.Digest.Validate() != nil || l.Digest.Algorithm() != digest.SHA256:
			return fmt.Errorf("file %q has digest %q", name, l.Digest)
		case artifactPattern.MatchString(name) && path.Base(name) != l.Digest.Encoded():
			return fmt.Errorf("file %q has other content than its name says", name)
		case l.Size < 0 || l.Size > maxFile:
			return fmt.Errorf("file %q has %d bytes, at most %d are restored", name, l.Size, int64(maxFile))
		}
		seen[name] = true
		if out.Bytes += l.Size; out.Bytes > maxTotal {
			return fmt.Errorf("it is larger than %d bytes", int64(maxTotal))
		}
	}
	if !seen[files[0]] || !seen[files[1]] {
		return fmt.Errorf("it has no %s or no %s", files[0], files[1])
	}
	return nil
}

func fill(ctx context.Context, p Place, m *ocispec.Manifest, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Mkdir("artifacts", 0o700); err != nil {
		return err
	}
	for _, l := range m.Layers {
		if err := fetchFile(ctx, p, l, root); err != nil {
			return fmt.Errorf("restore %s: %w", l.Annotations[ocispec.AnnotationTitle], err)
		}
	}
	return nil
}

func fetchFile(ctx context.Context, p Place, l ocispec.Descriptor, root *os.Root) error {
	r, err := p.Fetch(ctx, l)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := root.OpenFile(l.Annotations[ocispec.AnnotationTitle], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	v := content.NewVerifyReader(r, l)
	_, err = io.Copy(f, v)
	if err == nil {
		err = v.Verify()
	}
	return errors.Join(err, f.Sync(), f.Close())
}
