package newdir

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lesserFlush is what is left where F_FULLFSYNC is refused, which has done nothing then: everything goes to the drive, which may keep it in its cache.
func lesserFlush(f *os.File) error {
	for {
		if err := unix.Fsync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
