package metalcast

import (
	"context"

	"github.com/metalcast/metalcast/cpufallback"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/parity"
	"github.com/metalcast/metalcast/metal"
)

// ParityRow is the outcome of one kernel on one kind of input.
type ParityRow = parity.Row

// ParityReport is the outcome of comparing the Metal device with the CPU.
type ParityReport struct {
	Device      string      `json:"device"`
	Emulated    bool        `json:"emulated"` // the device is the one that tests have elsewhere than on a Mac
	CPU         string      `json:"cpu"`      // which code of the CPU's: "scalar" is plain Go, the others are vector code
	Elements    int64       `json:"elements"`
	Differences int64       `json:"differences"`
	Rows        []ParityRow `json:"rows"`
}

// ParityOptions say what to compare.
type ParityOptions struct {
	// Quick takes samples instead of everything.
	Quick bool
	// Begin is told what is compared with what, Each every row as it is done. Both may be nil.
	Begin func(device, cpu string, emulated bool)
	Each  func(ParityRow)
}

// Parity computes the same on the Metal device and on the CPU and compares every byte. Without a device the error is ErrNoDevice; differences are no error.
func Parity(ctx context.Context, o ParityOptions) (*ParityReport, error) {
	d, err := metal.Describe()
	if err != nil {
		return nil, fault.New(ErrNoDevice, "parity", "no Metal device").WithHint(
			"it needs a Mac; elsewhere \"./build.sh parity\", in a clone of metalcast's repository, runs the same kernels in an emulator")
	}
	cpu := cpufallback.New(0)
	defer cpu.Close()
	gpu, err := metal.Open(metal.Options{CPU: cpu, Strict: true, Unchecked: true})
	if err != nil {
		return nil, err
	}
	defer gpu.Close()
	r := &ParityReport{Device: d.Name, Emulated: d.Emulated, CPU: cpufallback.Implementations()[0]}
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
