package checkpoint

import (
	"os"

	"golang.org/x/sys/unix"
)

// cached reports whether most of a file is in the page cache; true if the system does not say
// (before Linux 6.5).
func cached(f *os.File, size int64) bool {
	var s unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Len: uint64(size)}, &s, 0); err != nil {
		return true
	}
	return int64(s.Cache)*int64(os.Getpagesize()) > size/2
}

// leaveCache drops a range of a file from the page cache.
func leaveCache(f *os.File, off, n int64) { _ = unix.Fadvise(int(f.Fd()), off, n, unix.FADV_DONTNEED) }

// uncachedReads are not used: the system reads ahead of one read at a time.
var uncachedReads pieces

// uncached does nothing: bypassing the cache does not pay on this system.
func uncached(*os.File) {}
