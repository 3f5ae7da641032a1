//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package mirror

import (
	"errors"
	"os"
)

// lockFile refuses: without a lock that the kernel drops, two runs could write
// one record.
func lockFile(*os.File) error {
	return errors.New("this operating system has no flock; run without a record")
}
