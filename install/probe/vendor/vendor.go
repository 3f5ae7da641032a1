// Package vendor is the probe vendor.chain: does what the bundle carries come
// from the vendor's signed release, from the signature to every image and file.
package vendor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/source/vendorarchive"
	"github.com/airlock-project/airlock/install"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Codes.
const (
	codeSum     = "ARC-01"
	codeSigner  = "ARC-02"
	codeMissing = "ARC-03"
	codeDiffers = "ARC-04"
)

// Probe is vendor.chain. Its zero value is ready and safe for concurrent use.
type Probe struct{}

// arguments are the step's with.
type arguments struct {
	Name        string `json:"name"`        // of the carried vendor item; may be left out where there is one
	Fingerprint string `json:"fingerprint"` // the vendor's OpenPGP key
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{
		codeSum: {"archive", "reason"}, codeSigner: {"want", "reason"}, codeMissing: {"what", "reason"}, codeDiffers: {"what", "reason"},
	}
}

// carrier is what the probe reads of a *verify.Bundle.
type carrier interface {
	Items() iter.Seq2[bundle.Entry, error]
	Manifest(d digest.Digest) (raw []byte, desc bundle.Descriptor, ok bool)
	ReadBlob(ctx context.Context, desc bundle.Descriptor) ([]byte, error)
}

// Run checks the vendor's signature, then what the bundle carries against the
// statement. Its outputs are vendor.archive (the archive's digest),
// vendor.images and vendor.files (how many).
func (Probe) Run(ctx context.Context, in install.Input) (install.Result, error) {
	return run(ctx, in.Bundle, in)
}

func run(ctx context.Context, b carrier, in install.Input) (install.Result, error) {
	var a arguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if a.Fingerprint == "" {
		return install.Result{}, errors.New("want the fingerprint of the vendor's key")
	}
	manifest, finding, err := find(b, a.Name)
	if err != nil || finding != nil {
		return found(finding), err
	}
	layers, err := read(ctx, b, manifest)
	if err != nil {
		return install.Result{}, err
	}
	st, err := vendorarchive.CheckStatement(layers[0], layers[1], layers[2], a.Fingerprint, layers[3])
	if err != nil {
		return found(broken(a, err)), nil
	}
	var res install.Result
	for _, img := range st.Images {
		if err := image(ctx, b, img); err != nil {
			res.Findings = append(res.Findings, *differs("image "+img.Ref, err))
		}
	}
	for _, f := range st.Files {
		raw, _, ok := b.Manifest(f.ManifestDigest)
		if !ok {
			res.Findings = append(res.Findings, *missing("file "+f.Name, "its manifest "+f.ManifestDigest.String()+" is not carried"))
			continue
		}
		if err := f.Check(raw); err != nil {
			res.Findings = append(res.Findings, *differs("file "+f.Name, err))
		}
	}
	res.Outputs = map[string]any{
		"vendor.archive": "sha256:" + st.Archive.SHA256, "vendor.images": int64(len(st.Images)), "vendor.files": int64(len(st.Files)),
	}
	res.Evidence = []install.Evidence{
		{Name: "checksums", Media: "text/plain", Data: layers[0]}, {Name: "statement", Media: "application/json", Data: layers[3]},
	}
	return res, nil
}

func found(f *install.Finding) install.Result {
	if f == nil {
		return install.Result{}
	}
	return install.Result{Findings: []install.Finding{*f}}
}

func missing(what, reason string) *install.Finding {
	return &install.Finding{Code: codeMissing, Detail: what + ": " + reason, Fields: map[string]string{"what": what, "reason": reason}}
}

func differs(what string, err error) *install.Finding {
	return &install.Finding{Code: codeDiffers, Detail: what + ": " + err.Error(), Fields: map[string]string{"what": what, "reason": err.Error()}}
}

// find returns the manifest of the vendor item.
func find(b carrier, name string) ([]byte, *install.Finding, error) {
	var roots []bundle.Entry
	for e, err := range b.Items() {
		if err != nil {
			return nil, nil, fmt.Errorf("list bundle: %w", err)
		}
		if e.Kind == bundle.KindVendor && e.Role == bundle.RoleRoot && (name == "" || e.Name == name) {
			roots = append(roots, e)
		}
	}
	if len(roots) != 1 {
		return nil, missing("the vendor's checksums and signature", "the bundle carries "+strconv.Itoa(len(roots))+" such items, want one"), nil
	}
	raw, _, ok := b.Manifest(roots[0].Digest)
	if !ok {
		return nil, missing("vendor item "+roots[0].Name, "its manifest is not carried"), nil
	}
	return raw, nil, nil
}

// read returns the four layers: checksums, signature, key, statement.
func read(ctx context.Context, b carrier, manifest []byte) ([4][]byte, error) {
	var out [4][]byte
	sums, sig, key, statement, err := vendorarchive.Layers(manifest)
	if err != nil {
		return out, err
	}
	for i, desc := range []bundle.Descriptor{sums, sig, key, statement} {
		if out[i], err = b.ReadBlob(ctx, desc); err != nil {
			return out, err
		}
	}
	return out, nil
}

// broken says which link of the chain does not hold.
func broken(a arguments, err error) *install.Finding {
	if c, ok := errors.AsType[*vendorarchive.ChecksumError](err); ok {
		return &install.Finding{Code: codeSum, Detail: err.Error(), Fields: map[string]string{"archive": c.Name, "reason": err.Error()}}
	}
	if s, ok := errors.AsType[*vendorarchive.StatementError](err); ok {
		return differs(s.Object, err)
	}
	return &install.Finding{Code: codeSigner, Detail: err.Error(), Fields: map[string]string{"want": a.Fingerprint, "reason": err.Error()}}
}

// image compares a carried image with the statement.
func image(ctx context.Context, b carrier, img vendorarchive.Image) error {
	raw, _, ok := b.Manifest(img.ManifestDigest)
	if !ok {
		return fmt.Errorf("its manifest %s is not carried", img.ManifestDigest)
	}
	if img.ConfigDigest == "" {
		return img.Check(raw, nil)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("decode manifest: %w", err)
	}
	config, err := b.ReadBlob(ctx, m.Config)
	if err != nil {
		return err
	}
	return img.Check(raw, config)
}
