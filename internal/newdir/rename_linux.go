package newdir

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func renameExclusive(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system or kernel without the flag; a rename never replaces what is not empty
		return os.Rename(from, to)
	}
	return err
}
