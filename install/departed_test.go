package install

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/manifests"
)

// verified is what checklist verify does with the keys of the site.
func (p *pub) verified() (*Verification, error) {
	v, err := VerifyListed(p.opts.State, p.opts.Site.Identity != nil, CheckBy(p.opts.People))
	if err == nil {
		err = VerifyStatements(p.opts.State, p.opts.People, nil)
	}
	return v, err
}

// leave makes everybody with that key leave at a time.
func (p *pub) leave(who pen, at time.Time) {
	for i := range p.opts.People {
		if p.opts.People[i].Fingerprint == who.id {
			p.opts.People[i].Left = at
		}
	}
}

// TestWhoLeftHasSigned: what a person signed before they left stays signed,
// statements and checkpoints; nothing after it counts.
func TestWhoLeftHasSigned(t *testing.T) {
	t.Parallel()
	p := signedPub(t) // Bob signs the ledger
	p.run()
	p.mustAttest(p.alice)
	p.clock = p.clock.Add(20 * time.Minute)
	p.leave(p.alice, p.clock)
	p.leave(p.bob, p.clock)
	p.opts.KeyID, p.opts.Sign = p.carol.id, p.carol.signer().Sign // and now Carol
	rep := p.run()
	wantStates(t, rep, map[string]State{"taste": StateAttested, "mash": StatePass})
	if slices.Contains(p.calls, "do mash") {
		t.Errorf("what Bob signed was done again: %v", p.calls)
	}
	v, err := p.verified()
	if err != nil || !v.Covered || v.Good != v.Checkpoints || len(v.Unlisted) != 0 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := p.attest(nil, p.alice); !errorIs[*SignerError](err) || !strings.Contains(err.Error(), "Alice left on") {
		t.Errorf("she signs: %v", err)
	}
	// What she signs afterwards does not count, what she signed before does.
	p.leave(p.alice, time.Time{})
	p.clock = p.clock.Add(5 * time.Minute)
	p.mustAttest(p.alice)
	p.leave(p.alice, p.clock.Add(-time.Minute))
	rep = p.run()
	wantStates(t, rep, map[string]State{"taste": StateAttested})
	if s := item(t, rep, "taste").Statements; len(s) != 2 || !s[0].Counts || s[1].Counts || !strings.Contains(s[1].Against, "when Alice left") {
		t.Errorf("%+v", s)
	}

	// Bob's checkpoints of today are no signature any more.
	p.leave(p.bob, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if _, err := p.verified(); !errorIs[*LedgerError](err) || !strings.Contains(err.Error(), "and left on 2026-01-01") {
		t.Errorf("error %v", err)
	}
}

// TestUnlistedIsSaid: a record by keys that the site does not list any more is
// not called changed, and not called good.
func TestUnlistedIsSaid(t *testing.T) {
	t.Parallel()
	p := signedPub(t)
	p.run()
	p.opts.People = slices.DeleteFunc(p.opts.People, func(who Person) bool { return who.Fingerprint == p.bob.id })
	_, err := p.verified()
	e, ok := errors.AsType[*UnlistedError](err)
	if !ok || len(e.Keys) != 1 || e.Keys[0] != p.bob.id {
		t.Errorf("error %v", err)
	}
	if _, err := p.try(t.Context()); !errorIs[*UnlistedError](err) {
		t.Errorf("a run: %v", err)
	}
	// Without an identity nothing has to be signed.
	p.opts.Site.Identity = nil
	if v, err := p.verified(); err != nil || v.Good != 0 || len(v.Unlisted) != 1 || v.Covered {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestIdentityAddedLater: runs before a site had an identity were not signed, and
// are not refused; what they did is done again.
func TestIdentityAddedLater(t *testing.T) {
	t.Parallel()
	p := signedPub(t)
	id, sign := p.opts.KeyID, p.opts.Sign
	p.opts.Site.Identity, p.opts.KeyID, p.opts.Sign = nil, "", nil
	p.run()
	p.run()
	if v, err := p.verified(); err != nil || v.Checkpoints != 0 {
		t.Errorf("without: %+v, %v", v, err)
	}
	p.opts.Site.Identity, p.opts.KeyID, p.opts.Sign = &manifests.Identity{Name: "Bob"}, id, sign
	if v, err := p.verified(); err != nil || v.Checkpoints != 0 || v.Covered {
		t.Errorf("before its first run: %+v, %v", v, err)
	}
	p.run()
	if !slices.Contains(p.calls, "do mash") {
		t.Errorf("unsigned results were kept: %v", p.calls)
	}
	if v, err := p.verified(); err != nil || !v.Covered {
		t.Errorf("after it: %+v, %v", v, err)
	}
}

// TestKilledBeforeItsCheckpoint: the process dies between what it did and the
// signature over it.
func TestKilledBeforeItsCheckpoint(t *testing.T) {
	t.Parallel()
	dead := errors.New("killed")
	// dying is a site whose run dies at a signature, the first being number 1.
	dying := func(at int, items ...string) (p *pub, signed int) {
		t.Helper()
		p = signedPub(t)
		sign := p.opts.Sign
		p.opts.Items = items
		p.opts.Sign = func(b []byte) ([]byte, error) {
			if signed++; signed == at {
				return nil, dead
			}
			return sign(b)
		}
		if _, err := p.try(t.Context()); at > 0 && !errors.Is(err, dead) || at == 0 && err != nil {
			t.Fatal(err)
		}
		p.opts.Sign, p.opts.Items = sign, nil
		return p, signed
	}
	look := func(p *pub, checkpoints int, missing bool) *Report {
		t.Helper()
		v, err := p.verified()
		if err != nil || v.Checkpoints != checkpoints || v.Missing != missing || v.Covered {
			t.Errorf("%+v, %v", v, err)
		}
		d, err := LookDesk(t.Context(), p.opts)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close() //nolint:errcheck // it was only read
		return d.Report()
	}
	// A first run ended and nothing of it is signed: nothing counts, and whoever
	// looks is told.
	p, _ := dying(1, "clean-kettle")
	wantStates(t, look(p, 0, true), map[string]State{"clean-kettle": StateStale})
	p.run()
	if v, err := p.verified(); err != nil || !v.Covered || v.Missing {
		t.Errorf("%+v, %v", v, err)
	}
	// An action is done and not signed: it is done again.
	p, _ = dying(1)
	rep := look(p, 0, false)
	wantStates(t, rep, map[string]State{"mash": StateStale, "clean-kettle": StateStale})
	if item(t, rep, "mash").Reason != notCovered {
		t.Errorf("%+v", item(t, rep, "mash"))
	}
	p.opts.DryRun = true
	if got := states(p.run())["mash"]; got != StatePlanned {
		t.Errorf("a dry run has it %s", got)
	}
	p.opts.DryRun = false
	if rep = p.run(); !slices.Contains(p.calls, "do mash") || rep.Status == StatusFailed {
		t.Errorf("%s, %v", rep.Status, p.calls)
	}
	// It was signed when it was done: a run that dies later does not do it twice.
	_, all := dying(0)
	p, _ = dying(all)
	wantStates(t, look(p, all-1, false), map[string]State{"mash": StatePass})
	p.opts.Resume = true
	if rep = p.run(); slices.Contains(p.calls, "do mash") || rep.Status == StatusFailed {
		t.Errorf("%s, %v", rep.Status, p.calls)
	}
	// Twice in a row is no forgery either: the ledger says that it was so.
	p, _ = dying(1, "clean-kettle")
	p.opts.Items, p.opts.Sign = []string{"clean-kettle"}, func([]byte) ([]byte, error) { return nil, dead }
	if _, err := p.try(t.Context()); !errors.Is(err, dead) {
		t.Fatal(err)
	}
	if _, err := p.verified(); err != nil {
		t.Errorf("killed twice: %v", err)
	}
	// Checkpoints that were there and are gone are another thing.
	p = signedPub(t)
	p.run()
	p.run()
	if err := os.Remove(filepath.Join(p.opts.State, fileCheckpoints)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.verified(); !errorIs[*LedgerError](err) {
		t.Errorf("removed: %v", err)
	}
}

// TestReportIsCheckedAlways: also where a later run has begun and not ended, and
// a kill between the ledger and report.json is no forgery.
func TestReportIsCheckedAlways(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.run()
	first, err := os.ReadFile(filepath.Join(s.opts.State, fileReport))
	if err != nil {
		t.Fatal(err)
	}
	st, err := openStore(s.opts.State, Actor{}, s.opts.Now)
	if err != nil {
		t.Fatal(err)
	}
	st.ledger.runID = st.run.RunID
	if err := errors.Join(st.record("", eventRunStarted, map[string]any{}), st.save(), st.close()); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyState(s.opts.State, nil); err != nil {
		t.Fatal(err)
	}
	write(t, s.opts.State, fileReport, strings.Replace(string(first), "waiting", "pass", 1))
	if _, err := VerifyState(s.opts.State, nil); !errorIs[*LedgerError](err) || !strings.Contains(err.Error(), "report was changed") {
		t.Errorf("error %v", err)
	}

	// The entry is there, report.json and run.json are of the moment before.
	s = newShop(t)
	s.run()
	old, err := os.ReadFile(filepath.Join(s.opts.State, fileReport))
	if err != nil {
		t.Fatal(err)
	}
	rep := s.run()
	patch(t, s.opts.State, func(snap *snapshot) {
		lines := entriesOf(t, s.opts.State)
		e := lines[len(lines)-2]
		snap.Ledger = Head{Seq: e.Seq, Hash: e.Hash}
	})
	write(t, s.opts.State, fileReport, string(old))
	if _, err := VerifyState(s.opts.State, nil); err != nil {
		t.Errorf("killed: %v", err)
	}
	if got, err := ReadReport(s.opts.State); err != nil || got.RunID != rep.RunID {
		t.Errorf("the report: %+v, %v", got, err)
	}
	s.opts.Resume = true
	s.run()
	if _, err := VerifyState(s.opts.State, nil); err != nil {
		t.Errorf("after the next run: %v", err)
	}
}
