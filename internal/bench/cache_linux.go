package bench

import (
	"os"

	"golang.org/x/sys/unix"
)

// How the page cache was treated.
const (
	writeHow = "16 MiB blocks, writeback started after each; fsync"
	readHow  = "16 MiB blocks, page cache dropped before"
)

func direct(*os.File) {}

// startWriting and drop are advice: what a file system does not know it leaves.
func startWriting(f *os.File, at, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), at, n, unix.SYNC_FILE_RANGE_WRITE)
}

func drop(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
