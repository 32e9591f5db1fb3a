package partial

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// allocate gives a file room on disk and leaves its size. Whether the answer that there is none takes purgeable space into account is not documented. EINVAL too is
// what volumes say that cannot.
func allocate(f *os.File, size int64) error {
	store := unix.Fstore_t{Flags: unix.F_ALLOCATEALL, Posmode: unix.F_PEOFPOSMODE, Length: size}
	err := unix.FcntlFstore(f.Fd(), unix.F_PREALLOCATE, &store)
	if errors.Is(err, unix.EINVAL) {
		return errors.ErrUnsupported
	}
	return err
}

// writesZeros tells whether a directory is on a file system of the FAT family, which has no files with holes: macOS fills with zeros what a file grows by.
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

// bypassCache lets what begins at a multiple of the page, in the file and in memory, go past the cache: most bytes of long runs of results.
func bypassCache(f *os.File) { _, _ = unix.FcntlInt(f.Fd(), unix.F_NOCACHE, 1) }
