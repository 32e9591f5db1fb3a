//go:build !linux && !darwin

package bench

import "os"

// How the page cache was treated.
const (
	writeHow = "16 MiB blocks; fsync"
	readHow  = "16 MiB blocks, perhaps from the page cache"
)

func direct(*os.File) {}

func startWriting(*os.File, int64, int64) {}

func drop(*os.File) {}
