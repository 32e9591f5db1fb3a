//go:build metallib

package shaders

import _ "embed"

// Metallib is metalcast.metal compiled by Apple's tools ("build.sh metallib"). It saves the compilation at run time, some 70 ms once after each update of macOS.
//
//go:embed metalcast.metallib
var Metallib []byte
