//go:build !linux && !darwin

package newdir

import "os"

func renameExclusive(from, to string) error { return os.Rename(from, to) }
