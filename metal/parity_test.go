//go:build (darwin && cgo) || fakemetal

package metal_test

import (
	"errors"
	"testing"

	"github.com/metalcast/metalcast/cpufallback"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/kernel/kerneltest"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/metal"
)

// open gives a strict backend on the machine's device, real or not.
func open(t *testing.T) kernel.Backend {
	t.Helper()
	cpu := cpufallback.New(0)
	b, err := metal.Open(metal.Options{CPU: cpu, Strict: true})
	if errors.Is(err, fault.ErrNoDevice) {
		needtest.Skip(t, "metal", "no Metal device")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cpu.Close() })
	return b
}

func TestParity(t *testing.T) { kerneltest.Run(t, open) }
