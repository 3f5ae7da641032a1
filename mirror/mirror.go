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
// DryRun writes down what Run would do as a Document; RunPlan carries a
// Document out and refuses if the registry moved meanwhile. Several machines
// share the work as shards of blobs, with one closing run that names things.
//
// Why not oras-go's copy: it asks for every blob before it sends it, writes tags
// that are right already (which registries with immutable tags refuse), and
// sends a body that is a file only once. Its clients, authentication and
// referrers handling are used.
package mirror

import (
	"context"
	"errors"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/verify"
	orasremote "oras.land/oras-go/v2/registry/remote"
)

// Hosts makes clients for repositories; *remote.Hosts is the one to use. It
// owns credentials and TLS. The engine repeats requests itself, because it has
// to see when a registry throttles: make the hosts with one attempt.
type Hosts interface {
	Repository(reference string) (*orasremote.Repository, error)
}

// Target is what the engine asks of an adapter for a registry product. The
// packages below package target implement it; they hold no push code.
type Target interface {
	// Kind names the product: oci, ecr, acr, gar, harbor.
	Kind() string
	// Inspect reads what the registry has where content is to go, and what has
	// to be made first. It changes nothing.
	Inspect(ctx context.Context, want target.Request) (target.State, error)
	// Prepare makes what Inspect listed. Running it again does no harm.
	Prepare(ctx context.Context, actions []target.Action) error
	// Credential returns what to show the registry, or an empty one where the
	// logins of docker and podman apply.
	Credential(ctx context.Context) (target.Credential, error)
	// Limits returns what the registry accepts, without asking it.
	Limits() target.Limits
	// Explain adds cause and remedy to an error of a request where it knows
	// them, and returns any other error unchanged.
	Explain(err error) error
}

// Level says how much is read back after pushing. What cannot be read, or comes
// back as something else, is sent again, once.
type Level string

// Levels. The zero value is VerifyHead.
const (
	VerifyHead   Level = "head"   // every manifest and tag is asked for by name
	VerifySample Level = "sample" // and one blob of up to 256 MiB of each repository is read and hashed; all of it where that fails
	VerifyFull   Level = "full"   // and every manifest and blob is
)

// Options say where a bundle goes.
type Options struct {
	To      string // REGISTRY[:PORT][/PREFIX]
	Mapping Mapping
	Hosts   Hosts  // required by all that talks to the registry
	Target  Target // nil means a plain OCI registry

	// Workers is how many blobs are sent at once; 0 means 8, and 24 more that are
	// smaller than 1 MiB, because those wait for answers most of the time. What
	// the registry accepts bounds it, and it falls while the registry throttles.
	Workers int
	Verify  Level
	// Record is a directory that keeps what was done, so that the next run of
	// the same bundle to the same target sends fewer requests. It is a hint:
	// what it says and the registry lacks is sent again. Empty means none.
	Record string
	// Shard makes Run send the blobs of one shard and nothing else.
	Shard Shard
	// Closing makes Run expect that shards have sent the blobs: it asks for each
	// before it sends it, whether or not the registry can mount.
	Closing bool
	// CredentialSource says in a Document where the login comes from. It is
	// never a secret.
	CredentialSource string
	Listener         bundle.Listener // receives "push" events, one object per blob
}

const (
	defaultWorkers = 8
	// extraWorkers send small blobs only. A blob takes two round trips: at 50 ms,
	// 32 at once are 320 blobs a second.
	extraWorkers = 24
)

func (o Options) target() Target {
	if o.Target == nil {
		return plain{}
	}
	return o.Target
}

func (o Options) explain(err error) error { return o.about(err, o.To) }

// about is explain where more is known of the object: registry/repository, with
// tag or digest.
func (o Options) about(err error, object string) error {
	if _, ok := errors.AsType[*sourceError](err); ok {
		return err // the registry has no part in it
	}
	err = o.target().Explain(err)
	if _, ok := errors.AsType[*target.Problem](err); ok {
		return err
	}
	return remote.Explain(err, object)
}

func (o Options) workers() int {
	n := o.Workers
	if n <= 0 {
		n = defaultWorkers
	}
	if most := o.target().Limits().Workers; most > 0 {
		n = min(n, most)
	}
	return n
}

// extra is how many small blobs are sent beside the others.
func (o Options) extra() int {
	if o.Workers > 0 {
		return 0 // so many and no more
	}
	if most := o.target().Limits().Workers; most > 0 {
		return min(extraWorkers, most-o.workers())
	}
	return extraWorkers
}

// check refuses options that contradict each other.
func (o Options) check() error {
	switch o.Verify {
	case "", VerifyHead, VerifySample, VerifyFull:
	default:
		return errors.New("verify: give head, sample or full")
	}
	if o.Closing && o.Shard.Count > 0 {
		return errors.New("a run is a shard or the closing one, not both")
	}
	return o.Shard.check()
}

// plain is the target where none is given.
type plain struct{}

func (plain) Kind() string { return "oci" }
func (plain) Inspect(context.Context, target.Request) (target.State, error) {
	return target.State{}, nil
}
func (plain) Prepare(context.Context, []target.Action) error { return nil }
func (plain) Credential(context.Context) (target.Credential, error) {
	return target.Credential{}, nil
}
func (plain) Limits() target.Limits   { return target.Limits{} }
func (plain) Explain(err error) error { return err }

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

// Run mirrors a bundle and says where everything went. Names and what the
// target says of itself are checked before anything is sent. An item that fails
// does not stop the others: the map then lists what arrived, and the error is a
// *PartialError, or the joined errors if nothing arrived. What was sent is not
// sent again by a second run. A shard's map is empty. A *RecordError that says
// Ended comes with a whole map: only the record is not.
func Run(ctx context.Context, b *verify.Bundle, o Options) (manifests.RelocationMap, Result, error) {
	return run(ctx, b, o)
}

func run(ctx context.Context, src source, o Options) (manifests.RelocationMap, Result, error) {
	e, err := prepareEngine(ctx, src, o)
	if err != nil {
		return manifests.RelocationMap{}, Result{}, err
	}
	return e.carryOut(ctx, nil)
}

// prepareEngine checks everything that can be checked without the registry.
func prepareEngine(ctx context.Context, src source, o Options) (*engine, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	plan, err := makePlan(ctx, src, o)
	if err != nil {
		return nil, err
	}
	return newEngine(src, o, plan)
}

// carryOut looks, lets allow have its say, and pushes.
func (e *engine) carryOut(ctx context.Context, allow func() error) (manifests.RelocationMap, Result, error) {
	err := e.run(ctx, allow)
	if closing := e.rec.close(); err == nil {
		err = closing
	}
	done := map[Place]bool{}
	for _, j := range e.jobs {
		done[j.item.Place] = j.done
	}
	e.result.LeftOut = e.plan.LeftOut
	return e.relocation(func(it *Item) bool { return done[it.Place] }), e.result, err
}

func (e *engine) relocation(done func(*Item) bool) manifests.RelocationMap {
	m := e.plan.relocation(done)
	for _, r := range e.repos { // all of one host
		m.PlainHTTP = r.PlainHTTP
	}
	return m
}

// Relocation is the relocation map that [Run] gives when everything has arrived.
// The registry is not asked.
func Relocation(ctx context.Context, b *verify.Bundle, o Options) (manifests.RelocationMap, error) {
	return relocation(ctx, b, o)
}

func relocation(ctx context.Context, src source, o Options) (manifests.RelocationMap, error) {
	plan, err := makePlan(ctx, src, o)
	if err != nil {
		return manifests.RelocationMap{}, err
	}
	e, err := newEngine(src, o, plan)
	if err != nil {
		return manifests.RelocationMap{}, err
	}
	return e.relocation(func(*Item) bool { return true }), nil
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
