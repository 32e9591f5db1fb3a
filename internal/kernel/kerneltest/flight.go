package kerneltest

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testConcurrency runs several slots concurrently, each with windows of its own.
func testConcurrency(t *testing.T, be kernel.Backend) {
	rounds := uint64(needtest.Rounds(4, 12))
	var wg sync.WaitGroup
	for g := range uint64(5) {
		wg.Go(func() {
			for n := range rounds {
				flight(t, be, rand.New(rand.NewPCG(g, n)))
			}
		})
	}
	wg.Wait()
}

// flight compares one window without ending the test, which only the test's own goroutine may do.
func flight(t *testing.T, be kernel.Backend, rng *rand.Rand) {
	w := NewWindow(rng.Uint64())
	for range 1 + rng.IntN(8) {
		w.Add(RandomJob(rng))
	}
	want := bytes.Clone(w.Out)
	wantTallies := Reference(w.In, want, w.Batches)
	slot, err := be.NewSlot(len(w.In), len(w.Out))
	if !assert.NoError(t, err) {
		return
	}
	copy(slot.In(), w.In)
	copy(slot.Out(), w.Out)
	tallies := make([]kernel.Tally, len(wantTallies))
	assert.NoError(t, be.Run(t.Context(), slot, w.Batches, tallies))
	assert.True(t, bytes.Equal(want, slot.Out()))
	assert.Equal(t, wantTallies, tallies)
}

// testCancellation expects the context's error, and a backend that still works afterwards.
func testCancellation(t *testing.T, be kernel.Backend) {
	w := NewWindow(1)
	p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16, BlockRows: 128, BlockCols: 128}
	w.Add(p, Layout{Rows: 1024, Cols: 1024})
	rig := NewRig(be)
	rig.Check(t, w)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, be.Run(ctx, rig.slot, w.Batches, make([]kernel.Tally, 1)), context.Canceled)
	rig.Check(t, w)
	require.NoError(t, be.Run(t.Context(), rig.slot, nil, nil)) // a window that only moves tensors
}

// testRefusals expects an error, and nothing run, if a job does not fit the slot.
func testRefusals(t *testing.T, be kernel.Backend) {
	p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.F32, ScaleType: dtype.F32, BlockRows: 2, BlockCols: 3}
	good := kernel.Job{Rows: 4, Cols: 6, Src: 16, SrcStride: 6, DstStride: 6, ScaleStride: 2}
	slot, err := be.NewSlot(16+24, 96)
	require.NoError(t, err)
	before := bytes.Clone(slot.Out())
	for _, change := range []func(j *kernel.Job){
		func(j *kernel.Job) { j.Src++ },
		func(j *kernel.Job) { j.Dst += 4 },
		func(j *kernel.Job) { j.Dst = -4 },
		func(j *kernel.Job) { j.Scale = 30 },
		func(j *kernel.Job) { j.Rows++ },
		func(j *kernel.Job) { j.ScaleStride = 1 << 30 },
	} {
		bad := good
		change(&bad)
		require.Error(t, be.Run(t.Context(), slot, []kernel.Batch{{Params: p, Jobs: []kernel.Job{good, bad}}}, make([]kernel.Tally, 2)), "%+v", bad)
		require.Equal(t, before, slot.Out())
	}
	require.Error(t, be.Run(t.Context(), slot, []kernel.Batch{{Params: p, Jobs: []kernel.Job{good}}}, nil))
	require.NoError(t, be.Run(t.Context(), slot, []kernel.Batch{{Params: p, Jobs: []kernel.Job{good}}}, make([]kernel.Tally, 1)))
}
