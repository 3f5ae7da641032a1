package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// init is PID 1 of the namespaces: it makes the view of the file system, starts
// the node and reaps what containerd's shims leave behind.
func (s *setup) init(ready *os.File) error {
	if err := s.mounts(); err != nil {
		return err
	}
	cmd, err := s.self("box-node", ready)
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_ = ready.Close() // the node's end counts
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err != nil && err != syscall.EINTR { //nolint:errorlint // a bare errno
			return fmt.Errorf("wait for processes: %w", err)
		}
		if pid == cmd.Process.Pid {
			return fmt.Errorf("the node ended (exit code %d)", status.ExitStatus())
		}
	}
}

// mount is one call of mount(2).
type mount struct {
	from, to, kind string
	flags          uintptr
	data           string
}

// mounts makes a file system in which a node may write where it must without
// a trace on the machine: what goes into /var/lib, /var/log and /run lies in
// memory.
func (s *setup) mounts() error {
	first := []mount{
		{"", "/", "", syscall.MS_REC | syscall.MS_PRIVATE, ""},
		{"proc", "/proc", "proc", 0, ""},
		{"tmpfs", s.run(), "tmpfs", 0, "mode=0755"},
	}
	if err := mountAll(first); err != nil {
		return err
	}
	// The values that the kubelet insists on. It sets them for the whole machine,
	// so it is shown that they are so already.
	sysctl := map[string]string{"vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1"}
	var then []mount
	for name, value := range sysctl {
		file := s.in("sysctl-" + filepath.Base(name))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		then = append(then, mount{file, "/proc/sys/" + name, "", syscall.MS_BIND, ""})
	}
	for _, dir := range []string{"/var/lib", "/var/log", "/run"} {
		upper, work := s.in("upper"+dir), s.in("work"+dir)
		if err := makeDirs(upper, work); err != nil {
			return err
		}
		then = append(then, mount{"overlay", dir, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work)})
	}
	if err := mountAll(then); err != nil {
		return err
	}
	// An overlay cannot lie on an overlay, and images are overlays; and what a
	// pod mounts is to be seen by others.
	const kubelet, containerd = "/var/lib/kubelet", "/var/lib/containerd"
	if err := makeDirs(s.in("kubelet"), s.in("containerd"), kubelet, containerd, "/run/containerd"); err != nil {
		return err
	}
	return mountAll([]mount{
		{s.in("containerd"), containerd, "", syscall.MS_BIND, ""},
		{s.in("kubelet"), kubelet, "", syscall.MS_BIND, ""},
		{"", kubelet, "", syscall.MS_REC | syscall.MS_SHARED, ""},
		// A containerd of the machine's own must not be seen.
		{"tmpfs", "/run/containerd", "tmpfs", 0, "mode=0711"},
	})
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		if err := syscall.Mount(m.from, m.to, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.from, m.to, err)
		}
	}
	return nil
}

func makeDirs(dirs ...string) error {
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	return nil
}
