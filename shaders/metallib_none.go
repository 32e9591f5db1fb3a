//go:build !metallib

package shaders

// Metallib is empty: the text is compiled at run time.
var Metallib []byte
