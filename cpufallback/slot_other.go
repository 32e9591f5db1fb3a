//go:build !unix

package cpufallback

import (
	"errors"
	"reflect"
)

// pageSize is the largest in use where there is no mmap.
const pageSize = 64 << 10

// mapMemory aligns a slice of Go's heap, which the collector keeps but does not move.
func mapMemory(n int) ([]byte, error) {
	if n < 0 {
		return nil, errors.New("negative size")
	}
	b := make([]byte, n+pageSize)
	at := int(-reflect.ValueOf(b).Pointer() & (pageSize - 1))
	return b[at : at+n : at+n], nil
}

func unmapMemory([]byte) error { return nil }
