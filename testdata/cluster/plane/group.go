package plane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Group runs the processes of a cluster. They are killed, the last started
// first, when the group is closed and when the process that made it dies: a
// graceful API server hangs once its etcd is gone.
type Group struct {
	logs string
	jobs chan func()

	mu    sync.Mutex
	procs []*process
}

type process struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	gone chan struct{}
}

// NewGroup returns an empty group whose processes write to NAME.log in a
// directory.
func NewGroup(logs string) *Group {
	g := &Group{logs: logs, jobs: make(chan func())}
	go func() {
		// The kernel sends Pdeathsig when the thread that forked ends, so one
		// thread forks and stays.
		runtime.LockOSThread()
		for job := range g.jobs {
			job()
		}
	}()
	return g
}

// Start starts a process and does not wait for it.
func (g *Group) Start(name, program string, args ...string) error {
	log, err := os.Create(filepath.Join(g.logs, name+".log"))
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, cmd: exec.Command(program, args...), log: log, gone: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	g.jobs <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", name, err), log.Close())
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its state
		close(p.gone)
	}()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.procs = append(g.procs, p)
	return nil
}

// Err names a process that has ended, with the tail of its log.
func (g *Group) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.procs {
		select {
		case <-p.gone:
			return fmt.Errorf("%s ended (%s):\n%s", p.name, p.cmd.ProcessState, tail(p.log.Name()))
		default:
		}
	}
	return nil
}

// Until asks every 50 ms until ready returns nil. It gives up when a process
// of the group ends or when the context does, with the tails of all logs.
func (g *Group) Until(ctx context.Context, what string, ready func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		last := ready(ctx)
		if last == nil {
			return nil
		}
		if err := g.Err(); err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w\n%s", what, ctx.Err(), last, g.Tails())
		}
	}
}

// Tails returns the last lines of every log.
func (g *Group) Tails() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var b bytes.Buffer
	for _, p := range g.procs {
		fmt.Fprintf(&b, "-- %s\n%s\n", p.name, tail(p.log.Name()))
	}
	return b.String()
}

// Close kills what runs and waits for its end.
func (g *Group) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range slices.Backward(g.procs) {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may be gone
		<-p.gone
		_ = p.log.Close()
	}
	g.procs = nil
	if g.jobs != nil {
		close(g.jobs)
		g.jobs = nil
	}
}

// tail returns the last lines of a file, at most 2 KiB.
func tail(path string) []byte {
	const most = 2048
	f, err := os.Open(path)
	if err != nil {
		return []byte(err.Error())
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return []byte(err.Error())
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return []byte(err.Error())
	}
	if _, whole, ok := bytes.Cut(data, []byte("\n")); ok && len(data) == most {
		data = whole
	}
	return bytes.TrimSpace(data)
}
