package bench

import (
	"os"

	"golang.org/x/sys/unix"
)

// readHow says how the page cache was treated.
const readHow = "16 MiB blocks, page cache dropped before"

func direct(*os.File) {}

// drop is advice, which a file system may ignore.
func drop(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
