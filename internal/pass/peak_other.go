//go:build !unix

package pass

// PeakMemory returns 0: this system does not report it.
func PeakMemory() int64 { return 0 }
