//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// endTogether gives a command a process group: its children are asked to end with it. The result
// ends what is left of them.
func endTogether(c *exec.Cmd) (end func()) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGTERM) }
	return func() {
		if c.Process != nil {
			_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // none is left as a rule
		}
	}
}
