package plane

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childVar makes the test binary a parent of a group that tells the PID of its
// process and waits to be killed.
const childVar = "AIRLOCK_PLANE_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVar); dir != "" {
		g := NewGroup(dir)
		if err := g.Start("long", "sleep", "600"); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(g.procs[0].cmd.Process.Pid)
		select {}
	}
	os.Exit(m.Run())
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestGroupEnds(t *testing.T) {
	g := NewGroup(t.TempDir())
	defer g.Close()
	if err := g.Start("long", "sleep", "600"); err != nil {
		t.Fatal(err)
	}
	if err := g.Err(); err != nil {
		t.Fatal(err)
	}
	if err := g.Start("short", "sh", "-c", "for i in $(seq 2000); do echo line $i; done; exit 3"); err != nil {
		t.Fatal(err)
	}
	err := g.Until(t.Context(), "nothing", func(context.Context) error { return errors.New("not yet") })
	if err == nil || !strings.Contains(err.Error(), "wait for nothing: short ended (exit status 3):\nline 1") || !strings.HasSuffix(err.Error(), "line 2000") {
		t.Errorf("error: %v", err)
	}
}

func TestGroupTimeout(t *testing.T) {
	g := NewGroup(t.TempDir())
	defer g.Close()
	if err := g.Start("long", "sh", "-c", "echo here; exec sleep 600"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := g.Until(ctx, "nothing", func(context.Context) error {
		if strings.Contains(g.Tails(), "here") {
			cancel()
		}
		return errors.New("not yet")
	})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "not yet\n-- long\nhere") {
		t.Errorf("error: %v", err)
	}
}

func TestGroupClose(t *testing.T) {
	g := NewGroup(t.TempDir())
	if err := g.Start("stubborn", "sh", "-c", "trap '' TERM INT; sleep 600"); err != nil {
		t.Fatal(err)
	}
	pid := g.procs[0].cmd.Process.Pid
	g.Close()
	g.Close() // does nothing
	if !gone(pid) {
		t.Errorf("process %d still runs", pid)
	}
}

// TestGroupParentDies kills the process that made a group.
func TestGroupParentDies(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childVar+"="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(bufio.NewReader(out), &pid); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !dead(pid); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("process %d still runs", pid)
		}
	}
}

// dead says whether a process ended; one that nobody waited for counts.
func dead(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return strings.HasPrefix(rest, "Z")
}

// TestProgramMissing wants a failure that says what to do, never a skip.
func TestProgramMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Chdir(t.TempDir())
	if _, err := Program(); err == nil || !strings.Contains(err.Error(), "make cluster") {
		t.Errorf("error: %v", err)
	}
}
