package main

import (
	"context"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/cpufallback"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/parity"
	"github.com/metalcast/metalcast/metal"
)

// parityOptions say what to compare.
type parityOptions struct {
	// Quick takes samples instead of everything.
	Quick bool
	// Begin receives what is compared with what, Each every row once it is done. Both may be nil.
	Begin func(device, cpu string, emulated bool)
	Each  func(parity.Row)
}

// compareDevices computes the same on the Metal device and on the CPU and compares every byte.
// Without a device the error is metalcast.ErrNoDevice; differences are not an error.
func compareDevices(ctx context.Context, o parityOptions) (*parity.Report, error) {
	d, err := metal.Describe()
	if err != nil {
		return nil, fault.New(metalcast.ErrNoDevice, "parity", "no Metal device").WithHint(
			"it needs a Mac; elsewhere \"./build.sh parity\", in a clone of metalcast's repository, runs the same kernels in an emulator")
	}
	cpu := cpufallback.New(0)
	defer cpu.Close()
	gpu, err := metal.Open(metal.Options{CPU: cpu, Strict: true, Unchecked: true})
	if err != nil {
		return nil, err
	}
	defer gpu.Close()
	r := &parity.Report{Device: d.Name, Emulated: d.Emulated, CPU: cpufallback.Implementations()[0]}
	if o.Begin != nil {
		o.Begin(r.Device, r.CPU, r.Emulated)
	}
	s := parity.Suite{Test: gpu, Reference: cpu, Quick: o.Quick, Each: o.Each}
	if r.Rows, err = s.Run(ctx); err != nil {
		return nil, err
	}
	for _, row := range r.Rows {
		r.Elements += row.Elements
		r.Differences += row.Differences
	}
	return r, nil
}
