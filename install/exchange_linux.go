package install

import (
	"os"

	"golang.org/x/sys/unix"
)

// exchange swaps two entries of a directory at once. Not every file system can:
// then nothing has changed and the error says so.
func exchange(dir *os.File, a, b string) error {
	fd := int(dir.Fd()) //nolint:gosec // a descriptor
	return unix.Renameat2(fd, a, fd, b, unix.RENAME_EXCHANGE)
}
