package install

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// appendEntry writes one more entry into a ledger that nobody holds, chain and
// all, as somebody who can write the directory would.
func appendEntry(t *testing.T, dir string, e Entry, data any) {
	t.Helper()
	list := entriesOf(t, dir)
	last := list[len(list)-1]
	raw, err := canonical(data)
	if err != nil {
		t.Fatal(err)
	}
	e.Seq, e.Prev, e.At, e.RunID = last.Seq+1, last.Hash, last.At, last.RunID
	e.Data, e.DataSHA256 = raw, sumOf(raw)
	if e.Hash, err = e.sum(); err != nil {
		t.Fatal(err)
	}
	line, err := e.line()
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, fileLedger))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, fileLedger, string(before)+string(line))
}

// TestReplayedStatement: a statement that was signed counts where it stands, not
// again after what took its place.
func TestReplayedStatement(t *testing.T) {
	t.Parallel()
	p := newPub(t, "    freshness: 1h\n", "    freshness: 1h\n    waiver: {}\n")
	p.fail["kettle.example.internal"] = Finding{Detail: "mould"}
	p.run()
	for _, risk := range []string{"a bad taste", "none that counts"} {
		if _, err := p.waive("clean-kettle", "it boils anyway", risk, p.alice); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range entriesOf(t, p.opts.State) {
		if e.Event == eventWaived {
			appendEntry(t, p.opts.State, Entry{Item: e.Item, Event: e.Event, Actor: e.Actor}, e.Data)
			break
		}
	}
	p.refuses("the same signed statement is in it before")
}

// TestUncoveredTail: whoever can write the directory can add to the ledger; at a
// site with an identity that is nobody's result.
func TestUncoveredTail(t *testing.T) {
	t.Parallel()
	p := signedPub(t)
	p.err["boil"] = errors.New("no gas")
	p.run()
	rec := itemRecord{State: StatePass, Attempt: 2, FinishedAt: p.clock, Steps: []stepRecord{{ID: "heat", Run: "change", State: StatePass}}}
	appendEntry(t, p.opts.State, Entry{Item: "boil", Event: eventFinished}, rec)
	d, err := LookDesk(t.Context(), p.opts)
	if err != nil {
		t.Fatal(err)
	}
	rep := d.Report()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if b := item(t, rep, "boil"); b.State != StateStale || b.Reason != notCovered {
		t.Errorf("status has it %s: %s", b.State, b.Reason)
	}
	if v, err := VerifyListed(p.opts.State, true, CheckBy(p.opts.People)); err != nil || v.Covered || v.CoveredTo != v.Head.Seq-1 {
		t.Errorf("verify: %+v, %v", v, err)
	}
	delete(p.err, "boil")
	p.run()
	if !slices.Contains(p.calls, "do boil") {
		t.Errorf("it was taken for done: %v", p.calls)
	}
}

// TestDeletedArtifact: a result whose data is gone is found by who verifies, and
// done again by who goes on.
func TestDeletedArtifact(t *testing.T) {
	t.Parallel()
	p := newPub(t, "      mash.key: {type: string, secret: true}\n", "      mash.log: {type: string}\n",
		"mash.key: mash-key-of-the-brewery", "mash.log: "+strings.Repeat("x", inlineOutput+1))
	p.run()
	var ref string
	for _, e := range entriesOf(t, p.opts.State) {
		if _, after, ok := strings.Cut(string(e.Data), `"ref":"`); ok {
			ref = after[:64]
		}
	}
	if ref == "" {
		t.Fatal("no output lies in an artifact")
	}
	if err := os.Remove(filepath.Join(p.opts.State, dirArtifacts, ref)); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyState(p.opts.State, nil); !errorIs[*LedgerError](err) || !strings.Contains(err.Error(), "item mash") {
		t.Errorf("verify: %v", err)
	}
	p.run()
	if !slices.Contains(p.calls, "do mash") {
		t.Errorf("it went on without it: %v", p.calls)
	}
	if _, err := VerifyState(p.opts.State, nil); err != nil {
		t.Errorf("after it was done again: %v", err)
	}
}

// TestFullDisk: a disk that is full at any write stops the run with that cause;
// once there is space the run goes on, nothing that was finished is done again
// and the record is whole.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	without := func(t *testing.T) *pub { return newPub(t, "      mash.key: {type: string, secret: true}\n", "") }
	total := 0
	p := without(t)
	p.opts.onWrite = func() error { total++; return nil }
	p.run()
	if total < 40 {
		t.Fatalf("%d writes", total)
	}
	for from := 1; from <= total; from += 3 {
		p := without(t)
		n := 0
		p.opts.onWrite = func() error {
			if n++; n >= from {
				return syscall.ENOSPC
			}
			return nil
		}
		if _, err := p.try(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("full at write %d: error %v", from, err)
		}
		finished := finishedActions(t, p.opts.State)
		p.opts.onWrite = nil
		rep := p.run()
		wantStates(t, rep, map[string]State{"mash": StatePass, "boil": StatePass, "taste": StateWaiting})
		for _, name := range finished {
			if slices.Contains(p.calls, "do "+name) {
				t.Errorf("full at write %d: %s was done again: %v", from, name, p.calls)
			}
		}
		if _, err := VerifyState(p.opts.State, nil); err != nil {
			t.Errorf("full at write %d: %v", from, err)
		}
	}
}

// TestHalfALineIsTheLast: after a write that failed nothing follows what may be
// half a line.
func TestHalfALineIsTheLast(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), fileLedger)
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	read, err := os.Open(name) // writing to it fails
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{f: read, head: Head{Hash: zeros}, now: time.Now}
	if err := l.append("", "x", sumOf(nil), nil); err == nil {
		t.Fatal("it wrote")
	}
	l.f = f // there is space again, half a line may lie there
	if err := l.append("", "x", sumOf(nil), nil); err == nil {
		t.Error("it wrote after a write that failed")
	}
	if err := errors.Join(read.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(name); err != nil || len(raw) != 0 {
		t.Errorf("%q, %v", raw, err)
	}
}

// TestClockJumps: a clock that goes back is written down and said; the order of
// entries is that of their numbers, and nothing is refused. One that jumps ahead
// ends what holds for a time.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.hook = func(name string) {
		if name == "mash" {
			s.clock = s.clock.Add(-10 * time.Minute)
			s.hook = nil
		}
	}
	rep := s.run()
	if w := strings.Join(rep.Warnings, " "); !strings.Contains(w, "the clock went back from 2026-11-22T10:00:") || !strings.Contains(w, "by their number") {
		t.Errorf("warnings %q", rep.Warnings)
	}
	count := 0
	for i, e := range entriesOf(t, s.opts.State) {
		if e.Seq != int64(i+1) {
			t.Errorf("entry %d is number %d", i+1, e.Seq)
		}
		if e.Event == eventClockBack {
			count++
		}
	}
	if count != 1 {
		t.Errorf("it is written down %d times", count)
	}
	if v, err := VerifyState(s.opts.State, nil); err != nil || v.ClockBack != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	// Ahead: a check that holds for an hour is made again, and then the clock is
	// put right.
	s.opts.Resume = true
	s.clock = s.clock.Add(1000 * time.Hour)
	s.run()
	if !slices.Contains(s.calls, "look kettle.example.internal") {
		t.Errorf("ahead: %v", s.calls)
	}
	s.clock = s.clock.Add(-1000 * time.Hour)
	rep = s.run()
	if !slices.Contains(s.calls, "look kettle.example.internal") || !strings.Contains(strings.Join(rep.Warnings, " "), "the clock went back from 2027-01-") {
		t.Errorf("put right: %v, %q", s.calls, rep.Warnings)
	}
	if _, err := VerifyState(s.opts.State, nil); err != nil {
		t.Error(err)
	}
}

// TestOneKeyUnderTwoNames: two people are needed to take a risk, and a key is
// one, whatever it is called.
func TestOneKeyUnderTwoNames(t *testing.T) {
	t.Parallel()
	p := newPub(t, "    freshness: 1h\n", "    freshness: 1h\n    waiver: {}\n")
	p.fail["kettle.example.internal"] = Finding{Detail: "mould"}
	p.run()
	if _, err := p.waive("clean-kettle", "it boils anyway", "a bad taste", p.alice); err != nil {
		t.Fatal(err)
	}
	p.opts.People = append([]Person{p.alice.as("Alicia", "owner")}, p.opts.People...) // both names stay listed
	rep, err := p.waive("clean-kettle", "", "", p.alice)
	if err != nil {
		t.Fatal(err)
	}
	wantStates(t, rep, map[string]State{"clean-kettle": StateFail})
	var names strings.Builder
	for _, s := range item(t, rep, "clean-kettle").Statements {
		names.WriteString(s.Name + " ")
	}
	if names.String() != "Alice Alicia " {
		t.Errorf("signed by %s", names.String())
	}
	rep, err = p.waive("clean-kettle", "", "", p.bob)
	if err != nil {
		t.Fatal(err)
	}
	wantStates(t, rep, map[string]State{"clean-kettle": StateWaived})
}
