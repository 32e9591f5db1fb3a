//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// endTogether puts a command into its own process group, so that its children are asked to end with
// it. The returned function kills those that remain.
func endTogether(c *exec.Cmd) (end func()) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGTERM) }
	return func() {
		if c.Process != nil {
			_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // usually none remain
		}
	}
}
