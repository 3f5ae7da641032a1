package install

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lines returns the ledger's lines, line ends included.
func ledgerLines(t *testing.T, dir string) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, fileLedger))
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(strings.TrimSuffix(string(raw), "\n"), "\n")
}

func TestLedgerShowsWhatHappened(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	rep := s.run()
	var events []string
	for _, line := range ledgerLines(t, s.opts.State) {
		var e Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		events = append(events, strings.TrimSpace(e.Event+" "+e.Item))
	}
	want := []string{
		"run-started", "started clean-kettle", "step clean-kettle", "finished clean-kettle", "started weigh-hops", "step weigh-hops",
		"finished weigh-hops", "started mash", "step mash", "step mash", "finished mash", "started boil", "step boil", "finished boil",
		"finished cool", "started taste", "finished taste", "finished export", "run-finished",
	}
	if d := cmp.Diff(want, events); d != "" {
		t.Error(d)
	}
	first := ledgerLines(t, s.opts.State)[0]
	for _, fact := range []string{`"decision":{"policy":"key:SHA256:aa"`, `"fingerprint":"SHA256:aa"`, `"prev":"` + zeros + `"`} {
		if !strings.Contains(first, fact) {
			t.Errorf("the first entry lacks %s:\n%s", fact, first)
		}
	}
	head, err := VerifyLedger(strings.NewReader(strings.Join(ledgerLines(t, s.opts.State), "") + "\n"))
	if err != nil || head != *rep.Ledger {
		t.Errorf("head %v, %v; the report says %v", head, err, rep.Ledger)
	}
}

func TestLedgerTampered(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.run()
	good := ledgerLines(t, s.opts.State)
	good[len(good)-1] += "\n"
	for name, c := range map[string]struct {
		edit func(l []string) []string
		want string
	}{
		"state edited": {func(l []string) []string {
			l[3] = strings.Replace(l[3], `"status":"pass"`, `"status":"fail"`, 1)
			return l
		}, "line 4: its data does not fit"},
		"actor edited":    {func(l []string) []string { l[2] = strings.Replace(l[2], `"name":"ops"`, `"name":"eve"`, 1); return l }, "line 3: its hash does not fit"},
		"entry removed":   {func(l []string) []string { return append(l[:4:4], l[5:]...) }, "line 5: sequence number"},
		"first removed":   {func(l []string) []string { return l[1:] }, "line 1: sequence number"},
		"entries swapped": {func(l []string) []string { l[3], l[4] = l[4], l[3]; return l }, "line 4: sequence number"},
		"entry doubled":   {func(l []string) []string { return append(l, l[len(l)-1]) }, "sequence number"},
		"not JSON":        {func(l []string) []string { l[5] = "hello\n"; return l }, "line 6: not an entry"},
		"unknown field":   {func(l []string) []string { l[5] = `{"x":1,` + l[5][1:]; return l }, "line 6: not an entry"},
		"field doubled":   {func(l []string) []string { l[5] = `{"seq":9,` + l[5][1:]; return l }, "line 6: not written by Airlock"},
		"other case":      {func(l []string) []string { l[5] = strings.Replace(l[5], `"seq"`, `"Seq"`, 1); return l }, "line 6: not written by Airlock"},
		"trailing data":   {func(l []string) []string { l[5] = strings.TrimSuffix(l[5], "\n") + " {}\n"; return l }, "line 6: not written by Airlock"},
		"empty line":      {func(l []string) []string { l[5] = "\n"; return l }, "line 6: not an entry"},
		"line too long":   {func(l []string) []string { l[5] = strings.Repeat("x", maxLine+1) + "\n"; return l }, "line 6: longer than"},
		"torn":            {func(l []string) []string { l[len(l)-1] = l[len(l)-1][:20]; return l }, "is torn"},
	} {
		l := c.edit(append([]string(nil), good...))
		_, err := VerifyLedger(strings.NewReader(strings.Join(l, "")))
		if _, ok := errors.AsType[*LedgerError](err); !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
	if head, err := VerifyLedger(strings.NewReader("")); err != nil || head.Seq != 0 {
		t.Errorf("an empty ledger: %v, %v", head, err)
	}
}

func TestStateTampered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(t *testing.T, dir string)
		want string
	}{
		"end cut off": {func(t *testing.T, dir string) {
			l := ledgerLines(t, dir)
			write(t, dir, fileLedger, strings.Join(l[:len(l)-2], ""))
		}, "the end was cut off"},
		"rewritten": {func(t *testing.T, dir string) {
			other := newShop(t)
			other.opts.Actor = "eve"
			other.run()
			write(t, dir, fileLedger, strings.Join(ledgerLines(t, other.opts.State), "")+"\n")
		}, "rewritten"},
		"ledger gone": {func(t *testing.T, dir string) { write(t, dir, fileLedger, "") }, "the end was cut off"},
		"run.json gone": {func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, fileRun)); err != nil {
				t.Fatal(err)
			}
		}, "run.json is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			s.run()
			c.edit(t, s.opts.State)
			_, err := s.try(t.Context())
			if _, ok := errors.AsType[*LedgerError](err); !ok || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if len(s.calls) != 0 {
				t.Errorf("it ran %v", s.calls)
			}
		})
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTornLineIsCutOff(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.run()
	f, err := os.OpenFile(filepath.Join(s.opts.State, fileLedger), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"seq":20,"pre`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = VerifyState(s.opts.State, nil)
	if e, ok := errors.AsType[*LedgerError](err); !ok || !e.Torn {
		t.Errorf("%v, want that the last line is torn, which is no sign of an edit", err)
	}
	s.opts.Resume = true
	s.run()
	if _, err := VerifyState(s.opts.State, nil); err != nil {
		t.Error(err)
	}
	if !strings.Contains(strings.Join(ledgerLines(t, s.opts.State), ""), `"event":"repaired"`) {
		t.Error("the ledger does not say that it was repaired")
	}
}

func TestCheckpoints(t *testing.T) {
	t.Parallel()
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(keyID string, payload, sig []byte) error {
		if keyID != "SHA256:ops" || !ed25519.Verify(pub, payload, sig) {
			return errors.New("bad signature")
		}
		return nil
	}
	s := newShop(t)
	s.opts.KeyID, s.opts.Sign = "SHA256:ops", func(p []byte) ([]byte, error) { return ed25519.Sign(priv, p), nil }
	rep := s.run()
	if len(rep.Checkpoint.Sig) == 0 || rep.Checkpoint.Head != rep.Ledger.Hash || rep.Checkpoint.Count != rep.Ledger.Seq {
		t.Errorf("checkpoint %+v, ledger %+v", rep.Checkpoint, rep.Ledger)
	}
	s.run()
	got, err := VerifyState(s.opts.State, check)
	if err != nil || got.Checkpoints != 6 || // two actions and the end, twice
		got.Good != 6 || !got.Covered || !got.Signed {
		t.Errorf("%+v, %v", got, err)
	}
	name := filepath.Join(s.opts.State, fileCheckpoints)
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for what, edited := range map[string][]byte{
		"time":  bytes.Replace(raw, []byte(`"at":"2026`), []byte(`"at":"2025`), 1),
		"head":  bytes.Replace(raw, []byte(rep.Ledger.Hash), []byte(sumOf(nil)), 1),
		"count": bytes.Replace(raw, []byte(`"count":19`), []byte(`"count":18`), 1),
	} {
		if bytes.Equal(edited, raw) {
			t.Fatalf("%s: the edit changed nothing", what)
		}
		if err := os.WriteFile(name, edited, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = VerifyState(s.opts.State, check)
		if _, ok := errors.AsType[*LedgerError](err); !ok {
			t.Errorf("%s edited: error %v, want *LedgerError", what, err)
		}
	}
}

// TestKeyNeedsCheckpoints: with a key, entries that no signature covers are not
// proven, whoever took the signature away.
func TestKeyNeedsCheckpoints(t *testing.T) {
	t.Parallel()
	all := func(string, []byte, []byte) error { return nil }
	signed := func(p []byte) ([]byte, error) { return []byte("signed"), nil }
	for name, c := range map[string]struct {
		change func(s *shop) error
		want   string
	}{
		"gone":  {func(s *shop) error { return os.Remove(filepath.Join(s.opts.State, fileCheckpoints)) }, "no signed checkpoint"},
		"empty": {func(s *shop) error { return os.Truncate(filepath.Join(s.opts.State, fileCheckpoints), 0) }, "no signed checkpoint"},
		"last removed": {func(s *shop) error {
			before, err := os.ReadFile(filepath.Join(s.opts.State, fileCheckpoints))
			s.run()
			return errors.Join(err, os.WriteFile(filepath.Join(s.opts.State, fileCheckpoints), before, 0o600))
		}, "the last signed checkpoint is of entry 19, the ledger has 40"},
		"without identity": {func(s *shop) error {
			s.opts.Sign, s.opts.KeyID = nil, ""
			s.run()
			return nil
		}, "the last signed checkpoint is of entry 19"},
	} {
		s := newShop(t)
		s.opts.Sign, s.opts.KeyID = signed, "SHA256:ops"
		s.run()
		if _, err := VerifyState(s.opts.State, all); err != nil {
			t.Fatal(err)
		}
		if err := c.change(s); err != nil {
			t.Fatal(err)
		}
		_, err := VerifyState(s.opts.State, all)
		if _, ok := errors.AsType[*LedgerError](err); !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
		if v, err := VerifyState(s.opts.State, nil); err != nil || v.Signed {
			t.Errorf("%s, without a key: %+v, %v", name, v, err)
		}
	}
}

func TestUnsignedCheckpointIsSaid(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	rep := s.run()
	if text := rep.Text(); !strings.Contains(text, rep.Ledger.Hash) || !strings.Contains(text, "not signed (the site has no identity)") {
		t.Error(text)
	}
}

// TestSecondRunIsRefused is not parallel: a process that another test starts
// holds a copy of the lock between fork and exec.
func TestSecondRunIsRefused(t *testing.T) {
	s := newShop(t)
	tried := false
	s.hook = func(name string) {
		if tried {
			return
		}
		tried = true
		other := newShop(t)
		other.opts.State = s.opts.State
		_, err := other.try(t.Context())
		held, ok := errors.AsType[*LockedError](err)
		if !ok || held.PID != os.Getpid() || held.Host != hostname() {
			t.Errorf("error %v, want *LockedError with process %d", err, os.Getpid())
		}
	}
	s.run()
	if !tried {
		t.Error("nothing was tried")
	}
	s.hook = nil
	s.run() // the lock is gone with the run
}

// TestKilled lets a child process die at several events. Between an item's end
// in the ledger and run.json there is one, item-finished, so some deaths leave
// run.json behind the ledger. The parent goes on with what it finds.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"item-started mash", "step-finished mash", "item-finished clean-kettle", "item-finished mash", "item-finished taste"} {
		t.Run(at, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			cmd := exec.Command(os.Args[0], "-test.run=^TestDie$")
			cmd.Env = append(os.Environ(), "AIRLOCK_TEST_DIE="+at, "AIRLOCK_TEST_STATE="+dir, "TMPDIR="+t.TempDir()) // it cleans nothing up
			out, err := cmd.CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 99 {
				t.Fatalf("the child ended with %v:\n%s", err, out)
			}
			known, err := ReadReport(dir)
			if err != nil || !known.Stopped || known.Product != "brewery" || !strings.Contains(known.Text(), "The last run did not end") {
				t.Fatalf("what the ledger knows: %+v, %v", known, err)
			}
			if strings.HasSuffix(at, " mash") && states(known)["clean-kettle"] != StatePass {
				t.Errorf("what the ledger knows: %v", states(known))
			}
			if at == "step-finished mash" && known.Interrupted != "mash" {
				t.Errorf("interrupted %q", known.Interrupted)
			}
			s := newShop(t)
			s.opts.State, s.opts.Resume = dir, true
			rep := s.run()
			wantStates(t, rep, map[string]State{"clean-kettle": StatePass, "mash": StatePass, "boil": StatePass, "taste": StateWaiting})
			if _, err := VerifyState(dir, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDie is the child of TestKilled: it exits at an event.
func TestDie(t *testing.T) {
	at := os.Getenv("AIRLOCK_TEST_DIE")
	if at == "" {
		return // an ordinary run of the tests: TestKilled runs it
	}
	s := newShop(t)
	s.opts.State = os.Getenv("AIRLOCK_TEST_STATE")
	s.opts.Listener = func(e Event) {
		if e.Op+" "+e.Item == at {
			os.Exit(99)
		}
	}
	s.run()
	t.Fatal("still alive")
}

func TestStateDirectoryIsPrivate(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.run()
	for _, name := range []string{".", fileRun, fileLedger, fileKey, fileLock, dirArtifacts} {
		fi, err := os.Stat(filepath.Join(s.opts.State, name))
		if err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, fi.Mode(), err)
		}
	}
	if err := os.Chmod(s.opts.State, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.try(t.Context()); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("error %v", err)
	}
}

func FuzzVerifyLedger(f *testing.F) {
	e := Entry{Seq: 1, Prev: zeros, At: "2026-11-22T10:00:00Z", RunID: "r", Event: eventRunStarted, DataSHA256: sumOf([]byte("{}")), Data: json.RawMessage("{}")}
	var err error
	if e.Hash, err = e.sum(); err != nil {
		f.Fatal(err)
	}
	line, err := e.line()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add(line[:len(line)-1])
	f.Add(append(line, line...))
	f.Add([]byte("{}\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		head, err := VerifyLedger(bytes.NewReader(data))
		if err == nil && (head.Seq == 0) != (len(data) == 0) {
			t.Errorf("%d bytes give %d entries", len(data), head.Seq)
		}
	})
}

// TestKeptHead: a head on paper shows what the machine itself cannot: that the
// whole record was cut or written anew.
func TestKeptHead(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	kept := *s.run().Ledger
	s.run()
	if _, err := VerifyState(s.opts.State, nil, kept); err != nil {
		t.Fatal(err)
	}
	other := kept
	other.Hash = zeros
	if _, err := VerifyState(s.opts.State, nil, other); !errorIs[*LedgerError](err) || !strings.Contains(err.Error(), "rewritten") {
		t.Errorf("error %v", err)
	}
	if err := os.RemoveAll(s.opts.State); err != nil {
		t.Fatal(err)
	}
	s.opts.Phases = "1"
	s.run()
	if _, err := VerifyState(s.opts.State, nil, kept); !errorIs[*LedgerError](err) {
		t.Errorf("a new record stands for the old one: %v", err)
	}
}
