//go:build !(darwin && cgo) && !fakemetal

package metal

import "github.com/metalcast/metalcast/internal/kernel"

// Open opens the default device. Here it is always ErrNoDevice: the program was built for another system, or without cgo.
func Open(Options) (kernel.Backend, error) { return nil, errNoDevice }

// Prepare begins to compile the kernels. Here there is nothing to do.
func Prepare(bool) (settle func()) { return func() {} }

// Describe tells what the default device is.
func Describe() (Device, error) { return Device{}, errNoDevice }
