//go:build all

package readers

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// run runs a program in dir and returns what it wrote to stdout. Another exit
// code than 0 ends the test.
func run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	code, stdout, stderr := start(t, dir, name, args...)
	if code != 0 {
		t.Fatalf("%s %q: exit code %d\n%s%s", name, args, code, stdout, stderr)
	}
	return stdout
}

// refuse runs a program that must end with that exit code and returns what it
// wrote to stderr.
func refuse(t testing.TB, want int, dir, name string, args ...string) string {
	t.Helper()
	code, stdout, stderr := start(t, dir, name, args...)
	if code != want {
		t.Fatalf("%s %q: exit code %d, want %d\n%s%s", name, args, code, want, stdout, stderr)
	}
	return stderr
}

func start(t testing.TB, dir, name string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatalf("%s: %v", name, err)
		}
		code = exit.ExitCode()
	}
	return code, out.String(), errs.String()
}

// shell runs a line as an auditor types it. Its parameters are $1, $2, …
func shell(t testing.TB, dir, line string, params ...string) string {
	t.Helper()
	return run(t, dir, "sh", append([]string{"-euc", line, "sh"}, params...)...)
}

// serve starts airlock serve and returns its host:port. At the end of the test
// it is told to stop and must do so in order.
func serve(t testing.TB, path string) string {
	t.Helper()
	cmd := exec.Command("airlock", "serve", "--listen", "127.0.0.1:0", "--key", lab.pub, path)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 64)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(stderr); sc.Scan(); {
			lines <- sc.Text()
		}
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		for line := range lines {
			t.Log("serve:", line)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("serve ended: %v", err)
		}
	})
	for timeout := time.After(30 * time.Second); ; {
		select {
		case line, open := <-lines:
			if !open {
				t.Fatal("serve ended early")
			}
			if _, rest, ok := strings.Cut(line, "http://"); ok {
				host, _, _ := strings.Cut(rest, ",")
				return host
			}
		case <-timeout:
			t.Fatal("serve does not say where it listens")
		}
	}
}

func read(t testing.TB, elem ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := writeFile(path, data); err != nil {
		t.Fatal(err)
	}
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// copyFile copies src to dst, which must not exist.
func copyFile(t testing.TB, src, dst string) {
	t.Helper()
	write(t, dst, read(t, src))
}
