// Package registry is the probe registry.manifest: does a registry hold an
// image, by digest and to its last layer.
package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Codes.
const (
	codeAuth    = "REG-01"
	codeMissing = "REG-02"
	codeTLS     = "REG-04"
	codeArch    = "REG-05"
	codeLost    = "REG-06"
	codeNoReach = "REG-07"
)

const (
	// maxManifest bounds one manifest (distribution-spec "4 MiB").
	maxManifest = 4 << 20
	// maxDepth bounds how deep indexes nest, maxBlobs what is asked for in one
	// image: together they bound the requests.
	maxDepth = 4
	maxBlobs = 10_000
)

// Repository is what the probe asks of a repository; oras-go's
// remote.Repository has it.
type Repository interface {
	Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error)
	Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error)
}

// Probe is registry.manifest. Repository makes the client for a reference.
type Probe struct {
	Repository func(reference string) (Repository, error)
}

// arguments are the step's with.
type arguments struct {
	Refs  []string `json:"refs"` // repository@digest, or repository:tag@digest: then the tag must lead there
	Ref   string   `json:"ref"`  // one more
	Blobs bool     `json:"blobs"`
	// Platforms are those of the nodes, os/arch: each image must hold one for
	// each of them.
	Platforms []string `json:"platforms"`
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{
		codeAuth: {"ref", "repo", "reason"}, codeMissing: {"ref", "repo", "reason"}, codeTLS: {"ref", "repo", "reason"},
		codeArch: {"ref", "repo", "have", "want", "reason"}, codeLost: {"ref", "repo", "reason"}, codeNoReach: {"ref", "repo", "reason"},
	}
}

// Run checks every reference.
func (p Probe) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a arguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	list := a.Refs
	if a.Ref != "" {
		list = append(list, a.Ref)
	}
	if len(list) == 0 {
		return install.Result{}, errors.New("no ref is given")
	}
	var res install.Result
	for _, ref := range list {
		err := p.image(ctx, ref, a)
		if ctx.Err() != nil {
			return res, ctx.Err()
		}
		if err != nil {
			res.Findings = append(res.Findings, explain(ref, err))
		}
	}
	return res, nil
}

// lostError says what of an image is not there or is something else.
type lostError struct{ what string }

func (e *lostError) Error() string { return e.what }

// image checks one reference.
func (p Probe) image(ctx context.Context, ref string, a arguments) error {
	parsed, err := remote.ParseReference(ref)
	if err != nil {
		return err
	}
	if parsed.Digest == "" {
		return fmt.Errorf("%q has no digest: only a digest says what an image is", ref)
	}
	repo, err := p.Repository(ref)
	if err != nil {
		return err
	}
	if parsed.Tag != "" {
		desc, err := repo.Resolve(ctx, parsed.Tag)
		if err != nil {
			return err
		}
		if desc.Digest != parsed.Digest {
			return &lostError{fmt.Sprintf("tag %s leads to %s", parsed.Tag, desc.Digest)}
		}
	}
	desc, err := repo.Resolve(ctx, parsed.Digest.String())
	if err != nil {
		return err
	}
	w := &walk{repo: repo, blobs: a.Blobs, seen: make(map[digest.Digest]bool)}
	if err := w.manifest(ctx, desc, 0); err != nil {
		return err
	}
	return w.runsOn(ctx, desc, a.Platforms)
}

// walk visits an image in a registry.
type walk struct {
	repo  Repository
	blobs bool
	seen  map[digest.Digest]bool
}

// content is what a manifest or an index names.
type content struct {
	Config    *ocispec.Descriptor  `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
}

// manifest fetches a manifest, compares its bytes with its digest and goes on
// with what it names.
func (w *walk) manifest(ctx context.Context, desc ocispec.Descriptor, depth int) error {
	if depth > maxDepth {
		return &lostError{fmt.Sprintf("indexes nest deeper than %d", maxDepth)}
	}
	if w.seen[desc.Digest] {
		return nil
	}
	w.seen[desc.Digest] = true
	raw, err := w.read(ctx, desc)
	if err != nil {
		return err
	}
	var c content
	if err := json.Unmarshal(raw, &c); err != nil {
		return &lostError{fmt.Sprintf("manifest %s cannot be read", desc.Digest)}
	}
	for _, child := range c.Manifests {
		if err := w.manifest(ctx, child, depth+1); err != nil {
			return err
		}
	}
	if !w.blobs {
		return nil
	}
	if c.Config != nil {
		c.Layers = append(c.Layers, *c.Config)
	}
	return w.layers(ctx, desc.Digest, c.Layers)
}

func (w *walk) read(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size < 0 || desc.Size > maxManifest {
		return nil, &lostError{fmt.Sprintf("manifest %s has %d bytes, at most %d are allowed", desc.Digest, desc.Size, maxManifest)}
	}
	rc, err := w.repo.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	raw, err := io.ReadAll(io.LimitReader(rc, maxManifest+1))
	if err != nil {
		return nil, err
	}
	if digest.FromBytes(raw) != desc.Digest {
		return nil, &lostError{fmt.Sprintf("manifest %s has other content", desc.Digest)}
	}
	return raw, nil
}

func (w *walk) layers(ctx context.Context, of digest.Digest, list []ocispec.Descriptor) error {
	for _, l := range list {
		// Foreign layers are not in a registry; they are fetched from where they are.
		if w.seen[l.Digest] || len(l.URLs) > 0 {
			continue
		}
		if len(w.seen) > maxBlobs {
			return &lostError{fmt.Sprintf("more than %d blobs", maxBlobs)}
		}
		w.seen[l.Digest] = true
		ok, err := w.repo.Exists(ctx, l)
		if err != nil {
			return err
		}
		if !ok {
			return &lostError{fmt.Sprintf("blob %s of manifest %s is gone", l.Digest, of)}
		}
	}
	return nil
}

// explain gives an error its code.
func explain(ref string, err error) install.Finding {
	code := ""
	err = remote.Explain(err, ref)
	fields := map[string]string{"ref": ref}
	if p, ok := errors.AsType[*platformError](err); ok {
		code, fields["have"], fields["want"] = codeArch, strings.Join(p.have, ", "), p.want
	}
	switch {
	case is[*lostError](err):
		code = codeLost
	case is[*remote.AuthError](err):
		code = codeAuth
	case is[*remote.NotFoundError](err):
		code = codeMissing
	case is[*remote.TLSError](err):
		code = codeTLS
	case is[*remote.UnreachableError](err), is[*remote.PlainHTTPError](err), is[*remote.StatusError](err):
		code = codeNoReach
	}
	repo, _, _ := strings.Cut(ref, "@")
	if i := strings.LastIndexByte(repo, ':'); i > strings.LastIndexByte(repo, '/') {
		repo = repo[:i]
	}
	fields["repo"], fields["reason"] = repo, err.Error()
	return install.Finding{Code: code, Detail: fmt.Sprintf("%s: %s", ref, err), Fields: fields}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
