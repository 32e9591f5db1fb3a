package newdir

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func renameExclusive(from, to string) error {
	err := unix.RenamexNp(from, to, unix.RENAME_EXCL)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EINVAL) { // exFAT has no exclusive rename; a rename never replaces what is not empty
		return os.Rename(from, to)
	}
	return err
}
