package newdir

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func renameExclusive(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	// A file system or kernel without the flag: a plain rename never replaces what is not empty.
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return os.Rename(from, to)
	}
	return err
}
