package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	prefix     = "airlock-box-" // of what a box makes on the machine, followed by its PID
)

// controllers are the hierarchies of cgroup v1 in which runc and the kubelet
// want their groups. A private cgroup2 mount would not do on a machine that has
// bound the controllers to v1.
var controllers = []string{"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd"}

// makeCgroups makes a group for the box under every controller.
func makeCgroups(name string) error {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		return errors.New("this machine has cgroup v2 only, for which box was not written")
	}
	for _, c := range controllers {
		if err := os.MkdirAll(filepath.Join(cgroupRoot, c, name), 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	// A new group has neither processors nor memory nodes, and takes no process.
	for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
		data, err := os.ReadFile(filepath.Join(cgroupRoot, "cpuset", f))
		if err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
		if err := os.WriteFile(filepath.Join(cgroupRoot, "cpuset", name, f), data, 0); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	return nil
}

// removeCgroups removes the groups of a box whose processes were killed; the
// kernel lets go of them a moment later.
func removeCgroups(name string) error {
	end := time.Now().Add(10 * time.Second)
	for {
		left := 0
		dirs, err := filepath.Glob(filepath.Join(cgroupRoot, "*", name))
		if err != nil {
			return err
		}
		for _, d := range dirs {
			if err := removeTree(d); err != nil {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d cgroups %s cannot be removed", left, name)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// sweep takes away the cgroups and directories of boxes that were killed. What
// cannot be removed is not this box's to fail on.
func sweep() {
	groups, _ := filepath.Glob(filepath.Join(cgroupRoot, "*", prefix+"*"))
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, path := range append(groups, dirs...) {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), prefix), "-")
		pid, err := strconv.Atoi(number)
		if err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		if strings.HasPrefix(path, cgroupRoot) {
			_ = removeTree(path)
		} else {
			_ = os.RemoveAll(path)
		}
	}
}

// removeTree removes a group and those below it. Their files are the kernel's.
func removeTree(dir string) error {
	var groups []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			groups = append(groups, path)
		}
		return nil //nolint:nilerr // a group that goes meanwhile is what we want
	})
	if err != nil {
		return err
	}
	for i := len(groups) - 1; i >= 0; i-- {
		if err := os.Remove(groups[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
