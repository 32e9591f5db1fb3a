package needtest

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// CachedPages counts the pages that the page cache has of n bytes of a file at off, or with n = 0 of all from there on. It skips a test where the system does not tell.
func CachedPages(t testing.TB, f *os.File, off, n int) int {
	t.Helper()
	var s unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &s, 0); err != nil {
		Skip(t, "cachestat", "this system does not tell what is cached: %v", err)
	}
	return int(s.Cache)
}
