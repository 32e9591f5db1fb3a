//go:build cgo

package metal

import (
	"sync"

	"github.com/progrium/darwinkit/objc"

	mtl "github.com/metalcast/metalcast/cgo"
)

// deviceName asks once per process.
var deviceName = sync.OnceValue(func() (name string) {
	objc.WithAutoreleasePool(func() {
		d := mtl.DefaultDevice()
		if d.IsNil() {
			return
		}
		defer d.Release()
		name = mtl.DeviceName(d)
	})
	return name
})
