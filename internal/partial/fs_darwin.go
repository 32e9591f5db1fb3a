package partial

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// allocate reserves disk space for a file and leaves its size. Whether ENOSPC takes purgeable space
// into account is not documented. Volumes that cannot reserve also answer EINVAL.
func allocate(f *os.File, size int64) error {
	store := unix.Fstore_t{Flags: unix.F_ALLOCATEALL, Posmode: unix.F_PEOFPOSMODE, Length: size}
	err := unix.FcntlFstore(f.Fd(), unix.F_PREALLOCATE, &store)
	if errors.Is(err, unix.EINVAL) {
		return errors.ErrUnsupported
	}
	return err
}

// writesZeros reports whether a directory is on a FAT file system, which has no sparse files: macOS
// fills with zeros what a file grows by.
func writesZeros(dir string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false
	}
	switch unix.ByteSliceToString(st.Fstypename[:]) {
	case "exfat", "msdos":
		return true
	}
	return false
}

// bypassCache lets whatever is aligned to a page, in the file and in memory, bypass the cache: most
// bytes of long runs of results.
func bypassCache(f *os.File) { _, _ = unix.FcntlInt(f.Fd(), unix.F_NOCACHE, 1) }
