package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/mirror"
	"github.com/airlock-project/airlock/verify"
	"github.com/airlock-project/airlock/verify/sign"
)

// lineOf parses a command line without running it.
func lineOf(t *testing.T, words ...string) line {
	t.Helper()
	cmd, rest, err := (&app{}).root().Find(words)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Fatal(err)
	}
	return line{cmd}
}

// TestHints covers what scripts cannot bring about: full disks, files that may
// not be read, interrupts.
func TestHints(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	full := &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	denied := &fs.PathError{Op: "open", Path: there, Err: syscall.EACCES}
	canceled := fmt.Errorf("push: %w", context.Canceled)
	tests := []struct {
		name    string
		words   []string
		err     error
		stopped bool
		code    int
		hint    string
	}{
		{"disk full, can go on", []string{"bundle", "create"}, &resumableError{err: full}, false, exitFailed, "it goes on from where it stopped"},
		{"disk full", []string{"bundle", "extract", "b", "-o", "x"}, full, false, exitFailed, "free space and run the command again"},
		{"disk full, rename", []string{"bundle", "extract"}, &os.LinkError{Err: syscall.ENOSPC}, false, exitFailed, "free space and run the command again"},
		{"may not read", []string{"verify", there}, denied, false, exitFailed, "you may not read it"},
		{"may not read a key", []string{"verify", "b", "--key", there}, fmt.Errorf("read public key: %w", denied), false, exitFailed, "you may not read it"},
		{"may not write", []string{"bundle", "extract", "b", "-o", there}, denied, false, exitFailed, "write somewhere else with -o"},
		{"may not make", []string{"keygen"}, &fs.PathError{Op: "open", Path: filepath.Join(dir, "new"), Err: syscall.EACCES}, false, exitFailed, "write somewhere else with --name"},
		{"read-only", []string{"bundle", "sign", "b"}, &fs.PathError{Op: "open", Path: "b.sig", Err: syscall.EROFS}, false, exitFailed, "as a user who may write there"},
		{"bad medium", []string{"verify", there}, &fs.PathError{Op: "read", Path: there, Err: syscall.EIO}, false, exitFailed, "check the medium"},
		{"mirror stopped", []string{"mirror", "b"}, canceled, true, exitInterrupted, "what is there is not sent again"},
		{"mirror stopped in part", []string{"mirror", "b"}, &mirror.PartialError{Errs: []error{errors.New("closed")}}, true, exitInterrupted, "what is there is not sent again"},
		{"mirror stopped without a word of it", []string{"mirror", "b"}, errors.New("connection closed"), true, exitInterrupted, "run the same command again"},
		{"install stopped", []string{"bundle", "install", "b"}, errors.Join(canceled, &checklistOutcome{status: install.StatusFailed}), true, exitInterrupted, "--resume"},
		{"create stopped", []string{"bundle", "create"}, &resumableError{err: canceled}, true, exitInterrupted, "it goes on from where it stopped"},
		{"verify stopped", []string{"verify", "b"}, canceled, true, exitInterrupted, "run the same command again"},
		{"damage stays damage", []string{"verify", "b"}, &verify.ContentError{Err: errors.New("x")}, true, exitContent, "damaged"},
		{"bundle changed", []string{"mirror", "b"}, changedUnderway("b", &mirror.PartialError{Errs: []error{&archive.FormatError{Err: errors.New("x")}}}), false, exitContent, "leave the file alone"},
		{"ledger torn", []string{"checklist", "verify"}, &install.LedgerError{Line: 7, Torn: true}, false, exitContent, "--resume cuts it off"},
		{"ledger edited", []string{"checklist", "verify"}, &install.LedgerError{Line: 7}, false, exitContent, "for the auditor and start with another --state"},
		{"password elsewhere", []string{"bundle", "install", "b"}, &sign.PasswordError{}, false, exitUsage, "--password-file"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tc.stopped {
				cancel()
			}
			v := judge(ctx, lineOf(t, tc.words...), tc.err)
			if v.code != tc.code || !strings.Contains(v.hint, tc.hint) {
				t.Errorf("got %d %q, want %d and %q", v.code, v.hint, tc.code, tc.hint)
			}
			if strings.Contains(v.hint, "goes on") != strings.Contains(tc.hint, "goes on") {
				t.Errorf("hint %q speaks of going on", v.hint)
			}
		})
	}
}

// TestSignalIsNamed: an interrupt is told as the signal, not in the words of
// package context.
func TestSignalIsNamed(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	err := fmt.Errorf("verify b: %w", context.Canceled)
	if got := text(ctx, err); got != "verify b: context canceled" {
		t.Errorf("without an interrupt: %q", got)
	}
	cancel(errors.New("terminated signal received"))
	if got := text(ctx, err); got != "verify b: terminated signal received" {
		t.Errorf("with one: %q", got)
	}
	if got := text(ctx, errors.New("x")); got != "x" {
		t.Errorf("another error: %q", got)
	}
}

// TestReplaceFile leaves nothing behind, and names the file, where it fails.
func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "map.json")
	for _, text := range []string{"one", "two"} {
		if err := replaceFile(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != text {
			t.Errorf("got %q, %v", got, err)
		}
	}
	full := filepath.Join(dir, "full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := replaceFile(full, nil)
	if e, ok := errors.AsType[*fs.PathError](err); !ok || e.Path != full {
		t.Errorf("over a directory: %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWantsJSON(t *testing.T) {
	tests := map[string]bool{
		"verify x --output json":          true,
		"--output=json verify":            true,
		"verify --output":                 false,
		"verify --output yaml":            false,
		"--output json v --output text":   false,
		"verify -- --output json":         false,
		"verify --output json -- --nope":  true,
		"bundle create -o --output=jsonx": false,
	}
	for words, want := range tests {
		if got := wantsJSON(strings.Fields(words)); got != want {
			t.Errorf("%s: got %v, want %v", words, got, want)
		}
	}
}
