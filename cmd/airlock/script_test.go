package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){"airlock": main})
}

// atEnd is called when all tests of the package have run: tests share what
// takes long to start.
var atEnd []func()

type suite struct{ *testing.M }

func (s suite) Run() int {
	code := s.M.Run()
	for _, f := range atEnd {
		f()
	}
	return code
}

// TestScript runs every command, each exit code and each hint as a person would
// meet them. $REGISTRY is a registry in process, $SECURE one that wants a login.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup:               setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  cmdExits,
			"push":   cmdPush,
			"retag":  cmdRetag,
			"flip":   cmdFlip,
			"tool":   cmdTool,
			"append": cmdAppend,
			"fifo":   cmdFifo,
			"vendor": cmdVendor,
			"subst":  cmdSubst,
			"chart":  cmdChart,
			"lease":  cmdLease,
		},
	})
}

func setupScript(env *testscript.Env) error {
	mem := config.ConfigStorage{StoreType: config.StoreMem}
	open := httptest.NewServer(olareg.New(config.Config{Storage: mem}))
	env.Defer(open.Close)
	closed := httptest.NewServer(fixture.BasicAuth(olareg.New(config.Config{Storage: mem}), "u", "right"))
	env.Defer(closed.Close)
	env.Setenv("REGISTRY", strings.TrimPrefix(open.URL, "http://"))
	env.Setenv("SECURE", strings.TrimPrefix(closed.URL, "http://"))
	env.Setenv("AIRLOCK_KEY_PASSWORD", "secret")
	env.Setenv("SOURCE_DATE_EPOCH", "1767225600")
	env.Setenv("HOME", env.WorkDir)
	return nil
}

// cmdExits: exits CODE COMMAND… runs a command and asserts its exit code.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// cmdPush: push REPOSITORY:TAG… puts images of a few random layers into $REGISTRY.
func cmdPush(ts *testscript.TestScript, _ bool, args []string) {
	for _, ref := range args {
		ts.Check(fixture.Push(context.Background(), ts.Getenv("REGISTRY"), ref))
	}
}

// cmdFlip: flip FILE OFFSET changes one byte; a negative offset counts from the end.
func cmdFlip(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 1
	ts.Check(os.WriteFile(path, data, 0o600))
}

// cmdAppend: append FILE N adds N zero bytes.
func cmdAppend(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_WRONLY, 0)
	ts.Check(err)
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	_, err = f.Write(make([]byte, n))
	ts.Check(err)
	ts.Check(f.Close())
}

// cmdFifo: fifo FILE makes a named pipe, which nobody writes to.
func cmdFifo(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(syscall.Mkfifo(ts.MkAbs(args[0]), 0o600))
}

// cmdTool: tool DIR writes a tiny ELF file as the airlock binary for linux/amd64,
// because the test binary itself would make every bundle large.
func cmdTool(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(os.WriteFile(fmt.Sprintf("%s/airlock-linux-amd64", dir), fixture.TinyELF(), 0o755))
}

// cmdVendor: vendor PRODUCT VERSION PROGRAM… writes a vendor's release archive
// and sets $FINGERPRINT to that of its signer.
func cmdVendor(ts *testscript.TestScript, _ bool, args []string) {
	programs := map[string][]byte{}
	for _, p := range args[2:] {
		programs[p] = append(fixture.TinyELF(), p...)
	}
	fp, err := fixture.VendorArchive(ts.MkAbs("."), args[0], args[1], programs)
	ts.Check(err)
	ts.Setenv("FINGERPRINT", fp)
}

// cmdSubst: subst IN OUT writes IN with @REGISTRY@, @SECURE@ and @FINGERPRINT@
// replaced.
func cmdSubst(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	for _, name := range []string{"REGISTRY", "SECURE", "FINGERPRINT"} {
		text = strings.ReplaceAll(text, "@"+name+"@", ts.Getenv(name))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

// cmdChart: chart DIR VERSION copies cert-manager's own chart out of its Go
// module, with the version that its release process would write into it.
func cmdChart(ts *testscript.TestScript, _ bool, args []string) {
	dir, err := fixture.CertManagerChart(filepath.Join("..", "..", "testdata", "tools"))
	ts.Check(err)
	dst := ts.MkAbs(args[0])
	ts.Check(os.CopyFS(dst, os.DirFS(dir)))
	path := filepath.Join(dst, "Chart.yaml")
	text, err := os.ReadFile(path)
	ts.Check(err)
	ts.Check(os.Chmod(path, 0o644))
	ts.Check(os.WriteFile(path, bytes.ReplaceAll(text, []byte("v0.0.0"), []byte(args[1])), 0o644))
}
