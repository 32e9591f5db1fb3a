// Package metal speaks for the Apple GPU. So far it tells which device there is; conversions compute in package cpufallback, which gives
// the bytes that a GPU backend is held to.
package metal

import "github.com/metalcast/metalcast/internal/fault"

// DeviceName names the default Metal device. Without one the error is ErrNoDevice.
func DeviceName() (string, error) {
	name := deviceName()
	if name == "" {
		return "", fault.New(fault.ErrNoDevice, "", "no Metal device")
	}
	return name, nil
}
