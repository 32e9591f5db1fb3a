package needtest

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// CachedPages returns how many pages of n bytes of a file at off are in the page cache, or with n =
// 0 of everything from off on. It skips the test if the system cannot report this.
func CachedPages(t testing.TB, f *os.File, off, n int) int {
	t.Helper()
	var s unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &s, 0); err != nil {
		Skip(t, "cachestat", "this system does not tell what is cached: %v", err)
	}
	return int(s.Cache)
}
