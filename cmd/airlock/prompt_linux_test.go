package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// pseudoTerminal returns the two ends of a terminal.
func pseudoTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() }) // nothing is written to it
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() }) // nothing is written to it
	return master, slave
}

func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag&unix.ECHO != 0
}

// TestPromptInterrupted: an interrupt ends the question and gives the terminal
// back as it was.
func TestPromptInterrupted(t *testing.T) {
	_, slave := pseudoTerminal(t)
	if !term.IsTerminal(int(slave.Fd())) || !echoes(t, slave) {
		t.Fatal("not a terminal that echoes")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a := &app{stdin: slave, stderr: io.Discard}
	done := make(chan error, 1)
	go func() {
		_, err := a.findPassword(ctx, "airlock.key", "", true)
		done <- err
	}()
	for deadline := time.Now().Add(10 * time.Second); echoes(t, slave); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the terminal still echoes")
		}
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		if v := judge(ctx, line{}, err); v.code != exitInterrupted {
			t.Errorf("exit code %d, want %d", v.code, exitInterrupted)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the prompt goes on after an interrupt")
	}
	if !echoes(t, slave) {
		t.Error("the terminal does not echo any more")
	}
}
