package cpufallback

import "golang.org/x/sys/unix"

// preferHugePages saves a quarter of the user time of a conversion. A kernel without them says so; nothing depends on it.
func preferHugePages(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
