// Command airlock carries software across an air gap: it makes a signed bundle
// on the connected side, and inside the gap verifies it, mirrors its images
// into a registry and runs the product's installation checklist.
//
// This package talks; it decides nothing and moves no bytes. stdout is the
// result, stderr the conversation. Exit codes and hints are one table, exit.go.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/klog/v2"
)

func main() {
	// Helm and client-go print some of what they also return as errors.
	log.SetOutput(io.Discard)
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main with its surroundings as arguments. A first interrupt ends the
// command in order, leaving what can be resumed, as does the end of its
// terminal; a second one kills it.
func run(ctx context.Context, args []string, stdin io.Reader, out, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	go func() {
		<-ctx.Done()
		stop()
	}()
	checked := &stdout{w: out}
	a := &app{stdin: stdin, stdout: checked, stderr: stderr}
	root := a.root() //nolint:contextcheck // commands get the context from cobra
	if wantsJSON(args) {
		a.output = "json"
	}
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = checked.err
	}
	a.progressDone()
	return a.exit(ctx, cmd, err)
}
