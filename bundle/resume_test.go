package bundle_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/opencontainers/go-digest"
)

// The environment of a child that creates a bundle instead of running tests.
const (
	envOutput = "AIRLOCK_TEST_OUTPUT" // where to; makes the process such a child
	envDelay  = "AIRLOCK_TEST_DELAY"  // how long each body takes
	envOpens  = "AIRLOCK_TEST_OPENS"  // file to which the digest of every body opened is appended
	envLimit  = "AIRLOCK_TEST_LIMIT"  // largest file it may write, in bytes
)

func TestMain(m *testing.M) {
	if os.Getenv(envOutput) == "" {
		os.Exit(m.Run())
	}
	if err := childCreate(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func childCreate() error {
	if limit := os.Getenv(envLimit); limit != "" {
		n, err := strconv.ParseUint(limit, 10, 64)
		if err != nil {
			return err
		}
		signal.Ignore(syscall.SIGXFSZ) // so that write answers EFBIG, as it answers ENOSPC on a full disk
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	dir := filepath.Dir(os.Getenv(envOutput))
	spool, err := bundle.OpenSpool(filepath.Join(dir, "spool"))
	if err != nil {
		return err
	}
	defer spool.Close()
	made, err := bundle.OpenSpool(filepath.Join(dir, "made"))
	if err != nil {
		return err
	}
	defer made.Close()
	var sources []bundle.Source
	for i, name := range []string{"example.com/a:1", "example.com/b:1"} {
		var sizes []int
		for n := range 140 {
			sizes = append(sizes, 1000*(i+1)+n*(n%7)*17)
		}
		s, err := fixture.NewImage(made, name, uint64(i+1), sizes...)
		if err != nil {
			return err
		}
		sources = append(sources, &slow{s})
	}
	p, err := bundle.Resolve(context.Background(), bundle.ResolveOptions{
		Info: fixture.Info(), Definition: digest.FromString("d").String(), Sources: sources, Created: fixture.Epoch, Spool: spool,
	})
	if err != nil {
		return err
	}
	_, err = bundle.Create(context.Background(), p, bundle.CreateOptions{Output: os.Getenv(envOutput), Concurrency: 2})
	return err
}

// slow writes down what is opened and takes its time.
type slow struct{ *fixture.Source }

func (s *slow) Open(ctx context.Context, pin bundle.Pin, d bundle.Descriptor) (io.ReadCloser, error) {
	if name := os.Getenv(envOpens); name != "" {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, err
		}
		if _, err := fmt.Fprintln(f, d.Digest); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	if delay := os.Getenv(envDelay); delay != "" {
		d, err := time.ParseDuration(delay)
		if err != nil {
			return nil, err
		}
		time.Sleep(d)
	}
	return s.Source.Open(ctx, pin, d)
}

func child(t *testing.T, env ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

func runChild(t *testing.T, env ...string) {
	t.Helper()
	if cmd, out := child(t, env...); cmd.Run() != nil {
		t.Fatal(out)
	}
}

// TestResumeAfterKill kills a create at ten random points. It ends in the bytes
// of an undisturbed run, and what was recorded is not opened again.
func TestResumeAfterKill(t *testing.T) {
	t.Parallel()
	want := filepath.Join(t.TempDir(), "want")
	runChild(t, envOutput+"="+want)
	dir := t.TempDir()
	out, opens := filepath.Join(dir, "out"), filepath.Join(dir, "opens")
	env := []string{envOutput + "=" + out, envOpens + "=" + opens}

	rnd := rand.New(rand.NewPCG(3, 4))
	recorded := map[string]bool{}
	var seen int
	var journalSize int64
	for i := range 10 {
		cmd, msg := child(t, append(env, envDelay+"=250ms")...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 { // soon after something was recorded
			waitGrown(t, out+".partial.journal", journalSize)
		} else { // or at any time, before the program has begun too
			time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
		}
		time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Fatalf("run %d ended before it was killed: %s", i, msg)
		}
		seen = checkOpens(t, opens, seen, recorded)
		journalSize = readJournal(t, out+".partial.journal", recorded)
	}
	if len(recorded) < 20 {
		t.Errorf("only %d blobs were recorded: the kills come too early to prove anything", len(recorded))
	}
	// A crash may tear the last line.
	f, err := os.OpenFile(out+".partial.journal", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"blob":"sha256:00`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	runChild(t, env...)
	checkOpens(t, opens, seen, recorded)
	if !bytes.Equal(read(t, want), read(t, out)) {
		t.Error("the resumed file differs from an undisturbed one")
	}
	for _, left := range []string{".partial", ".partial.journal"} {
		if _, err := os.Lstat(out + left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s remains: %v", left, err)
		}
	}
}

// checkOpens refuses bodies that were opened, after the first seen ones, though recorded.
func checkOpens(t *testing.T, name string, seen int, recorded map[string]bool) int {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // killed before the first
		t.Fatal(err)
	}
	lines := strings.Fields(string(data))
	for _, d := range lines[seen:] {
		if recorded[d] {
			t.Errorf("%s is recorded and was opened again", d)
		}
	}
	return len(lines)
}

// waitGrown waits until blobs were added to a journal of that size; a new
// journal has its first line at once.
func waitGrown(t *testing.T, name string, size int64) {
	t.Helper()
	for range 6000 {
		if fi, err := os.Stat(name); err == nil {
			if size == 0 {
				size = fi.Size()
			}
			if fi.Size() > size && size > 0 {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("nothing was recorded in a minute")
}

// readJournal adds what the journal records and returns its size.
func readJournal(t *testing.T, name string, recorded map[string]bool) int64 {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(bytes.NewReader(data))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var rec struct{ Blob, Packed string }
		if json.Unmarshal(sc.Bytes(), &rec) == nil && rec.Blob+rec.Packed != "" {
			recorded[rec.Blob+rec.Packed] = true
		}
	}
	return int64(len(data))
}

// TestFullDisk breaks off where the file cannot grow, and goes on where it can.
// The limit is the process's own (RLIMIT_FSIZE): it meets the same write with
// EFBIG that a full disk meets with ENOSPC, and needs no privilege.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	want := filepath.Join(t.TempDir(), "want")
	runChild(t, envOutput+"="+want)
	size := len(read(t, want))
	out := filepath.Join(t.TempDir(), "out")
	cmd, msg := child(t, envOutput+"="+out, envLimit+"="+strconv.Itoa(size*2/3))
	if err := cmd.Run(); err == nil || !strings.Contains(msg.String(), syscall.EFBIG.Error()) {
		t.Fatalf("full disk: %v %s", err, msg)
	}
	if _, err := os.Lstat(out); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("full disk left an output: %v", err)
	}
	runChild(t, envOutput+"="+out)
	if !bytes.Equal(read(t, want), read(t, out)) {
		t.Error("the resumed file differs")
	}
}
