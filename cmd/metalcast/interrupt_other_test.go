//go:build !unix

package main

import "testing"

func interruptSelf(t *testing.T) { t.Skip("no SIGINT to send on this system") }
