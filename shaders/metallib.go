//go:build metallib

package shaders

import _ "embed"

//go:embed convert.metallib
var convertMetallib []byte

//go:embed quantize.metallib
var quantizeMetallib []byte
