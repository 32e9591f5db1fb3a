//go:build (darwin && cgo) || fakemetal

package metal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/progrium/darwinkit/macos/metal"
	"github.com/progrium/darwinkit/objc"

	"github.com/metalcast/metalcast/internal/kernel"
)

// mostFailures is after how many windows that the CPU had to compute the GPU is left alone.
const mostFailures = 3

// Backend runs jobs on the default Metal device. Its methods may be called from several goroutines.
type Backend struct {
	opts Options
	g    *gpu

	mu    sync.Mutex // guards slots and tried
	slots []*slot
	tried map[kernel.Params]error // self-tests

	windows  atomic.Uint64
	failures atomic.Int32
	nanos    atomic.Int64
	warned   atomic.Bool
}

// Open opens the default device, compiles the kernels, or waits for those that Prepare began, and tries the commonest. Without a device the error is ErrNoDevice.
func Open(o Options) (kernel.Backend, error) {
	g, err := openGPU(o.Quantize)
	if err != nil {
		return nil, err
	}
	b := &Backend{opts: o, g: g, tried: map[kernel.Params]error{}}
	for _, p := range common {
		if err := b.try(p); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	return b, nil
}

// Name is "metal".
func (b *Backend) Name() string { return "metal" }

// InFlight is how many Runs overlap with profit: one computes while the next is encoded and checked.
func (b *Backend) InFlight() int { return 2 }

// GPUSeconds is the time that the GPU spent on windows so far.
func (b *Backend) GPUSeconds() float64 { return float64(b.nanos.Load()) / 1e9 }

// NewSlot allocates a slot that the GPU reads and writes in place.
func (b *Backend) NewSlot(in, out int) (kernel.Slot, error) {
	var s *slot
	var err error
	objc.WithAutoreleasePool(func() { s, err = b.g.newSlot(in, out) })
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slots = append(b.slots, s)
	return s, nil
}

// Run executes the jobs of a window; see kernel.Backend.
func (b *Backend) Run(ctx context.Context, ks kernel.Slot, batches []kernel.Batch, tallies []kernel.Tally) error {
	s, ok := ks.(*slot)
	if !ok {
		return fmt.Errorf("metal: a slot of another backend (%T)", ks)
	}
	if err := kernel.Check(len(s.in), len(s.out), batches, len(tallies)); err != nil {
		return fmt.Errorf("metal: %w", err)
	}
	if err := ctx.Err(); err != nil || len(tallies) == 0 {
		return err
	}
	if b.failures.Load() >= mostFailures {
		return b.opts.CPU.Run(ctx, s, batches, tallies)
	}
	first := b.attempt(ctx, s, batches, tallies)
	if first == nil || ctx.Err() != nil {
		return errors.Join(ctx.Err())
	}
	second := b.renew()
	if second == nil {
		second = b.attempt(ctx, s, batches, tallies)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case second == nil:
		b.warn(fmt.Sprintf("%v; the window was computed again on a new queue", first))
		return nil
	case b.opts.Strict:
		return fmt.Errorf("%w (and again on a new queue)", second)
	}
	b.failures.Add(1)
	b.warn(fmt.Sprintf("%v (and again on a new queue); the CPU computed the window", second))
	return b.opts.CPU.Run(ctx, s, batches, tallies)
}

// attempt tries the kernels it needs for the first time, runs the window and checks it.
func (b *Backend) attempt(ctx context.Context, s *slot, batches []kernel.Batch, tallies []kernel.Tally) error {
	for i := range batches {
		if err := b.try(batches[i].Params); err != nil {
			return err
		}
	}
	if err := b.dispatch(s, batches); err != nil {
		return err
	}
	return b.examine(ctx, s, batches, tallies)
}

// dispatch runs a window on the GPU and sees that every threadgroup ran.
func (b *Backend) dispatch(s *slot, batches []kernel.Batch) error {
	s.plan(batches)
	if err := s.lay(); err != nil {
		return err
	}
	for _, list := range commandBuffers(s.dispatches) {
		seconds, err := b.g.submit(kernelsOf(list), func(e metal.ComputeCommandEncoderObject, pipes []pipeline) { s.encode(list, e, pipes) })
		if err != nil {
			return err
		}
		b.nanos.Add(int64(seconds * 1e9))
	}
	statuses, _ := s.statusOf()
	for i := range s.dispatches {
		d := &s.dispatches[i]
		missed := 0
		for _, x := range statuses[d.first : d.first+d.count] {
			if !x.ran() {
				missed++
			}
		}
		if missed > 0 {
			return fmt.Errorf("%s: kernel %s: %d of %d threadgroups did not run", b.g, d.kernel, missed, d.count)
		}
	}
	return nil
}

func (b *Backend) renew() (err error) {
	objc.WithAutoreleasePool(func() { err = b.g.newQueue() })
	return err
}

func (b *Backend) warn(message string) {
	if b.opts.Warn != nil && b.warned.CompareAndSwap(false, true) {
		b.opts.Warn(message)
	}
}

// Close releases the slots, whose memory must not be used afterwards, and everything else but the device. No Run is in progress.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var err error
	for _, s := range b.slots {
		err = errors.Join(err, s.close())
	}
	b.slots = nil
	b.g.close()
	return err
}
