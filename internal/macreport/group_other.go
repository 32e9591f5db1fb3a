//go:build !unix

package main

import "os/exec"

// endTogether does nothing without process groups.
func endTogether(*exec.Cmd) (end func()) { return func() {} }
