// Box starts a real Kubernetes node and control plane in network, mount and PID
// namespaces of their own, runs a command inside, and takes everything down
// again. It needs root, cgroup v1 and the programs in the list below.
//
//	go run ./testdata/cluster/box [-logs DIR] -- COMMAND [ARG...]
//
// The command's exit code is box's own. The command finds in its environment
//
//	KUBECONFIG   an administrator's
//	PATH         with kubectl first
//	BOX_APP      a static program for images: see testdata/cluster/app
//	BOX_CERTS_D  the directory of containerd's hosts.toml, read at every pull
//
// Nothing leads out of the namespaces: what runs inside is air-gapped. Every
// registry that a pod names is looked for on 127.0.0.1:5000, in plain HTTP,
// where the command may serve one. What the node writes lies in memory and goes
// with the namespaces, also when box is killed; on the machine are a temporary
// directory with a program and logs, and cgroups, which box removes at its end,
// or the next box after one that was killed.
//
// With `go test -tags e2e -exec "box --"` the tests themselves run inside.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/airlock-project/airlock/testdata/cluster/plane"
)

// programs are what box runs, and the Debian package of each.
var programs = map[string]string{
	"containerd": "containerd", "ctr": "containerd", "runc": "runc", "ip": "iproute2", "iptables": "iptables", "nsenter": "util-linux",
}

// appPackage is what the images in the box hold.
const appPackage = "github.com/airlock-project/airlock/testdata/cluster/app"

// startup bounds the way to a ready node, which takes six seconds.
const startup = 5 * time.Minute

func init() {
	// The kernel kills what this thread starts when the thread ends.
	runtime.LockOSThread()
}

func main() {
	if len(os.Args) == 3 && strings.HasPrefix(os.Args[1], "box-") {
		err := stage(os.Args[1], os.Args[2])
		fmt.Fprintln(os.Stderr, "box:", err)
		os.Exit(1)
	}
	logs := flag.String("logs", "", "directory for the logs of all processes, which then stay")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: box [-logs DIR] -- COMMAND [ARG...]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code, err := run(ctx, *logs, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "box:", err)
		code = 1
	}
	os.Exit(code)
}

// run makes the box, runs the command in it and removes the box.
func run(ctx context.Context, logs string, command []string) (code int, err error) {
	s, err := prepare(ctx, logs)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	begin := time.Now()
	b, err := s.up(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.down()) }()
	fmt.Fprintf(os.Stderr, "box: node ready after %.1f s\n", time.Since(begin).Seconds())
	return b.command(ctx, command)
}

// prepare checks the machine and makes what the box needs on it.
func prepare(ctx context.Context, logs string) (*setup, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("namespaces, mounts and cgroups need root")
	}
	var missing []string
	for p, pkg := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, fmt.Sprintf("%s (Debian package %s)", p, pkg))
		}
	}
	if _, err := os.Stat(filepath.Join(cniPrograms, "bridge")); err != nil {
		missing = append(missing, cniPrograms+"/bridge (Debian package containernetworking-plugins)")
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("not installed: %s", strings.Join(missing, ", "))
	}
	kubebox, err := plane.Program()
	if err != nil {
		return nil, err
	}
	sweep()
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", prefix, os.Getpid()))
	if err != nil {
		return nil, err
	}
	s := &setup{Kubebox: kubebox, Dir: dir, Logs: logs, Cgroup: fmt.Sprintf("%s%d", prefix, os.Getpid())}
	if logs == "" {
		s.Logs = filepath.Join(dir, "logs")
	} else if s.Logs, err = filepath.Abs(logs); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	for _, d := range []string{s.Logs, s.run()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, errors.Join(err, s.remove())
		}
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", s.app(), appPackage)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("build %s: %w\n%s", appPackage, err, out), s.remove())
	}
	if err := makeCgroups(s.Cgroup); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

// box is a cluster that runs.
type box struct {
	*setup
	init *exec.Cmd // PID 1 of the namespaces
}

// up starts the namespaces and waits until the node is ready.
func (s *setup) up(ctx context.Context) (*box, error) {
	said, say, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer said.Close()
	cmd, err := s.self("box-init", say)
	if err != nil {
		return nil, errors.Join(err, say.Close())
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID, Setpgid: true, Pdeathsig: syscall.SIGKILL,
	}
	err = cmd.Start()
	_ = say.Close() // the other end is inside
	if err != nil {
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	b := &box{setup: s, init: cmd}
	ready := make(chan bool, 1)
	go func() {
		// Inside one byte is written when the node is ready; without it the
		// pipe ends when what would write it does.
		n, _ := said.Read(make([]byte, 1))
		ready <- n == 1
	}()
	timeout := time.NewTimer(startup)
	defer timeout.Stop()
	select {
	case ok := <-ready:
		if ok {
			return b, nil
		}
		err = errors.New("the cluster did not start")
	case <-timeout.C:
		err = fmt.Errorf("the cluster is not ready after %s: see %s", startup, s.Logs)
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, b.down())
}

// command runs a command inside and returns its exit code.
func (b *box) command(ctx context.Context, command []string) (int, error) {
	wd, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	args := append([]string{"-t", fmt.Sprint(b.init.Process.Pid), "-n", "-m", "-p", "--wdns=" + wd, "--"}, command...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "KUBECONFIG="+b.kubeconfig(), "PATH="+b.bin()+":"+os.Getenv("PATH"), "BOX_APP="+b.app(), "BOX_CERTS_D="+b.certs())
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 0, fmt.Errorf("run %s: %w", command[0], err)
	}
	return 0, nil
}

// down kills PID 1 and with it everything in its namespaces.
func (b *box) down() error {
	if err := b.init.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_ = b.init.Wait() // killed
	return nil
}
