// Package flock keeps two processes from one file or directory, by the advisory
// locks of flock(2). The kernel drops a lock when its process ends, however it
// ends.
package flock

import (
	"errors"
	"os"
)

// ErrHeld is returned by TryLock for a lock that somebody else has.
var ErrHeld = errors.New("lock is held")

// Close lets go of the lock that TryLock took on f, and closes f. To close it is
// not enough: a program that is just being started shares the file, and the lock,
// until it runs.
func Close(f *os.File) error {
	_ = unlock(f) // where that fails, the lock goes with the last who has f open, as without it
	return f.Close()
}
