package newdir

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func renameExclusive(from, to string) error {
	err := unix.RenamexNp(from, to, unix.RENAME_EXCL)
	// exFAT has no exclusive rename; a plain rename never replaces what is not empty.
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EINVAL) {
		return os.Rename(from, to)
	}
	return err
}
