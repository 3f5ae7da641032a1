package install

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Variables by which TestKilledAnywhere talks to its children.
const (
	envKillAt    = "AIRLOCK_TEST_KILL_AT" // the write at which to exit; 0 counts them
	envKillPlace = "AIRLOCK_TEST_KILL_PLACE"
)

// killPoints is how many deaths each scenario dies.
const killPoints = 24

// newWorld is a site whose work is files, so that another process finds it done.
func newWorld(t *testing.T, place string) *pub {
	// A secret output is made again in each run, which is another test.
	p := newPub(t, "      mash.key: {type: string, secret: true}\n", "")
	p.opts.State = filepath.Join(place, "state")
	for _, name := range []string{"mash", "boil"} {
		_, err := os.Stat(filepath.Join(place, name))
		p.made[name] = err == nil
	}
	p.hook = func(name string) {
		if name != "mash" && name != "boil" || !strings.HasPrefix(p.calls[len(p.calls)-1], "do ") {
			return
		}
		if err := os.WriteFile(filepath.Join(place, name), nil, 0o600); err != nil {
			t.Error(err)
		}
	}
	p.alice = pen{priv: ed25519.NewKeyFromSeed([]byte("the seed of Alice's key, 32 byte"))}
	p.alice.id = "SHA256:" + sumOf(p.alice.priv.Public().(ed25519.PublicKey))
	p.opts.People = []Person{p.alice.as("Alice", "brewer")}
	return p
}

// everything is what a child does: a run, a signature, another run.
func (p *pub) everything() *Report {
	p.run()
	p.mustAttest(p.alice)
	return p.run()
}

// TestKilledAnywhere kills a process at writes to its state directory, chosen by
// a fixed seed, and goes on with what it left: the ledger is whole, what it calls
// finished is not done again, and all ends well.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	counted, _ := child(t, t.TempDir(), 0)
	_, text, _ := strings.Cut(counted, "writes=")
	total, err := strconv.Atoi(strings.Fields(text)[0])
	if err != nil || total < 50 {
		t.Fatalf("%d writes, %v:\n%s", total, err, counted)
	}
	random := rand.New(rand.NewPCG(4, 20))
	points := random.Perm(total)[:killPoints]
	slices.Sort(points)
	for _, at := range points {
		t.Run(fmt.Sprintf("write %d of %d", at+1, total), func(t *testing.T) {
			place := t.TempDir()
			if out, code := child(t, place, at+1); code != 99 {
				t.Fatalf("the child ended with code %d:\n%s", code, out)
			}
			p := newWorld(t, place)
			p.clock = p.clock.Add(10 * time.Minute) // of the next process
			finished := finishedActions(t, p.opts.State)
			rep := p.run()
			for _, name := range finished {
				if slices.Contains(p.calls, "do "+name) {
					t.Errorf("%s was finished and done again: %v", name, p.calls)
				}
			}
			if states(rep)["taste"] != StateAttested {
				wantStates(t, rep, map[string]State{"mash": StatePass, "boil": StatePass, "taste": StateWaiting})
				p.mustAttest(p.alice)
				rep = p.run()
			}
			if rep.Status != StatusDone {
				t.Errorf("status %s:\n%s", rep.Status, rep.Text())
			}
			if _, err := VerifyState(p.opts.State, nil); err != nil {
				t.Error(err)
			}
			if err := VerifyStatements(p.opts.State, p.opts.People, nil); err != nil {
				t.Error(err)
			}
			if again := finishedTwice(t, p.opts.State); len(again) > 0 {
				t.Errorf("the ledger has %v started after they were finished", again)
			}
			if got, err := ReadReport(p.opts.State); err != nil || got.Text() != rep.Text() {
				t.Errorf("the report: %v", err)
			}
		})
	}
}

// child runs everything in a process that exits hard at a write.
func child(t *testing.T, place string, at int) (out string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDieAtWrite$", "-test.v")
	cmd.Env = append(os.Environ(), envKillAt+"="+strconv.Itoa(at), envKillPlace+"="+place, "TMPDIR="+t.TempDir()) // it cleans nothing up
	raw, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(raw), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(raw), 0
}

// TestDieAtWrite is the child of TestKilledAnywhere.
func TestDieAtWrite(t *testing.T) {
	at, err := strconv.Atoi(os.Getenv(envKillAt))
	if err != nil {
		return // an ordinary run of the tests: TestKilledAnywhere runs it
	}
	p := newWorld(t, os.Getenv(envKillPlace))
	n := 0
	p.opts.onWrite = func() error {
		if n++; n == at {
			os.Exit(99)
		}
		return nil
	}
	if rep := p.everything(); rep.Status != StatusDone {
		t.Errorf("status %s:\n%s", rep.Status, rep.Text())
	}
	fmt.Printf("writes=%d\n", n)
}

// entriesOf reads the whole lines of a ledger.
func entriesOf(t *testing.T, dir string) []Entry {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, fileLedger))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var out []Entry
	for line := range strings.Lines(string(raw)) {
		var e Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// finishedActions are the actions that a ledger calls passed.
func finishedActions(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	for _, e := range entriesOf(t, dir) {
		if e.Event == eventFinished && (e.Item == "mash" || e.Item == "boil") && strings.Contains(string(e.Data), `"status":"pass"`) {
			out = append(out, e.Item)
		}
	}
	return out
}

// finishedTwice are the actions that were started again after they had passed.
func finishedTwice(t *testing.T, dir string) []string {
	t.Helper()
	passed := map[string]bool{}
	var out []string
	for _, e := range entriesOf(t, dir) {
		switch {
		case e.Event == eventFinished && (e.Item == "mash" || e.Item == "boil") && strings.Contains(string(e.Data), `"status":"pass"`):
			passed[e.Item] = true
		case e.Event == eventStarted && passed[e.Item]:
			out = append(out, e.Item)
		}
	}
	return out
}
