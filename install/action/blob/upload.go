package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/airlock-project/airlock/install"
	store "github.com/airlock-project/airlock/install/internal/blob"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// codeNoFile: the bundle lacks the file.
const codeNoFile = "BIN-01"

// metaSHA256 is the metadata that says what an object's content is.
const metaSHA256 = "sha256"

// maxFile bounds what is unpacked and uploaded: the largest single file is a
// program, not a disk.
const maxFile = 4 << 30

// Upload is blob.upload: a file of the bundle, in a bucket. Its zero value is
// ready and safe for concurrent use with different objects.
type Upload struct{}

type uploadArguments struct {
	Storage store.Config      `json:"storage"`
	Bucket  string            `json:"bucket"`
	File    string            `json:"file"`   // the name it is carried under
	Key     string            `json:"key"`    // default: File
	Output  string            `json:"output"` // prefix of the outputs; default: upload
	Codes   map[string]string `json:"codes"`  // code: the code to report instead
}

// Codes implements install.Coder.
func (Upload) Codes() map[string][]string {
	out := store.Codes(append([]string{store.CodeMissing, store.CodeDenied, store.CodeName, store.CodeFailed}, store.General...)...)
	out[codeNoFile] = []string{"file", "have"}
	return out
}

// carrier is what the action reads of a *verify.Bundle.
type carrier interface {
	Items() iter.Seq2[bundle.Entry, error]
	Manifest(d digest.Digest) (raw []byte, desc bundle.Descriptor, ok bool)
	Fetch(ctx context.Context, desc bundle.Descriptor) (io.ReadCloser, error)
}

// Plan compares what the object says of itself with the bundle's file.
func (Upload) Plan(ctx context.Context, in install.Input) (install.Change, error) {
	return planUpload(ctx, in.Bundle, in)
}

// Apply uploads the file unless the object has its very bytes, which are read
// back either way. Its outputs are PREFIX.object (bucket/key) and PREFIX.sha256.
func (Upload) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	return applyUpload(ctx, in.Bundle, in)
}

// upload is one run.
type upload struct {
	uploadArguments
	*store.Service
	bundle carrier
	layer  bundle.Descriptor
	meta   artifact.Meta
}

func openUpload(ctx context.Context, b carrier, in install.Input) (*upload, []install.Finding, error) {
	u := &upload{bundle: b, uploadArguments: uploadArguments{Output: "upload"}}
	if err := in.Decode(&u.uploadArguments); err != nil {
		return nil, nil, err
	}
	if u.File == "" {
		return nil, nil, errors.New("want file, the name of a carried file")
	}
	if u.Key == "" {
		u.Key = u.File
	}
	if err := store.CheckName(u.Storage.Type, u.Bucket); err != nil {
		return u, []install.Finding{{
			Code: store.CodeName, Detail: fmt.Sprintf("bucket %q: %s", u.Bucket, err),
			Fields: map[string]string{"bucket": u.Bucket, "purpose": u.File, "env": "the bucket", "reason": err.Error()},
		}}, nil
	}
	have, err := u.find()
	if err != nil {
		return nil, nil, err
	}
	if u.meta.SHA256 == "" {
		return u, []install.Finding{{
			Code: codeNoFile, Detail: fmt.Sprintf("the bundle carries no file %q", u.File), Fields: map[string]string{"file": u.File, "have": have},
		}}, nil
	}
	if u.Service, err = store.Open(ctx, u.Storage.Admin()); err != nil {
		f, err := store.OpenFinding(err)
		return u, []install.Finding{f}, err
	}
	return u, nil, nil
}

// find looks for the file in the bundle, and lists what files there are.
func (u *upload) find() (have string, err error) {
	var names []string
	for e, err := range u.bundle.Items() {
		if err != nil {
			return "", fmt.Errorf("list bundle: %w", err)
		}
		if e.Kind != bundle.KindFile || e.Role != bundle.RoleRoot {
			continue
		}
		if names = append(names, e.Name); e.Name != u.File {
			continue
		}
		var m ocispec.Manifest
		raw, _, ok := u.bundle.Manifest(e.Digest)
		if !ok || json.Unmarshal(raw, &m) != nil || len(m.Layers) != 1 || m.Layers[0].MediaType != bundle.MediaTypeFile {
			return "", fmt.Errorf("file %q of the bundle is not one file: a directory cannot be uploaded", u.File)
		}
		u.layer = m.Layers[0]
		if u.meta, err = artifact.ParseMeta(u.layer.Annotations); err != nil {
			return "", fmt.Errorf("file %q of the bundle: %w", u.File, err)
		}
	}
	if len(names) == 0 {
		return "none", nil
	}
	return strings.Join(names, ", "), nil
}

func planUpload(ctx context.Context, b carrier, in install.Input) (install.Change, error) {
	u, findings, err := openUpload(ctx, b, in)
	if err != nil {
		return install.Change{}, err
	}
	if len(findings) > 0 {
		return install.Change{}, errors.New(findings[0].Detail)
	}
	defer u.Service.Close()
	same, err := u.claims(ctx)
	if err != nil {
		return install.Change{}, err
	}
	what := fmt.Sprintf("%s, %d bytes, sha256 %s, as %s/%s at %s", u.File, u.meta.Size, u.meta.SHA256, u.Bucket, u.Key, u.Host)
	if same {
		return install.Change{Nothing: true, Summary: "it is there: " + what}, nil
	}
	return install.Change{Summary: "upload " + what}, nil
}

// claims reports whether the object says that it is the file. An object or a
// bucket that is missing does not.
func (u *upload) claims(ctx context.Context) (bool, error) {
	o, err := u.Objects.Head(ctx, u.Bucket, u.Key)
	if store.ReasonOf(err) == store.Missing {
		return false, nil
	}
	return err == nil && o.Size == u.meta.Size && o.Meta[metaSHA256] == u.meta.SHA256, err
}

func applyUpload(ctx context.Context, b carrier, in install.Input) (install.Result, error) {
	u, findings, err := openUpload(ctx, b, in)
	if err != nil {
		return install.Result{}, err
	}
	if len(findings) > 0 {
		return install.Result{Findings: store.Rename(findings, u.uploadArguments.Codes)}, nil
	}
	defer u.Service.Close()
	res := install.Result{Outputs: map[string]any{u.Output + ".object": u.Bucket + "/" + u.Key, u.Output + ".sha256": u.meta.SHA256}}
	res.Changed, err = u.run(ctx)
	if ctx.Err() != nil {
		return res, ctx.Err()
	}
	if _, ok := errors.AsType[*store.Error](err); ok {
		f, _ := u.Finding(err, store.OpPut, u.Bucket, u.File, "the bucket")
		res.Findings, err = store.Rename([]install.Finding{f}, u.uploadArguments.Codes), nil
	}
	return res, err
}

func (u *upload) run(ctx context.Context) (changed bool, err error) {
	if err := u.Rules.Look(ctx, u.Bucket); err != nil {
		return false, err
	}
	same, err := u.claims(ctx)
	if err != nil {
		return false, err
	}
	if same {
		if same, err = u.equal(ctx); err != nil || same {
			return false, err
		}
	}
	if err := u.put(ctx); err != nil {
		return false, err
	}
	same, err = u.equal(ctx)
	if err == nil && !same {
		err = &store.Error{Op: store.OpGet, Bucket: u.Bucket, Text: fmt.Sprintf("%s does not come back as it was put", u.Key)}
	}
	return true, err
}

// put unpacks the file to a place of its own, which checks it, and uploads it.
func (u *upload) put(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "airlock-upload-")
	if err != nil {
		return fmt.Errorf("unpack %s: %w", u.File, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack %s: %w", u.File, err)
	}
	defer root.Close()
	rc, err := u.bundle.Fetch(ctx, u.layer)
	if err != nil {
		return err
	}
	defer rc.Close() // only read
	if err := artifact.ExtractFile(ctx, root, "file", rc, u.meta, artifact.Limits{Bytes: maxFile}); err != nil {
		return fmt.Errorf("unpack %s: %w", u.File, err)
	}
	f, err := root.Open("file")
	if err != nil {
		return fmt.Errorf("unpack %s: %w", u.File, err)
	}
	defer f.Close()
	_, err = u.Objects.Put(ctx, u.Bucket, store.Object{
		Key: u.Key, Body: f, Size: u.meta.Size, Meta: map[string]string{metaSHA256: u.meta.SHA256, "size": strconv.FormatInt(u.meta.Size, 10)},
	})
	return err
}

// equal reads the object back.
func (u *upload) equal(ctx context.Context) (bool, error) {
	body, err := u.Objects.Get(ctx, u.Bucket, u.Key)
	if err != nil {
		return false, err
	}
	defer body.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(body, u.meta.Size+1))
	if err != nil {
		return false, &store.Error{Op: store.OpGet, Bucket: u.Bucket, Text: "the content breaks off"}
	}
	return n == u.meta.Size && hex.EncodeToString(h.Sum(nil)) == u.meta.SHA256, nil
}
