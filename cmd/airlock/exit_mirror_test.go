package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror"
)

// TestMirrorVerdicts: 1 where nothing arrived, 3 where something did, and the
// hint belongs to the error that is shown.
func TestMirrorVerdicts(t *testing.T) {
	conflict := &mirror.ConflictError{Target: "r.test/a:1"}
	lost := &mirror.VerifyError{Object: "r.test/a@sha256:0", Err: errors.New("gone")}
	answer := &remote.StatusError{Host: "r.test", Status: 500}
	tests := []struct {
		name string
		err  error
		code int
		hint string
	}{
		{"dry run finds a conflict", refusedError{conflict}, exitFailed, "delete the tag"},
		{"conflict and nothing else", &mirror.FailedError{Errs: []error{conflict}}, exitFailed, "delete the tag"},
		{"conflict with others done", &mirror.PartialError{Errs: []error{conflict}}, exitPartial, "delete the tag"},
		{"nothing comes back", &mirror.FailedError{Errs: []error{lost}}, exitFailed, "does not give back"},
		{"something does not come back", fmt.Errorf("x: %w", &mirror.PartialError{Errs: []error{lost}}), exitPartial, "does not give back"},
		{"shown first, nothing arrived", &mirror.FailedError{Errs: []error{lost, conflict}}, exitFailed, "does not give back"},
		{"shown first, some arrived", &mirror.PartialError{Errs: []error{lost, conflict}}, exitPartial, "does not give back"},
		{"unknown first", &mirror.PartialError{Errs: []error{errors.New("x"), conflict}}, exitPartial, "run the same command again"},
		{"answer", &mirror.PartialError{Errs: []error{answer}}, exitPartial, "run the command again"},
		{"record ended", &mirror.RecordError{Ended: true, Err: syscall.ENOSPC}, exitPartial, "everything arrived"},
		{"no room for the map", &mapError{syscall.ENOSPC}, exitPartial, "--relocation-map"},
		{"no room for the map, and an item failed", errors.Join(&mirror.PartialError{Errs: []error{conflict}}, &mapError{syscall.ENOSPC}), exitPartial, "delete the tag"},
		{"no room for a record", &mirror.RecordError{Err: syscall.ENOSPC}, exitFailed, "the disk is full"},
		{"no record", &mirror.RecordError{Err: errors.New("it is not a regular file")}, exitFailed, "--record"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			v := judge(t.Context(), lineOf(t, "mirror", "b"), tc.err)
			if v.code != tc.code || !strings.Contains(v.hint, tc.hint) {
				t.Errorf("got %d %q, want %d and %q", v.code, v.hint, tc.code, tc.hint)
			}
			if strings.Count(v.hint, "command again") > 1 {
				t.Errorf("hint %q repeats itself", v.hint)
			}
		})
	}
}
