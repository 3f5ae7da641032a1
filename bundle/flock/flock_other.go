//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package flock

import (
	"errors"
	"fmt"
	"os"
)

// TryLock takes an exclusive lock on f, or returns ErrHeld. An error that matches
// errors.ErrUnsupported says that there are no such locks here.
func TryLock(f *os.File) error {
	return fmt.Errorf("lock %s: %w: this operating system has no flock; use Linux, macOS or a BSD", f.Name(), errors.ErrUnsupported)
}

func unlock(*os.File) error { return nil }
