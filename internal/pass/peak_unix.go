//go:build unix

package pass

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// PeakMemory returns the most resident memory that the process has had, in bytes.
func PeakMemory() int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	if runtime.GOOS == "darwin" { // bytes there, kilobytes elsewhere
		return int64(u.Maxrss)
	}
	return int64(u.Maxrss) << 10
}
