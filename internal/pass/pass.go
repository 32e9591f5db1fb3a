// Package pass runs a plan: it opens the source and a backend, gives the engine its share of the
// memory limit, and streams every window of the plan into a sink, once or several times.
package pass

import (
	"cmp"
	"context"
	"errors"

	"github.com/metalcast/metalcast/cpufallback"
	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/plan"
)

// Options are the choices of a pass.
type Options struct {
	Device    string // auto, metal or cpu; "" is auto
	Quantizes bool   // the plan quantizes, for which a GPU needs more kernels
	MaxMemory int64  // bound on the process's resident memory, in bytes; 0 is DefaultMemory

	KeepNaN       bool // NaN codes and scales that are not finite are counted, not refused
	AllowOverflow bool // so are values that become infinite
	AllowLarge    bool // and weights beyond engine.MostWeight

	// Warn receives what does not stop the pass, such as a GPU that cannot be used. May be nil.
	Warn func(message string)
	// Progress receives the source bytes done and the bytes in all. May be nil.
	Progress func(phase string, done, total int64)
}

// Recheck returns the options for computing again, by its plan, what a conversion has written. That
// conversion has decided about NaN codes and scales, and a GPU may have computed it.
func (o Options) Recheck() Options {
	o.KeepNaN, o.AllowOverflow, o.AllowLarge = true, true, true
	if o.Device == "" || o.Device == "auto" {
		o.Device = "cpu"
	}
	return o
}

// Runner runs passes over one plan. Its slots are kept from pass to pass where they fit.
type Runner struct {
	Plan     *plan.Plan
	Source   *checkpoint.Source
	Schedule *engine.Schedule // of the last pass; nil before the first
	Device   string           // the name of the backend that was opened first
	Sample   float64          // the fraction of the windows that is run; 0 or 1 is all

	opts       Options
	memory     int64 // for the ring of slots, in bytes
	backend    kernel.Backend
	ring       *engine.Ring
	gpuSeconds float64 // of backends that are closed
}

// New opens what passes over a plan need: their share of the memory, the source and a backend.
// Close releases them.
func New(p *plan.Plan, o Options) (*Runner, error) {
	o.MaxMemory = cmp.Or(o.MaxMemory, DefaultMemory)
	memory, err := Budget(p, o.MaxMemory)
	if err != nil {
		return nil, err
	}
	source, err := p.Source.OpenSource()
	if err != nil {
		return nil, err
	}
	be, err := OpenBackend(o)
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	return &Runner{Plan: p, Source: source, Device: be.Name(), opts: o, memory: memory, backend: be}, nil
}

// Close closes the source and the backend.
func (r *Runner) Close() {
	r.Source.Close()
	r.backend.Close()
}

// Reserve takes n bytes from the ring's share of the memory, as far as the plan's windows still
// fit.
func (r *Runner) Reserve(n int64) { r.memory = max(engine.MinMemory(r.Plan), r.memory-n) }

// Run streams the plan into a sink, without the pieces that earlier has done. phase is what
// Options.Progress calls the pass.
func (r *Runner) Run(ctx context.Context, phase string, sink engine.Sink, earlier engine.Progress) (engine.Result, error) {
	r.Schedule = engine.NewScheduleAfter(r.Plan, r.memory, earlier)
	if r.Sample > 0 && r.Sample < 1 {
		r.Schedule.Sample(r.Sample)
	}
	if err := r.allocate(); err != nil {
		return engine.Result{}, err
	}
	done := r.Schedule.Before
	total := r.Schedule.Bytes + r.Schedule.Before
	o := engine.Options{
		KeepNaN: r.opts.KeepNaN, AllowOverflow: r.opts.AllowOverflow, AllowLarge: r.opts.AllowLarge,
		Resumed: earlier.Counts,
	}
	if r.opts.Progress != nil {
		r.opts.Progress(phase, done, total)
		o.Progress = func(n int64) {
			done += n
			r.opts.Progress(phase, done, total)
		}
	}
	return engine.Run(ctx, r.Plan, r.Schedule, r.ring, r.Source, sink, o)
}

// UseCPU replaces the backend by the CPU's, if it is another: a second computation should not be by
// what made the first. The slots of the first are released.
func (r *Runner) UseCPU() error {
	if r.backend.Name() == "cpu" {
		return nil
	}
	if err := r.closeBackend(); err != nil {
		return err
	}
	r.backend = cpufallback.New(0)
	return nil
}

// GPUSeconds is the time that the GPU has spent on windows, in all passes.
func (r *Runner) GPUSeconds() float64 {
	if gpu, ok := r.backend.(interface{ GPUSeconds() float64 }); ok {
		return r.gpuSeconds + gpu.GPUSeconds()
	}
	return r.gpuSeconds
}

// allocate makes the ring of slots for the schedule, unless the present one holds it. Slots belong
// to their backend, so that a larger ring takes a new one.
func (r *Runner) allocate() (err error) {
	if r.ring != nil && r.ring.Holds(r.Schedule) {
		return nil
	}
	if r.ring != nil {
		if err := r.closeBackend(); err != nil {
			return err
		}
		if r.backend, err = OpenBackend(r.opts); err != nil {
			return err
		}
	}
	leaveRoom(r.Schedule, r.opts.MaxMemory)
	r.ring, err = engine.NewRing(r.Schedule, r.backend)
	return err
}

func (r *Runner) closeBackend() error {
	r.gpuSeconds = r.GPUSeconds()
	r.ring = nil
	return r.backend.Close()
}
