//go:build !linux && !darwin

package bench

import "os"

// readHow says how the page cache was treated.
const readHow = "16 MiB blocks, perhaps from the page cache"

func direct(*os.File) {}

func drop(*os.File) {}
