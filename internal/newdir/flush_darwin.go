package newdir

import (
	"os"

	"golang.org/x/sys/unix"
)

// lesserFlush is what is left where F_FULLFSYNC is refused, which has done nothing then: everything goes to the drive, which may keep it in its cache.
func lesserFlush(f *os.File) error { return unix.Fsync(int(f.Fd())) }
