//go:build !linux

package install

import (
	"errors"
	"os"
)

// exchange swaps two entries of a directory at once, where the system can.
func exchange(*os.File, string, string) error { return errors.ErrUnsupported }
