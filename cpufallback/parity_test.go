package cpufallback

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/kernel/kerneltest"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/stretchr/testify/require"
)

func TestParity(t *testing.T) {
	kerneltest.Run(t, func(*testing.T) kernel.Backend { return New(0) })
}

// TestWorkers runs the same windows with different numbers of workers: results and tallies must be the reference's each time.
func TestWorkers(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 13} {
		be := New(workers)
		rig := kerneltest.NewRig(be)
		rng := rand.New(rand.NewPCG(1, 2))
		for seed := range uint64(needtest.Rounds(20, 20)) {
			w := kerneltest.NewWindow(seed)
			for range 1 + rng.IntN(4) {
				w.Add(kerneltest.RandomJob(rng))
			}
			rig.Check(t, w)
		}
		p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.F16, ScaleType: dtype.F32, BlockRows: 1 << 20, BlockCols: 1 << 20}
		w := kerneltest.NewWindow(99) // one block over several tiles, its scale infinite, random codes with NaN among them
		w.Add(p, kerneltest.Layout{Rows: 2, Cols: 600_001, Scales: []uint32{0x7F800000}})
		w.Add(p, kerneltest.Layout{Rows: 1201, Cols: 501, Scales: []uint32{0x43000000}, RowPhase: 3, ColPhase: 900})
		rig.Check(t, w)
		require.NoError(t, be.Close())
	}
}

// TestTiles checks that the tiles of a job cover it once, whatever its blocks, and that no tile needs more tables than there are.
func TestTiles(t *testing.T) {
	needtest.Alone(t)
	rng := rand.New(rand.NewPCG(4, 4))
	side := func() int { return 1 + rng.IntN(1<<rng.IntN(21)) }
	for range 20_000 {
		p := kernel.Params{Op: kernel.Dequant, To: dtype.BF16, BlockRows: side(), BlockCols: side()}
		j := kernel.Job{Rows: side(), Cols: side(), RowPhase: rng.IntN(p.BlockRows), ColPhase: rng.IntN(p.BlockCols)}
		switch rng.IntN(8) {
		case 0:
			p = kernel.Params{Op: kernel.Cast, To: dtype.BF16}
		case 1:
			p = kernel.Params{Op: kernel.AddOne, To: dtype.BF16}
		}
		p.Transposed = p.Op != kernel.AddOne && rng.IntN(3) == 0
		if p.Op != kernel.Dequant {
			j.RowPhase, j.ColPhase = 0, 0
		}
		x := planTiles(&p, &j)
		for _, c := range []struct {
			cut
			n int
		}{{x.down, j.Rows}, {x.across, j.Cols}} {
			end := 0
			for i := range c.parts {
				from, to := c.part(i)
				if from != end || to <= from {
					t.Fatalf("%+v %+v: part %d is [%d, %d), the one before ends at %d", p, j, i, from, to, end)
				}
				end = to
			}
			if end != c.n {
				t.Fatalf("%+v %+v: parts end at %d", p, j, end)
			}
		}
		if width := x.across.step; (p.Transposed || p.Op == kernel.AddOne) && width > tileCols {
			t.Fatalf("%+v %+v: a tile has %d columns, more than a worker's line", p, j, width)
		}
		if p.Op != kernel.Dequant {
			continue
		}
		most := mostTables
		if x.thin {
			most = tileCols // scales
		}
		for i := range x.across.parts {
			from, to := x.across.part(i)
			blocks := (j.ColPhase+to-1)/p.BlockCols - (j.ColPhase+from)/p.BlockCols + 1
			if blocks > most {
				t.Fatalf("%+v %+v: tile %d has %d blocks", p, j, i, blocks)
			}
		}
	}
}

// TestFill compares the fast tables with products one by one, for every exponent and sign.
func TestFill(t *testing.T) {
	needtest.Alone(t)
	rng := rand.New(rand.NewPCG(6, 6))
	for e := range uint32(256) {
		for range 50 {
			scale := math.Float32frombits(e<<23 | rng.Uint32()&0x807FFFFF)
			var wide table[uint32]
			fill(&wide, scale, dtype.F32)
			for _, to := range []dtype.DType{dtype.BF16, dtype.F16} {
				var half table[uint16]
				least := fill(&half, scale, to)
				for c := range 256 {
					w := product(byte(c), scale)
					v := uint16(roundTo(to, w))
					overflows := uint32(v&0x7FFF) == roundTo(to, infinity) && finite(scale)
					if wide[c] != w || half[c] != v || overflows != (byte(c&127) >= least && c&127 < 127) {
						t.Fatalf("scale %x, code %#x: %#x, %#x, overflow from %#x", scale, c, wide[c], half[c], least)
					}
				}
			}
		}
	}
}

func TestAllocations(t *testing.T) {
	be := New(2)
	defer func() { require.NoError(t, be.Close()) }()
	s, err := be.NewSlot(4<<20+1<<10, 8<<20)
	require.NoError(t, err)
	p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16, BlockRows: 128, BlockCols: 128}
	jobs := make([]kernel.Job, 64)
	for i := range jobs {
		jobs[i] = kernel.Job{Rows: 128, Cols: 512, Src: i << 16, SrcStride: 512, Dst: i << 17, DstStride: 512, Scale: 4 << 20, ScaleStride: 4}
	}
	batches, tallies := []kernel.Batch{{Params: p, Jobs: jobs}}, make([]kernel.Tally, len(jobs))
	n := testing.AllocsPerRun(50, func() { require.NoError(t, be.Run(context.Background(), s, batches, tallies)) })
	require.LessOrEqual(t, n, 8.0)
}

func TestBackend(t *testing.T) {
	be := New(0)
	require.Equal(t, "cpu", be.Name())
	require.Equal(t, min(4, runtime.GOMAXPROCS(0)), be.workers)
	s, err := be.NewSlot(0, 5000)
	require.NoError(t, err)
	require.Empty(t, s.In())
	require.Len(t, s.Out(), 5000)
	_, err = be.NewSlot(-1, 5)
	require.Error(t, err)
	require.NoError(t, be.Close())
	require.NoError(t, be.Close())
	_, err = be.NewSlot(1, 1)
	require.ErrorIs(t, err, errClosed)
	require.ErrorIs(t, be.Run(t.Context(), s, nil, nil), errClosed)
}
