package bundle_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/google/go-cmp/cmp"
)

// asked is a source that remembers what it was told of a lock, and fails on
// request.
type asked struct {
	*fixture.Source
	err    error
	locked int
}

func (a *asked) Resolve(ctx context.Context, locked []bundle.Pin) ([]bundle.Pin, error) {
	a.locked = len(locked)
	if a.err != nil {
		return nil, a.err
	}
	return a.Source.Resolve(ctx, locked)
}

// TestResolveErrors: all are reported, in the order of the definition, up to a
// bound; the end of the context hides none behind others.
func TestResolveErrors(t *testing.T) {
	failing := func(n int) bundle.ResolveOptions {
		o := bundle.ResolveOptions{Info: fixture.Info(), Created: fixture.Epoch, Spool: fixture.Spool(t)}
		for i := range n {
			name := fmt.Sprintf("example.com/x:%d", i)
			o.Sources = append(o.Sources, &asked{Source: image(t, name, 1, 10), err: fmt.Errorf("cannot find %s", name)})
		}
		return o
	}
	_, err := bundle.Resolve(t.Context(), failing(1))
	if err == nil || err.Error() != "cannot find example.com/x:0" {
		t.Errorf("one error: got %v", err)
	}
	want := "3 entries cannot be resolved:\n  cannot find example.com/x:0\n  cannot find example.com/x:1\n  cannot find example.com/x:2"
	_, err = bundle.Resolve(t.Context(), failing(3))
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Errorf("three errors (-want +got):\n%s", diff)
	}
	_, err = bundle.Resolve(t.Context(), failing(60))
	if e, ok := errors.AsType[*bundle.EntriesError](err); !ok || len(e.Errs) != 20 {
		t.Errorf("60 errors: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = bundle.Resolve(ctx, failing(3)); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "cannot find") {
		t.Errorf("cancelled: got %v", err)
	}
}

// TestPreviousLock: a pin outlives an edit of the definition exactly where its
// own spec did, and where asking again could answer otherwise.
func TestPreviousLock(t *testing.T) {
	spec := func(name string, fetched bool) bundle.Spec {
		return bundle.Spec{Digest: "sha256:" + strings.Repeat(name, 64), Fetched: fetched}
	}
	o := bundle.ResolveOptions{
		Info: fixture.Info(), Definition: "sha256:" + strings.Repeat("d", 64), Created: fixture.Epoch, Spool: fixture.Spool(t),
		Sources: []bundle.Source{image(t, "example.com/a:1", 1, 10)}, Specs: []bundle.Spec{spec("a", true)},
	}
	first, err := bundle.Resolve(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	previous, err := manifests.ParseLock("airlock.lock", first.Lock)
	if err != nil {
		t.Fatal(err)
	}
	without := *previous
	without.Items = append([]manifests.LockedItem(nil), previous.Items...)
	without.Items[0].Spec = ""
	for _, tc := range []struct {
		name string
		lock *manifests.Lock
		spec bundle.Spec
		want int
	}{
		{"unchanged", previous, spec("a", true), 1},
		{"changed", previous, spec("b", true), 0},
		{"made", previous, spec("a", false), 0},
		{"lock of an older version", &without, spec("a", true), 0},
	} {
		s := &asked{Source: image(t, "example.com/a:1", 1, 10)}
		var reused bool
		o.Sources, o.Specs, o.Previous = []bundle.Source{s}, []bundle.Spec{tc.spec}, tc.lock
		o.Listener = func(e bundle.Event) { reused = reused || e.Reused }
		if _, err := bundle.Resolve(t.Context(), o); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if s.locked != tc.want || reused != (tc.want > 0) {
			t.Errorf("%s: the source was given %d pins, reused %t; want %d", tc.name, s.locked, reused, tc.want)
		}
	}
	o.Sources, o.Specs, o.Previous = []bundle.Source{image(t, "example.com/a:1", 2, 10)}, []bundle.Spec{spec("a", true)}, previous
	if _, err := bundle.Resolve(t.Context(), o); err == nil {
		t.Error("other content under a kept pin is accepted")
	} else if _, ok := errors.AsType[*bundle.ChangedError](err); !ok {
		t.Errorf("other content under a kept pin: got %v", err)
	}
}

func TestMissingImagesGrammar(t *testing.T) {
	e := &bundle.MissingImagesError{Images: []bundle.MissingImage{{Image: "x:1", Where: []string{"chart c"}}}}
	if got := e.Error(); !strings.HasPrefix(got, "1 image is named but not carried:") {
		t.Errorf("got %q", got)
	}
}
