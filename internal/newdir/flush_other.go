//go:build !darwin

package newdir

import "os"

// lesserFlush does nothing more than fsync.
func lesserFlush(*os.File) error { return nil }
