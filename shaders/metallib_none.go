//go:build !metallib

package shaders

// The texts are compiled at run time.
var convertMetallib, quantizeMetallib []byte
