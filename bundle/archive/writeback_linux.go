package archive

import (
	"os"
	"syscall"
)

// syncRangeWrite is SYNC_FILE_RANGE_WRITE of sync_file_range(2).
const syncRangeWrite = 2

// startWriteback asks the kernel to begin writing a range to the disk, so that
// the sync before a journal line, and the last one, find little left to do. It
// promises nothing: durability is Sync's.
func startWriteback(f *os.File, offset, n int64) {
	// A file system without it loses time, not data.
	_ = syscall.SyncFileRange(int(f.Fd()), offset, n, syncRangeWrite)
}
