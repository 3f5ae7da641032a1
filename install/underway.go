package install

import (
	"errors"
	"time"
)

const (
	// lookTries is how often a record is read that does not fit together, and
	// lookPause the time between: its files are written one after the other, and
	// a run that is under way may be between two of them.
	lookTries = 5
	lookPause = 100 * time.Millisecond
)

// steady reads a record that a run may be writing to. What does not fit is read
// again before anybody is accused.
func steady[T any](read func() (T, error)) (T, error) {
	for i := 1; ; i++ {
		v, err := read()
		if _, ok := errors.AsType[*LedgerError](err); !ok || i == lookTries {
			return v, err
		}
		time.Sleep(lookPause)
	}
}
