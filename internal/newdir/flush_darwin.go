package newdir

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lesserFlush is what remains if F_FULLFSYNC is refused, which then has done nothing: everything
// goes to the drive, which may keep it in its cache.
func lesserFlush(f *os.File) error {
	for {
		if err := unix.Fsync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
