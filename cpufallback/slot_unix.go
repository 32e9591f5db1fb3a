//go:build unix

package cpufallback

import "golang.org/x/sys/unix"

func mapMemory(n int) ([]byte, error) {
	if n == 0 {
		return nil, nil // mmap refuses an empty mapping
	}
	if n < 0 {
		return nil, unix.EINVAL
	}
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err == nil {
		preferHugePages(b)
	}
	return b, err
}

func unmapMemory(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return unix.Munmap(b)
}
