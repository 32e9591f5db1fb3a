// Package shaders holds the text of the compute kernels. It is compiled at run time, which on a Mac takes neither Xcode nor the Command Line Tools.
package shaders

import _ "embed"

// Text is metalcast.metal: MSL 2.4.
//
//go:embed metalcast.metal
var Text string
