package engine

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// preallocate gives a file its real size on disk, so that a full disk shows before the first byte: F_PREALLOCATE does not change the
// size, ftruncate follows. EINVAL and ENOTSUP mean that the volume cannot; ENOSPC is the real answer, purgeable space counted.
func preallocate(f *os.File, size int64) error {
	if size > 0 {
		store := unix.Fstore_t{Flags: unix.F_ALLOCATEALL, Posmode: unix.F_PEOFPOSMODE, Length: size}
		err := unix.FcntlFstore(f.Fd(), unix.F_PREALLOCATE, &store)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
			return err
		}
	}
	return f.Truncate(size)
}

// bypassCache lets what begins at a multiple of the page, in the file and in memory, go past the cache: most bytes of long runs of results.
func bypassCache(f *os.File) { _, _ = unix.FcntlInt(f.Fd(), unix.F_NOCACHE, 1) }
