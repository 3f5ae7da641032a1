package bundle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// resolveConcurrency bounds the sources resolved at once: they mostly wait for
// registries.
const resolveConcurrency = 4

// ChangedError says that an entry no longer yields what the lock records.
type ChangedError struct {
	Entry string
	Item  string
	Want  string
	Got   string
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s: %s is %s, the lock says %s", e.Entry, e.Item, e.Got, e.Want)
}

// maxResolveErrors bounds what is reported, and how long is waited for it: once
// so many entries have failed, no other is begun.
const maxResolveErrors = 20

// EntriesError holds what is wrong with several entries, in the order of the
// definition.
type EntriesError struct{ Errs []error }

func (e *EntriesError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d entries cannot be resolved:", len(e.Errs))
	for _, err := range e.Errs {
		b.WriteString("\n  " + strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return b.String()
}

// Unwrap makes every error reachable.
func (e *EntriesError) Unwrap() []error { return e.Errs }

// pin resolves the sources into pins and reports everything that is wrong with
// them, at once. Only the end of ctx stops it early.
func (o ResolveOptions) pin(ctx context.Context, pins [][]Pin) error {
	var g errgroup.Group
	g.SetLimit(resolveConcurrency)
	errs := make([]error, len(o.Sources))
	var failed atomic.Int64
	for i := range o.Sources {
		g.Go(func() error {
			if failed.Load() < maxResolveErrors {
				errs[i] = o.pinEntry(ctx, i, pins)
			}
			if errs[i] != nil {
				failed.Add(1)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("resolve: %w", err)
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return &EntriesError{errs[:min(len(errs), maxResolveErrors)]}
}

// pinEntry resolves Sources[i] into pins[i] and tells the listener.
func (o ResolveOptions) pinEntry(ctx context.Context, i int, pins [][]Pin) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e := Event{Op: "resolve", Object: o.Sources[i].Origin()}
	o.Listener.Send(e)
	var err error
	if pins[i], e.Reused, err = o.pinOne(ctx, i); err != nil {
		return err
	}
	e.Done = true
	o.Listener.Send(e)
	return nil
}

// pinOne resolves Sources[i]. kept reports whether a lock said the answer. A
// source names its entry in its errors.
func (o ResolveOptions) pinOne(ctx context.Context, i int) (pins []Pin, kept bool, err error) {
	s := o.Sources[i]
	if o.Locked == nil {
		return o.pinAnew(ctx, i)
	}
	locked, err := Locked(o.Locked, s.Origin())
	if err != nil {
		return nil, false, err
	}
	if len(locked) == 0 {
		return nil, false, &ChangedError{Entry: s.Origin(), Item: "the entry", Want: "absent", Got: "present"}
	}
	if pins, err = s.Resolve(ctx, locked); err != nil {
		return nil, false, err
	}
	return pins, true, compareLocked(s.Origin(), locked, pins)
}

// pinAnew resolves Sources[i] under a definition that has no lock of its own.
func (o ResolveOptions) pinAnew(ctx context.Context, i int) (pins []Pin, kept bool, err error) {
	s := o.Sources[i]
	previous, err := o.previous(i)
	if err != nil {
		return nil, false, err
	}
	if pins, err = s.Resolve(ctx, previous); err != nil || len(previous) == 0 {
		return pins, false, err
	}
	return pins, true, compareKept(s.Origin(), previous, pins)
}

// previous returns the pins that the lock of another definition holds for
// Sources[i], if that entry asks the same today. What is made is made again: a
// pin of it would only say what the files were.
func (o ResolveOptions) previous(i int) ([]Pin, error) {
	if o.Previous == nil || i >= len(o.Specs) || !o.Specs[i].Fetched {
		return nil, nil
	}
	entry, found := o.Sources[i].Origin(), false
	for _, item := range o.Previous.Items {
		if item.Entry != entry {
			continue
		}
		if item.Spec == "" || item.Spec != o.Specs[i].Digest {
			return nil, nil
		}
		found = true
	}
	if !found {
		return nil, nil
	}
	return Locked(o.Previous, entry)
}

// compareKept refuses fetched content that is not what the lock of another
// definition pinned. Manifests that Airlock writes around it carry the new
// time stamp, so blobs are compared; values files beside a chart may change.
func compareKept(entry string, want, got []Pin) error {
	for _, w := range want {
		if w.Kind != KindImage && w.Kind != KindChart {
			continue
		}
		i := slices.IndexFunc(got, func(g Pin) bool { return g.Item == w.Item })
		if i < 0 {
			return &ChangedError{Entry: entry, Item: w.Kind + " " + w.Name, Want: w.Ref, Got: "absent"}
		}
		g := got[i]
		if !slices.EqualFunc(w.Blobs, g.Blobs, sameContent) {
			return &ChangedError{Entry: entry, Item: w.Kind + " " + w.Name, Want: rootOf(w), Got: rootOf(g)}
		}
	}
	return nil
}

func rootOf(p Pin) string {
	if len(p.Manifests) == 0 {
		return "nothing"
	}
	return p.Manifests[0].Digest.String()
}

func sameContent(a, b Descriptor) bool {
	return a.Digest == b.Digest && a.Size == b.Size && a.MediaType == b.MediaType
}

// compareLocked refuses pins that are not the locked ones.
func compareLocked(entry string, want, got []Pin) error {
	if len(want) != len(got) {
		return &ChangedError{Entry: entry, Item: "number of items", Want: fmt.Sprint(len(want)), Got: fmt.Sprint(len(got))}
	}
	for i := range want {
		w, g := want[i], got[i]
		if w.Item != g.Item {
			return &ChangedError{Entry: entry, Item: "item", Want: w.Kind + " " + w.Ref, Got: g.Kind + " " + g.Ref}
		}
		if len(g.Manifests) > 0 && len(w.Manifests) > 0 && !sameContent(w.Manifests[0].Descriptor, g.Manifests[0].Descriptor) {
			return &ChangedError{Entry: entry, Item: w.Kind + " " + w.Name, Want: w.Manifests[0].Digest.String(), Got: g.Manifests[0].Digest.String()}
		}
		if !slices.EqualFunc(w.Manifests, g.Manifests, func(a, b Manifest) bool {
			return sameContent(a.Descriptor, b.Descriptor) && a.Role == b.Role && a.Ref == b.Ref
		}) ||
			!slices.EqualFunc(w.Blobs, g.Blobs, sameContent) {
			return &ChangedError{Entry: entry, Item: w.Kind + " " + w.Name, Want: "another closure", Got: "this one"}
		}
	}
	return nil
}
