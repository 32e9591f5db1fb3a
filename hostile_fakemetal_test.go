//go:build fakemetal

package metalcast_test

import "testing"

// TestHostileFakeMetal is TestHostile with kernels on the fake device.
func TestHostileFakeMetal(t *testing.T) { refuseAll(t, "metal") }
