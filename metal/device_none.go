//go:build !darwin || !cgo

package metal

func deviceName() string { return "" }
