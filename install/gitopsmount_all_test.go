//go:build all && linux

package install

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const envMounts = "AIRLOCK_TEST_MOUNTS"

// TestGitOpsMounts runs TestInMounts in namespaces of its own.
func TestGitOpsMounts(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInMounts$", "-test.v", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), envMounts+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestInMounts") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestInMounts is the child of TestGitOpsMounts: a tree on a disk that is full, and
// on one that is read-only.
func TestInMounts(t *testing.T) {
	if os.Getenv(envMounts) == "" {
		return // an ordinary run of the tests: TestGitOpsMounts runs it
	}
	s, p := newPantry(t)
	disk := t.TempDir()
	mount := func(flags uintptr, data string) {
		t.Helper()
		if err := syscall.Mount("tmpfs", disk, "tmpfs", flags, data); err != nil {
			t.Fatal(err)
		}
	}
	mount(0, "size=256k")
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	s.opts.Render = filepath.Join(disk, "tree")
	s.run()
	before := treeFiles(t, s.opts.Render)
	put := s.list.Items[0].Steps[0].With["objects"].([]any)
	put[0].(map[string]any)["data"] = map[string]any{"size": strings.Repeat("large ", 100_000)}
	if _, err := s.try(t.Context()); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "write "+s.opts.Render) {
		t.Errorf("a full disk: %v", err)
	}
	after := treeFiles(t, s.opts.Render)
	delete(before, treeMark) // says what will be there
	delete(after, treeMark)
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("a full disk leaves %s", d)
	}
	mount(syscall.MS_REMOUNT, "size=8m")
	s.run()
	if got := treeFiles(t, s.opts.Render)["1-shelf/configmap-jar.yaml"]; len(got) < 100_000 {
		t.Errorf("with room again: %d bytes", len(got))
	}
	mount(syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=8m")
	p.mid = func() { t.Error("something was done although the tree cannot be written") }
	for _, dir := range []string{s.opts.Render, filepath.Join(disk, "not", "there")} {
		s.opts.Render = dir
		if rep, err := s.try(t.Context()); !errors.Is(err, syscall.EROFS) || rep != nil || !strings.Contains(err.Error(), "write "+dir) {
			t.Errorf("read-only %s: %v", dir, err)
		}
	}
}
