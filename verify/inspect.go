package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/opencontainers/go-digest"
)

// Inspection is what a bundle says it carries. It is for showing: nothing says
// that the bundle holds it, and nobody takes it for a *Bundle.
type Inspection struct {
	Info       Info
	Decision   Decision // zero where no policy was asked: then all of this is claims
	Signatures []archive.Signature
	Index      bundle.Index
	Graph      *bundle.Graph
}

// Inspect reads HEAD and the manifests of a bundle and nothing behind them, so
// that a file which was cut short can still be looked at, and closes it. With a
// policy it returns an error unless the policy trusts the bundle; without one,
// p is nil, it asks nobody.
func Inspect(ctx context.Context, path string, p *Policy, o Options) (Inspection, error) {
	f, err := bundle.OpenFile(path)
	if err != nil {
		return Inspection{}, err
	}
	i, err := inspect(ctx, f, path, p, o)
	if err := errors.Join(err, f.Close()); err != nil {
		return Inspection{}, fmt.Errorf("inspect %s: %w", path, err)
	}
	return i, nil
}

func inspect(ctx context.Context, f *bundle.File, path string, p *Policy, o Options) (Inspection, error) {
	beside, err := sidecars(path)
	if err != nil {
		return Inspection{}, err
	}
	head := f.Head()
	i := Inspection{Signatures: slices.Concat(head.Signatures, beside)}
	if p != nil {
		b, err := trust(head, i.Signatures, p, o)
		if err != nil {
			return Inspection{}, err
		}
		i.Info, i.Decision, i.Index = b.info, b.decision, b.index
	} else {
		if i.Index, err = bundle.ParseIndex(head.Index); err != nil {
			return Inspection{}, err
		}
		i.Info = Info{Digest: digest.FromBytes(head.Index), Info: i.Index.Info}
	}
	if err := ctx.Err(); err != nil {
		return Inspection{}, err
	}
	if i.Graph, err = f.ReadGraph(i.Index); err != nil {
		return Inspection{}, contentError(err)
	}
	return i, nil
}
