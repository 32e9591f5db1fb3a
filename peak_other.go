//go:build !unix

package metalcast

func peakMemory() int64 { return 0 }
