//go:build purego || !(amd64 || arm64 || loong64 || riscv64 || ppc64le)

package cpufallback

var packedRows = portableRows
