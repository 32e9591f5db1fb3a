// Package shaders holds the text of the compute kernels, in two libraries. It is compiled at run time, which on a Mac takes neither Xcode nor the Command Line Tools.
package shaders

import _ "embed"

//go:embed arithmetic.metal
var arithmetic string

//go:embed convert.metal
var convert string

//go:embed quantize.metal
var quantize string

// Library is kernels that are compiled together.
type Library struct {
	Text     string // MSL 2.4
	Metallib []byte // compiled by Apple's tools ("build.sh metallib"), which saves the compilation at run time; or empty
}

// Convert is the kernels of conversions that do not quantize, Quantize those that do. The latter take most of the time that compiling takes, 0.5 to 2 s once after each
// update of macOS.
var (
	Convert  = Library{arithmetic + convert, convertMetallib}
	Quantize = Library{arithmetic + quantize, quantizeMetallib}
)
