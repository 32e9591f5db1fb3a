//go:build unix

package main

import (
	"syscall"
	"testing"
)

func interruptSelf(t *testing.T) {
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
}
