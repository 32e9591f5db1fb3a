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
	Elements    int64       `json:"elements"`
	Differences int64       `json:"differences"`
	Rows        []ParityRow `json:"rows"`
}

// Parity computes the same on the Metal device and on the CPU and compares every byte; quick takes samples. each, if not nil, is told every row as it is done. Without
// a device the error is ErrNoDevice; differences are no error.
func Parity(ctx context.Context, quick bool, each func(ParityRow)) (*ParityReport, error) {
	d, err := metal.Describe()
	if err != nil {
		return nil, fault.New(ErrNoDevice, "parity", "no Metal device").WithHint("it needs a Mac; \"metalcast doctor\" tells what this machine has")
	}
	cpu := cpufallback.New(0)
	defer cpu.Close()
	gpu, err := metal.Open(metal.Options{CPU: cpu, Strict: true, Unchecked: true})
	if err != nil {
		return nil, err
	}
	defer gpu.Close()
	s := parity.Suite{Test: gpu, Reference: cpu, Quick: quick, Each: each}
	rows, err := s.Run(ctx)
	if err != nil {
		return nil, err
	}
	r := &ParityReport{Device: d.Name, Rows: rows}
	for _, row := range rows {
		r.Elements += row.Elements
		r.Differences += row.Differences
	}
	return r, nil
}
