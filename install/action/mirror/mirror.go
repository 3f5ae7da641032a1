// Package mirror is the action mirror: the bundle's content into the enclave's
// registry. The work is package mirror's at the top; it reaches this package as
// functions, because the two engines do not know each other.
package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/verify"
)

// Codes.
const (
	codeAuth    = "REG-01"
	codeMissing = "REG-02"
	codeTag     = "REG-03"
	codeTLS     = "REG-04"
	codeNoReach = "REG-07"
	codeAbsent  = "MIR-01"
)

// Action is the action mirror. Push and Preview are required.
type Action struct {
	// Place names the registry and prefix that Push sends to: what was sent to
	// one place says nothing of another.
	Place string
	// Push sends what is not there yet and says where everything is.
	Push func(ctx context.Context, b *verify.Bundle) (manifests.RelocationMap, error)
	// Preview says what Push would do, and writes nothing.
	Preview func(ctx context.Context, b *verify.Bundle) (install.Change, error)
	// Where says where everything is after Push. Nil: that is not known before.
	Where func(ctx context.Context, b *verify.Bundle) (manifests.RelocationMap, error)
	// Conflict finds in an error of Push that a tag names other content than
	// the bundle's. Nil finds none.
	Conflict func(err error) (Conflict, bool)
}

// Conflict is a tag that exists with other content.
type Conflict struct {
	Target     string // registry/repository:tag
	Have, Want string // digests
}

// arguments are the step's with.
type arguments struct {
	// Images names the outputs for single images: the prefix of the outputs, and
	// the reference the image is carried under.
	Images map[string]string `json:"images"`
}

// Codes implements install.Coder.
func (Action) Codes() map[string][]string {
	return map[string][]string{
		codeAuth: {"reason"}, codeMissing: {"reason"}, codeTag: {"ref", "have", "want", "reason"}, codeTLS: {"reason"}, codeNoReach: {"reason"}, codeAbsent: {"image", "have"},
	}
}

// Grounds implements install.Grounder.
func (a Action) Grounds(install.Input) any { return map[string]any{"to": a.Place} }

// Plan says what would be pushed, and where it will be: what comes after it can
// be planned for this bundle although nothing was sent.
func (a Action) Plan(ctx context.Context, in install.Input) (install.Change, error) {
	var args arguments
	if err := in.Decode(&args); err != nil {
		return install.Change{}, err
	}
	c, err := a.Preview(ctx, in.Bundle)
	if err != nil || a.Where == nil {
		return c, err
	}
	m, err := a.Where(ctx, in.Bundle)
	if err != nil {
		return c, err
	}
	res, err := result(m, args.Images)
	c.Outputs = res.Outputs
	return c, err
}

// Apply pushes. Its outputs are relocation.map (the whole map), mirror.refs
// (repository:tag@digest of every image) and, for each prefix P of images,
// P.ref (repository:tag@digest), P.repository, P.tag and P.digest.
func (a Action) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	var args arguments
	if err := in.Decode(&args); err != nil {
		return install.Result{}, err
	}
	m, err := a.Push(ctx, in.Bundle)
	if err != nil && ctx.Err() == nil && a.Conflict != nil {
		if c, ok := a.Conflict(err); ok {
			return install.Result{Findings: []install.Finding{{
				Code: codeTag, Detail: err.Error(),
				Fields: map[string]string{"ref": c.Target, "have": c.Have, "want": c.Want, "reason": err.Error()},
			}}}, nil
		}
	}
	if err != nil {
		if code := codeOf(err); code != "" && ctx.Err() == nil {
			return install.Result{Findings: []install.Finding{{Code: code, Detail: err.Error(), Fields: map[string]string{"reason": err.Error()}}}}, nil
		}
		return install.Result{}, err
	}
	return result(m, args.Images)
}

// codeOf gives what registries refuse with its code.
func codeOf(err error) string {
	if _, ok := errors.AsType[*remote.AuthError](err); ok {
		return codeAuth
	}
	if _, ok := errors.AsType[*remote.NotFoundError](err); ok {
		return codeMissing
	}
	if _, ok := errors.AsType[*remote.TLSError](err); ok {
		return codeTLS
	}
	if _, ok := errors.AsType[*remote.UnreachableError](err); ok {
		return codeNoReach
	}
	return ""
}

// result turns a relocation map into outputs and evidence.
func result(m manifests.RelocationMap, images map[string]string) (install.Result, error) {
	raw, err := json.Marshal(m)
	if err != nil {
		return install.Result{}, fmt.Errorf("encode relocation map: %w", err)
	}
	var whole map[string]any
	if err := json.Unmarshal(raw, &whole); err != nil {
		return install.Result{}, fmt.Errorf("encode relocation map: %w", err)
	}
	bySource := make(map[string]manifests.Relocation)
	refs := []any{}
	for _, e := range m.Entries {
		if e.Kind != bundle.KindImage {
			continue
		}
		bySource[e.Source] = e
		refs = append(refs, e.Target+"@"+e.Digest)
	}
	res := install.Result{
		Outputs:  map[string]any{"relocation.map": whole, "mirror.refs": refs},
		Evidence: []install.Evidence{{Name: "relocation map", Media: "application/json", Data: raw}},
	}
	for _, prefix := range slices.Sorted(maps.Keys(images)) {
		e, ok := bySource[images[prefix]]
		if !ok {
			have := strings.Join(slices.Sorted(maps.Keys(bySource)), ", ")
			res.Findings = append(res.Findings, install.Finding{
				Code: codeAbsent, Detail: fmt.Sprintf("the bundle carries no image %q; it carries %s", images[prefix], have),
				Fields: map[string]string{"image": images[prefix], "have": have},
			})
			continue
		}
		i := strings.LastIndexByte(e.Target, ':')
		if i < strings.LastIndexByte(e.Target, '/') {
			return install.Result{}, fmt.Errorf("relocation map: target %q has no tag", e.Target)
		}
		res.Outputs[prefix+".ref"] = e.Target + "@" + e.Digest
		res.Outputs[prefix+".repository"], res.Outputs[prefix+".tag"] = e.Target[:i], e.Target[i+1:]
		res.Outputs[prefix+".digest"] = e.Digest
	}
	return res, nil
}
