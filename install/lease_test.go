package install

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestGuard(t *testing.T) {
	t.Parallel()
	by := Lease{Site: "cellar", Host: "host-b", Actor: "bob", PID: 9}
	for name, c := range map[string]struct {
		hold   *Hold
		err    error
		ledger string // "" is no entry
		warns  string
	}{
		"free":                 {&Hold{}, nil, "", ""},
		"taken over":           {&Hold{Former: &by, Why: "it ran out"}, nil, `"reason":"it ran out"`, ""},
		"broken":               {&Hold{Former: &by, Why: "b burnt", Broken: true}, nil, `"broken":true`, ""},
		"no registry":          {nil, errors.New("connection refused"), `"guarded":false`, "no lock against other machines: connection refused"},
		"cannot be given back": {&Hold{Release: func(context.Context) error { return errors.New("gone") }}, nil, "", "was not given back: gone"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			released := false
			s.opts.Guard = func(_ context.Context, who Lease, _ func(error)) (*Hold, error) {
				if who.Site != "cellar" || who.Owner == "" || who.Host == "" || who.PID == 0 || who.Actor != "ops" {
					t.Errorf("who %+v", who)
				}
				if c.hold != nil && c.hold.Release == nil {
					c.hold.Release = func(context.Context) error { released = true; return nil }
				} else {
					released = true
				}
				return c.hold, c.err
			}
			rep := s.run()
			if !released {
				t.Error("it was not given back")
			}
			text := strings.Join(ledgerLines(t, s.opts.State), "")
			if has := strings.Contains(text, `"event":"lease"`); has != (c.ledger != "") || !strings.Contains(text, c.ledger) {
				t.Errorf("ledger: %s", text)
			}
			if got := strings.Join(rep.Warnings, ";"); c.warns == "" && got != "" || !strings.Contains(got, c.warns) {
				t.Errorf("warnings %q, want %q", got, c.warns)
			}
			wantStates(t, rep, map[string]State{"taste": StateWaiting})
		})
	}
}

func TestHeldByAnother(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.opts.Guard = func(context.Context, Lease, func(error)) (*Hold, error) {
		return nil, &HeldError{By: Lease{Site: "cellar", Host: "host-b", Actor: "bob", PID: 9}, Where: "registry"}
	}
	rep, err := s.try(t.Context())
	if _, ok := errors.AsType[*HeldError](err); !ok || rep != nil || len(s.calls) != 0 {
		t.Errorf("%v, %v, %v", rep, err, s.calls)
	}
	s.opts.Guard = nil
	s.run() // the directory is free
}

func TestLockLostStopsTheRun(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	published := false
	s.opts.Publish = func(context.Context, Published) (string, error) { published = true; return "", nil }
	var lost func(error)
	s.opts.Guard = func(_ context.Context, _ Lease, f func(error)) (*Hold, error) {
		lost = f
		return &Hold{Release: func(context.Context) error { return nil }}, nil
	}
	s.hook = func(name string) {
		if name == "mash" {
			lost(&LostError{To: Lease{Site: "cellar", Host: "host-b"}, Where: "registry"})
		}
	}
	rep, err := s.try(t.Context())
	if _, ok := errors.AsType[*LostError](err); !ok || rep == nil || !rep.Stopped {
		t.Fatalf("%v, %v", rep, err)
	}
	if published {
		t.Error("its ledger was put over the other's")
	}
	wantStates(t, rep, map[string]State{"boil": StatePending})
}

func TestPublish(t *testing.T) {
	t.Parallel()
	p := newPub(t)
	var got []Published
	var out error
	p.opts.Publish = func(_ context.Context, pub Published) (string, error) {
		got = append(got, pub)
		// What is copied is whole.
		if _, err := VerifyState(pub.Dir, nil); err != nil {
			t.Error(err)
		}
		return "", out
	}
	rep := p.run()
	if len(got) != 1 || got[0].Head != *rep.Ledger || got[0].Site != "cellar" || got[0].RunID != rep.RunID || !got[0].Known(got[0].Head) || got[0].Known(Head{Seq: 1, Hash: "x"}) || got[0].Known(Head{}) {
		t.Errorf("%+v", got)
	}
	out = errors.New("dial with hunter2-and-more")
	rep = p.mustAttest(p.alice)
	if len(got) != 2 || got[1].Head != *rep.Ledger || !got[1].Known(got[0].Head) {
		t.Errorf("%+v", got)
	}
	if w := strings.Join(rep.Warnings, ""); !strings.Contains(w, "the ledger was not copied to the registry") || !strings.Contains(w, "keep a copy of that directory") {
		t.Errorf("warnings %q", w)
	}
	p.opts.DryRun = true
	p.run()
	if len(got) != 2 {
		t.Error("a dry run copied something")
	}
}

// TestRecordIsComparedFirst: what the copy is not allows nothing to be done.
func TestRecordIsComparedFirst(t *testing.T) {
	t.Parallel()
	p := newPub(t, "      mash.key: {type: string, secret: true}\n", "")
	p.run()
	before := strings.Join(ledgerLines(t, p.opts.State), "")
	released := 0
	p.opts.Guard = func(context.Context, Lease, func(error)) (*Hold, error) {
		return &Hold{Release: func(context.Context) error { released++; return nil }}, nil
	}
	p.opts.Compare = func(_ context.Context, rec Published) (string, error) {
		return "", &ForkError{Head: Head{Seq: rec.Head.Seq + 1}, Have: rec.Head}
	}
	if _, err := p.try(t.Context()); !errorIs[*ForkError](err) || len(p.calls) > 0 || released != 1 {
		t.Errorf("error %v, calls %v, released %d", err, p.calls, released)
	}
	if _, err := OpenDesk(t.Context(), nil, p.opts); !errorIs[*ForkError](err) || released != 2 {
		t.Errorf("a desk: %v, released %d", err, released)
	}
	if after := strings.Join(ledgerLines(t, p.opts.State), ""); after != before {
		t.Error("something was written")
	}
	p.opts.Compare = func(context.Context, Published) (string, error) { return "", errors.New("no route to host") }
	if rep := p.run(); !strings.Contains(strings.Join(rep.Warnings, " "), "not compared with its copy: no route to host") {
		t.Errorf("warnings %q", rep.Warnings)
	}
}
