//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package install

import (
	"errors"
	"os"
)

// lockFile refuses: without a lock that the kernel drops, two runs could write
// one ledger.
func lockFile(*os.File) error {
	return errors.New("this operating system has no flock; run the installation on Linux, macOS or a BSD")
}
