//go:build !unix

package main

import "os/exec"

// endTogether needs process groups.
func endTogether(*exec.Cmd) (end func()) { return func() {} }
