package install

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestUninstallAgain: what could not be removed for want of rights is recorded as
// left, its item stands, and a second time finishes.
func TestUninstallAgain(t *testing.T) {
	t.Parallel()
	p := signedPub(t)
	p.run()
	list := []Kept{
		{Object{"v1", "Namespace", "", "brewery"}, "mash"}, {Object{"v1", "Secret", "brewery", "yeast"}, "boil"},
	}
	forbidden := errors.New("forbidden: user ops may not delete secrets in namespace brewery")
	remove := func(may bool) (done []Removal, rep *Report, err error) {
		p.withDesk(func(d *Desk) {
			done, rep, err = d.Uninstall(t.Context(), list, func(_ context.Context, k Kept) (bool, string, error) {
				if k.Kind == "Secret" && !may {
					return false, "", forbidden
				}
				if k.Kind == "Namespace" && !may {
					return false, "it still holds secrets brewery/yeast", nil
				}
				return true, "", nil
			})
		})
		return done, rep, err
	}
	done, rep, err := remove(false)
	if !errors.Is(err, forbidden) || !strings.Contains(err.Error(), "remove Secret brewery/yeast: ") || len(done) != 2 || done[0].Removed || done[0].Reason != forbidden.Error() || done[1].Removed {
		t.Errorf("%+v, %v", done, err)
	}
	wantStates(t, rep, map[string]State{"mash": StatePass, "boil": StatePass})
	done, rep, err = remove(true)
	if err != nil || slices.ContainsFunc(done, func(r Removal) bool { return !r.Removed }) {
		t.Errorf("%+v, %v", done, err)
	}
	wantStates(t, rep, map[string]State{"mash": StateStale, "boil": StateStale})
	if _, err := VerifyState(p.opts.State, nil); err != nil {
		t.Error(err)
	}
}

// TestKeptOfInterrupted: what an action was about to make is known also if it
// never came to its end.
func TestKeptOfInterrupted(t *testing.T) {
	t.Parallel()
	p := signedPub(t)
	object := Release("brewery", "ale")
	p.keeps = map[string][]Object{"mash": {object}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.hook = func(name string) {
		if name == "mash" && p.calls[len(p.calls)-1] == "do mash" {
			cancel()
		}
	}
	if _, err := p.try(ctx); err == nil {
		t.Fatal("it was not interrupted")
	}
	kept, err := KeptObjects(p.opts.State)
	if err != nil || !slices.Equal(kept, []Kept{{object, "mash"}}) {
		t.Errorf("%+v, %v", kept, err)
	}
	if _, err := VerifyState(p.opts.State, nil); err != nil {
		t.Error(err)
	}
	p.hook = nil
	wantStates(t, p.run(), map[string]State{"mash": StatePass})
	if again, err := KeptObjects(p.opts.State); err != nil || !slices.Equal(again, kept) {
		t.Errorf("%+v, %v", again, err)
	}
}

// TestUninstallInterrupted: a removal that was begun and stopped is in the ledger
// as that; its item stands no more, and the rest is left.
func TestUninstallInterrupted(t *testing.T) {
	t.Parallel()
	p := signedPub(t)
	p.run()
	list := []Kept{{Object{"v1", "Namespace", "", "brewery"}, "mash"}, {Release("brewery", "ale"), "boil"}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.withDesk(func(d *Desk) {
		done, rep, err := d.Uninstall(ctx, list, func(ctx context.Context, _ Kept) (bool, string, error) {
			cancel()
			return true, "", ctx.Err()
		})
		if !errors.Is(err, context.Canceled) || len(done) != 1 || done[0].Kind != "Release" || !done[0].Removed || done[0].Reason != "context canceled" {
			t.Errorf("%+v, %v", done, err)
		}
		wantStates(t, rep, map[string]State{"mash": StatePass, "boil": StateStale})
	})
	if _, err := VerifyState(p.opts.State, nil); err != nil {
		t.Error(err)
	}
}

// TestUninstallHides: what a server says of a failure goes into the record, and may
// repeat a secret.
func TestUninstallHides(t *testing.T) {
	t.Parallel()
	p := signedPub(t)
	p.run()
	p.withDesk(func(d *Desk) {
		d.r.redact.add("cellar.password", "geheim-1234")
		done, _, err := d.Uninstall(t.Context(), []Kept{{Object{"v1", "Secret", "brewery", "yeast"}, "boil"}}, func(context.Context, Kept) (bool, string, error) {
			return false, "", errors.New("invalid: geheim-1234")
		})
		if err == nil || len(done) != 1 || done[0].Reason == "" || strings.Contains(done[0].Reason, "geheim") {
			t.Errorf("%+v, %v", done, err)
		}
	})
}
