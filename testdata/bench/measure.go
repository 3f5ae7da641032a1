package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// sample is one run of one step.
type sample struct {
	Seconds  float64 `json:"seconds"`
	Written  int64   `json:"written"`  // bytes the process gave to the disk: /proc/PID/io write_bytes
	Peak     int64   `json:"peak"`     // bytes of resident memory
	Received int64   `json:"received"` // bytes of request bodies that the registry got
	CPU      float64 `json:"cpu"`      // seconds, user and system
}

// childArg makes this program run one command and report on it. The command
// must not be a child of the process that holds the registry: Linux counts the
// starting process's memory into its child's peak.
const childArg = "run-child"

// measure runs a command in dir and says what it took.
func (b *bench) measure(ctx context.Context, dir string, argv ...string) (sample, error) {
	self, err := os.Executable()
	if err != nil {
		return sample{}, err
	}
	// What earlier steps wrote must not be paid for by this one's sync.
	syscall.Sync()
	before := b.target.received()
	cmd := exec.CommandContext(ctx, self, append([]string{childArg}, argv...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "AIRLOCK_KEY_PASSWORD=bench", "NO_COLOR=1")
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil {
		return sample{}, fmt.Errorf("run %s: %w\n%s", filepath.Base(argv[0]), err, msg.Bytes())
	}
	var s sample
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		return sample{}, fmt.Errorf("run %s: read report: %w", filepath.Base(argv[0]), err)
	}
	s.Received = b.target.received() - before
	return s, nil
}

// runChild is the other side of measure: it runs argv and writes a sample.
func runChild(argv []string, stdout, stderr io.Writer) error {
	if len(argv) == 0 {
		return errors.New("no command to run")
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = io.Discard, stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return err
	}
	s := sample{Seconds: time.Since(start).Seconds()}
	s.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		// getrusage(2): Oublock is write_bytes in sectors, Maxrss in KiB.
		s.Written, s.Peak = u.Oublock*512, u.Maxrss*1024
	}
	return json.NewEncoder(stdout).Encode(s)
}

// clock measures work of this process: time alone, and what the registry got.
func (b *bench) clock(do func() error) (sample, error) {
	syscall.Sync()
	before := b.target.received()
	start := time.Now()
	err := do()
	return sample{Seconds: time.Since(start).Seconds(), Received: b.target.received() - before}, err
}
