// Package mirror puts the content of a verified bundle into a registry, and
// serves a bundle as a registry.
//
// Run sends every distinct blob once, however many images share it, and mounts
// it everywhere else. Content is verified while it streams; nothing is staged.
// What a name depends on is always there before the name: blobs, then child
// manifests, then indexes, then referrers, then the tags that cosign looks for,
// and the item's own tag last. A tag that exists and names other content is a
// conflict that is reported, never overwritten.
//
// Why not oras-go's copy: it asks for every blob before it sends it, writes tags
// that are right already (which registries with immutable tags refuse), and
// sends a body that is a file only once. Its clients, authentication and
// referrers handling are used.
package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/verify"
	"github.com/opencontainers/go-digest"
	orasremote "oras.land/oras-go/v2/registry/remote"
)

// Hosts makes clients for repositories; *remote.Hosts is the one to use. It
// owns credentials, TLS and the retry of single requests.
type Hosts interface {
	Repository(reference string) (*orasremote.Repository, error)
}

// Target is what the engine asks of an adapter for a registry product. The
// packages below package target implement it.
type Target interface {
	// Limits returns what the registry accepts, without asking it.
	Limits() target.Limits
	// Explain adds cause and remedy to an error of a request where it knows
	// them, and returns any other error unchanged.
	Explain(err error) error
}

// Options say where a bundle goes.
type Options struct {
	To       string // REGISTRY[:PORT][/PREFIX]
	KeepHost bool   // keep the host of image references as the first segment
	Hosts    Hosts  // required by all that talks to the registry
	Target   Target // nil means a plain OCI registry

	// Workers is how many blobs are sent at once; 0 means 8. What the registry
	// accepts bounds it.
	Workers  int
	Listener bundle.Listener // receives "push" events, one object per blob
}

const defaultWorkers = 8

func (o Options) limits() target.Limits {
	if o.Target == nil {
		return target.Limits{}
	}
	return o.Target.Limits()
}

func (o Options) explain(err error) error {
	if _, ok := errors.AsType[*sourceError](err); ok {
		return err // the registry has no part in it
	}
	if o.Target != nil {
		err = o.Target.Explain(err)
	}
	if _, ok := errors.AsType[*target.Problem](err); ok {
		return err
	}
	return remote.Explain(err, o.To)
}

func (o Options) workers() int {
	n := o.Workers
	if n <= 0 {
		n = defaultWorkers
	}
	if most := o.limits().Workers; most > 0 {
		n = min(n, most)
	}
	return n
}

// Result counts what Run did.
type Result struct {
	Pushed    int   // items that were sent, in whole or in part
	Unchanged int   // items that were there already
	Failed    int   // items that are not, or not wholly, there
	Sent      int   // blobs whose bytes were sent
	Reused    int   // blobs that were there or were mounted, counted per repository
	Bytes     int64 // of the blobs sent
	LeftOut   int   // see Plan.LeftOut
}

// ConflictError says that a tag exists and names other content. Nothing was
// written for the item.
type ConflictError struct {
	Target   string // registry/repository:tag
	Existing digest.Digest
	Want     digest.Digest
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s exists with %s, the bundle has %s", e.Target, e.Existing, e.Want)
}

// PartialError says that some items arrived and others did not. It unwraps to
// the errors of the others, in the order of the plan; where one error stopped
// the run it comes first and stands for all items that were not reached.
type PartialError struct {
	Done, Total int
	Errs        []error
}

func (e *PartialError) Error() string {
	more := ""
	if len(e.Errs) > 1 {
		more = fmt.Sprintf(" (and %d more)", len(e.Errs)-1)
	}
	return fmt.Sprintf("%d of %d items mirrored: %v%s", e.Done, e.Total, e.Errs[0], more)
}

// Unwrap returns the errors of the items that did not arrive.
func (e *PartialError) Unwrap() []error { return e.Errs }

// Run mirrors a bundle and says where everything went. An item that fails does
// not stop the others: the map then lists what arrived, and the error is a
// *PartialError, or the joined errors if nothing arrived. What was sent is not
// sent again by a second run.
func Run(ctx context.Context, b *verify.Bundle, o Options) (manifests.RelocationMap, Result, error) {
	return run(ctx, b, o)
}

func run(ctx context.Context, src source, o Options) (manifests.RelocationMap, Result, error) {
	plan, err := makePlan(ctx, src, o)
	if err != nil {
		return manifests.RelocationMap{}, Result{}, err
	}
	e, err := newEngine(src, o, plan)
	if err != nil {
		return manifests.RelocationMap{}, Result{}, err
	}
	err = e.run(ctx)
	done := map[Place]bool{}
	for _, j := range e.jobs {
		done[j.item.Place] = j.done
	}
	e.result.LeftOut = plan.LeftOut
	return plan.relocation(func(it *Item) bool { return done[it.Place] }), e.result, err
}

// State is what a registry has where an item is to go.
type State string

// States of an item's tag.
const (
	Absent   State = "absent"
	Same     State = "same"     // it names the item
	Conflict State = "conflict" // it names something else
	Unknown  State = "unknown"  // the registry did not say
)

// Preview is what Run would do.
type Preview struct {
	Plan   *Plan
	Items  []ItemState // in the order of Plan.Items
	Blobs  int         // distinct blobs of the items that are not there
	Bytes  int64       // of these; less is sent where the registry has some of them
	Writes int         // about how many requests Run would send beyond asking for tags
}

// ItemState is what the registry has in an item's place.
type ItemState struct {
	State State
	Err   error // for Conflict and Unknown
}

// DryRun asks the registry for every tag and writes nothing.
func DryRun(ctx context.Context, b *verify.Bundle, o Options) (*Preview, error) {
	return dryRun(ctx, b, o)
}

func dryRun(ctx context.Context, src source, o Options) (*Preview, error) {
	plan, err := makePlan(ctx, src, o)
	if err != nil {
		return nil, err
	}
	e, err := newEngine(src, o, plan)
	if err != nil {
		return nil, err
	}
	if err := e.inspect(ctx); err != nil {
		return nil, err
	}
	p := &Preview{Plan: plan}
	tasks := e.schedule()
	for _, t := range tasks {
		p.Blobs++
		p.Bytes += t.desc.Size
		p.Writes += 1 + len(t.repos)
	}
	for _, j := range e.jobs {
		p.Items = append(p.Items, ItemState{State: cmp.Or(j.state, Unknown), Err: j.err})
		if j.err == nil {
			p.Writes += j.writes()
		}
	}
	return p, nil
}
