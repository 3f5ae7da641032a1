package mirror

import (
	"context"
	"errors"
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/verify"
	"github.com/google/go-cmp/cmp"
)

var errTag = errors.New("the tag exists")

func relocation() manifests.RelocationMap {
	return manifests.RelocationMap{APIVersion: manifests.APIVersion, Kind: manifests.KindRelocationMap, Target: "harbor:5000/airlock", Entries: []manifests.Relocation{
		{Kind: "chart", Source: "charts/web:1", Target: "harbor:5000/airlock/charts/web:1", Digest: "sha256:cc"},
		{Kind: "image", Source: "backend:v1", Target: "harbor:5000/airlock/backend:v1", Digest: "sha256:aa"},
		{Kind: "image", Source: "quay.io/a/b:2", Target: "harbor:5000/airlock/a/b:2", Digest: "sha256:bb"},
	}}
}

func action(err error) Action {
	return Action{
		Push: func(context.Context, *verify.Bundle) (manifests.RelocationMap, error) { return relocation(), err },
		Preview: func(context.Context, *verify.Bundle) (install.Change, error) {
			return install.Change{Summary: "push 2 images"}, err
		},
		Conflict: func(err error) (Conflict, bool) {
			return Conflict{Target: "h/r:v1", Have: "sha256:aa", Want: "sha256:bb"}, errors.Is(err, errTag)
		},
	}
}

func TestApply(t *testing.T) {
	with := map[string]any{"images": map[string]any{"image.backend": "backend:v1"}}
	res, err := action(nil).Apply(t.Context(), install.Input{With: with})
	if err != nil || len(res.Findings) != 0 {
		t.Fatal(res, err)
	}
	whole, ok := res.Outputs["relocation.map"].(map[string]any)
	if !ok || len(whole["entries"].([]any)) != 3 {
		t.Errorf("relocation map %v", whole)
	}
	delete(res.Outputs, "relocation.map")
	want := map[string]any{
		"mirror.refs":       []any{"harbor:5000/airlock/backend:v1@sha256:aa", "harbor:5000/airlock/a/b:2@sha256:bb"},
		"image.backend.ref": "harbor:5000/airlock/backend:v1@sha256:aa", "image.backend.repository": "harbor:5000/airlock/backend",
		"image.backend.tag": "v1", "image.backend.digest": "sha256:aa",
	}
	if d := cmp.Diff(want, res.Outputs); d != "" {
		t.Error(d)
	}
}

func TestApplyFails(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		with map[string]any
		code string // "" for an error
	}{
		"login":       {&remote.AuthError{Host: "h", Err: errors.New("401")}, nil, "REG-01"},
		"repository":  {errors.Join(errors.New("x"), &remote.NotFoundError{Ref: "h/r"}), nil, "REG-02"},
		"certificate": {&remote.TLSError{Host: "h", Err: errors.New("x")}, nil, "REG-04"},
		"network":     {&remote.UnreachableError{Host: "h", Err: errors.New("x")}, nil, "REG-07"},
		"tag":         {errors.Join(errors.New("x"), errTag), nil, "REG-03"},
		"other":       {errors.New("disk"), nil, ""},
		"not carried": {nil, map[string]any{"images": map[string]any{"x": "other:v1"}}, "MIR-01"},
		"arguments":   {nil, map[string]any{"image": "x"}, ""},
	} {
		res, err := action(c.err).Apply(t.Context(), install.Input{With: c.with})
		switch {
		case c.code == "" && err == nil:
			t.Errorf("%s: no error", name)
		case c.code != "" && (err != nil || len(res.Findings) != 1 || res.Findings[0].Code != c.code):
			t.Errorf("%s: %+v, %v", name, res.Findings, err)
		}
	}
}

func TestPlan(t *testing.T) {
	c, err := action(nil).Plan(t.Context(), install.Input{With: map[string]any{}})
	if err != nil || c.Summary != "push 2 images" {
		t.Error(c, err)
	}
	if c.Outputs != nil {
		t.Errorf("outputs %v, and nobody knows where anything will be", c.Outputs)
	}
	a := action(nil)
	a.Where = func(context.Context, *verify.Bundle) (manifests.RelocationMap, error) { return relocation(), nil }
	in := install.Input{With: map[string]any{"images": map[string]any{"image.backend": "backend:v1"}}}
	if c, err = a.Plan(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	res, err := a.Apply(t.Context(), in)
	if d := cmp.Diff(res.Outputs, c.Outputs); err != nil || d != "" {
		t.Errorf("what is done and what was planned: %v\n%s", err, d)
	}
	if _, err := action(errors.New("x")).Plan(t.Context(), install.Input{}); err == nil {
		t.Error("no error")
	}
}
