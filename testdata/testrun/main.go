// Program testrun runs go test and says at the end what passed, what failed
// and, with its reason, what was skipped: a skip that nobody sees is a defect.
//
//	go run ./testdata/testrun [go test flags] PACKAGES
//
// The last line is "N passed, N failed, N skipped". It counts tests without
// subtests; a package that does not build, or fails outside a test, counts as
// one failure. The exit code is 1 if anything failed, and, where CI is "true",
// if anything was skipped.
//
//	go run ./testdata/testrun -need PROGRAM,PROGRAM
//
// checks that programs are in PATH and otherwise prints the apt line that
// installs them.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
)

func main() {
	args := os.Args[1:]
	if len(args) == 2 && args[0] == "-need" {
		os.Exit(need(strings.Split(args[1], ","), exec.LookPath, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s, err := run(ctx, args, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		os.Exit(1)
	}
	s.print(os.Stdout)
	if !s.good(os.Getenv("CI") == "true") {
		os.Exit(1)
	}
}

// timeout bounds the tests of one package: those of the commands run hundreds of
// programs, on a busy machine for longer than go test's ten minutes.
const timeout = "40m"

// need checks that programs can be found and returns an exit code. Each is in
// the Debian package of its name, or is written as program:package.
func need(programs []string, find func(string) (string, error), w io.Writer) int {
	var missing, packages []string
	for _, entry := range programs {
		program, pkg, ok := strings.Cut(entry, ":")
		if !ok {
			pkg = program
		}
		packages = append(packages, pkg)
		if _, err := find(program); err != nil {
			missing = append(missing, program)
		}
	}
	if len(missing) == 0 {
		return 0
	}
	fmt.Fprintf(w, "testrun: not in PATH: %s\napt-get install -y %s\n", strings.Join(missing, ", "), strings.Join(packages, " "))
	return 1
}

// run runs go test and reports finished packages and failures to w as they come.
func run(ctx context.Context, args []string, w io.Writer) (*summary, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json", "-timeout", timeout}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("open pipe to go test: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start go test: %w", err)
	}
	s := newSummary(w)
	readErr := s.read(out)
	waitErr := cmd.Wait()
	if readErr != nil {
		return nil, fmt.Errorf("read output of go test: %w", readErr)
	}
	// go test exits with 1 when a test failed, which the summary shows; any
	// other end, and a 1 that no event explains, is an error of its own.
	exit, ok := errors.AsType[*exec.ExitError](waitErr)
	if waitErr != nil && (!ok || exit.ExitCode() != 1 || len(s.failed) == 0) {
		return nil, fmt.Errorf("run go test: %w", waitErr)
	}
	return s, nil
}

// read takes events until the end of r. Lines that are no events come from
// go itself and are passed on.
func (s *summary) read(r io.Reader) error {
	br := bufio.NewReader(r)
	for {
		line, err := br.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil || e.Action == "" {
				fmt.Fprintf(s.w, "%s", line)
			} else {
				s.add(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
