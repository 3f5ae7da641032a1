//go:build e2e

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// boxVar makes the test binary a box.
const boxVar = "AIRLOCK_BOX_COMMAND"

func TestMain(m *testing.M) {
	if command := os.Getenv(boxVar); command != "" || len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "box-") {
		if command != "" && len(os.Args) == 1 {
			os.Args = append(os.Args, "--", "sh", "-c", command)
		}
		main()
	}
	os.Exit(m.Run())
}

// where is what a node writes to on the machine, unless it is kept from it.
var where = []string{"/var/lib/*", "/var/log/*", "/run/*", "/var/lib/cni/*/*", "/run/netns/*", "/run/containerd/*"}

// traces lists what lies where a node writes, and what the kubelet would set.
func traces(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, file := range []string{"/proc/sys/kernel/panic", "/proc/sys/kernel/panic_on_oops", "/proc/sys/vm/overcommit_memory"} {
		out[file] = read(t, file)
	}
	for _, pattern := range where {
		out[pattern] = strings.Join(glob(t, pattern), "\n")
	}
	return out
}

// clean checks that a box of a PID is gone without a trace.
func clean(t *testing.T, pid int, before map[string]string) {
	t.Helper()
	if d := cmp.Diff(before, traces(t)); d != "" {
		t.Errorf("left on the machine:\n%s", d)
	}
	if left := own(t, pid); len(left) > 0 {
		t.Errorf("left on the machine: %v", left)
	}
	if mounts := read(t, "/proc/self/mounts"); strings.Contains(mounts, fmt.Sprintf("%s%d", prefix, pid)) {
		t.Errorf("mounts left:\n%s", mounts)
	}
	for _, name := range []string{"cni0:", "node0:", "node1:"} {
		if devices := read(t, "/proc/net/dev"); strings.Contains(devices, name) {
			t.Errorf("network interface %s left:\n%s", name, devices)
		}
	}
}

// own lists the cgroups and the directories of a box.
func own(t *testing.T, pid int) []string {
	t.Helper()
	name := fmt.Sprintf("%s%d", prefix, pid)
	return append(glob(t, filepath.Join(cgroupRoot, "*", name)), glob(t, filepath.Join(os.TempDir(), name+"-*"))...)
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// inside lists the processes whose network namespace is the given one.
func inside(t *testing.T, namespace string) []string {
	t.Helper()
	var out []string
	for _, p := range glob(t, "/proc/[0-9]*/ns/net") {
		if ns, err := os.Readlink(p); err == nil && ns == namespace {
			out = append(out, p)
		}
	}
	return out
}

func boxCommand(t *testing.T, command string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0])
	cmd.Env = append(os.Environ(), boxVar+"="+command)
	return cmd
}

// TestLeavesNothing runs a command, takes its exit code and looks for what is
// left.
func TestLeavesNothing(t *testing.T) {
	before := traces(t)
	cmd := boxCommand(t, "kubectl get node node1 -o name; readlink /proc/self/ns/net; exit 7")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Fatalf("exit code %d, %v\n%s", code, err, stderr.String())
	}
	node, namespace, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if node != "node/node1" || !strings.HasPrefix(namespace, "net:[") {
		t.Errorf("output: %s", out)
	}
	if left := inside(t, namespace); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
	clean(t, cmd.Process.Pid, before)
}

// TestKilled kills a box: what runs in it ends, and the next box takes away what
// lies about.
func TestKilled(t *testing.T) {
	before := traces(t)
	cmd := boxCommand(t, "readlink /proc/self/ns/net; sleep 600")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := bufio.NewScanner(out)
	if !s.Scan() {
		t.Fatal("the command did not start")
	}
	namespace := s.Text()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	for end := time.Now().Add(10 * time.Second); len(inside(t, namespace)) > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still running: %v", inside(t, namespace))
		}
	}
	if left := own(t, cmd.Process.Pid); len(left) <= len(controllers) {
		t.Fatalf("nothing to take away: %v", left)
	}
	sweep()
	clean(t, cmd.Process.Pid, before)
}

// TestTerminated ends a box as CI does when it gives up.
func TestTerminated(t *testing.T) {
	before := traces(t)
	cmd := boxCommand(t, "echo here; sleep 600")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() {
		t.Fatal("the command did not start")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	clean(t, cmd.Process.Pid, before)
}
