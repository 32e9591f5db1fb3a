package bench

import (
	"os"

	"golang.org/x/sys/unix"
)

// readHow says how the page cache was treated.
const readHow = "16 MiB blocks, F_NOCACHE, dropped before"

// direct is a hint: cached data is still read from the cache.
func direct(f *os.File) { _, _ = unix.FcntlInt(f.Fd(), unix.F_NOCACHE, 1) }

// drop invalidates a mapping of the file, which is how to empty the cache of one file. Whether it
// does only a Mac can show: Linux has no counterpart to try it with.
func drop(f *os.File) {
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return
	}
	_ = unix.Msync(m, unix.MS_INVALIDATE)
	_ = unix.Munmap(m)
}
