//go:build !linux && !darwin

package partial

import (
	"errors"
	"os"
)

func allocate(*os.File, int64) error { return errors.ErrUnsupported }

func writesZeros(string) bool { return false }

func bypassCache(*os.File) {}
