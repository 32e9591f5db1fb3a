//go:build unix

package newdir

import (
	"os"
	"syscall"
)

// device identifies a file system.
func device(st os.FileInfo) uint64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Dev) //nolint:unconvert // its type differs between systems
	}
	return 0
}
