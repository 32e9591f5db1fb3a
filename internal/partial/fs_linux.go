package partial

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// allocate reserves disk space for a file, which also sets its size.
func allocate(f *os.File, size int64) error {
	for {
		if err := unix.Fallocate(int(f.Fd()), 0, 0, size); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// writesZeros returns false: Linux records how far a file on FAT was written.
func writesZeros(string) bool { return false }

// bypassCache does nothing: the writer bypasses the cache.
func bypassCache(*os.File) {}
