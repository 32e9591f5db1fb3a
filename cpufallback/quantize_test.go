package cpufallback

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/kernel/kerneltest"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/stretchr/testify/require"
)

// quantizing is a job that quantizes codes with scales in blocks, in a slot of ordinary weights.
func quantizing(t testing.TB, be *Backend, p kernel.Params, rows, cols int) (kernel.Slot, []kernel.Batch) {
	j := kernel.Job{Rows: rows, Cols: cols, SrcStride: cols, Scale: rows * cols * int(p.From.Size())}
	_, _, codes, scales, biases := p.Packed(&j)
	j.DstScale = int(codes)
	j.DstBias = j.DstScale + int(scales)
	in := j.Scale
	if p.Scaled() {
		down, across := p.Blocks(&j)
		j.ScaleStride = across
		in += 2 * down * across
	}
	s, err := be.NewSlot(in, int(codes+scales+biases))
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := 0; i+2 <= j.Scale; i += 2 {
		w := uint16(rng.Uint32() &^ 0x0101)
		if p.From == dtype.BF16 {
			w = uint16(math.Float32bits(float32(0.02*rng.NormFloat64())) >> 16)
		}
		little.PutUint16(s.In()[i:], w)
	}
	for i := j.Scale; i < in; i += 2 {
		little.PutUint16(s.In()[i:], uint16(0x38C0+rng.IntN(64)))
	}
	return s, []kernel.Batch{{Params: p, Jobs: []kernel.Job{j}}}
}

// BenchmarkQuantize quantizes matrices of 4096 columns on one worker; MB/s counts two bytes an element, as package mlxquant's does.
func BenchmarkQuantize(b *testing.B) {
	const rows, cols = 1024, 4096
	fp8 := kernel.Params{Op: kernel.Quantize, From: dtype.F8E4M3, ScaleType: dtype.BF16, BlockRows: 128, BlockCols: 128, To: dtype.BF16}
	turned, bf16 := fp8, kernel.Params{Op: kernel.Quantize, From: dtype.BF16, To: dtype.BF16}
	turned.Transposed = true
	for name, p := range map[string]kernel.Params{"blocks": fp8, "turned": turned, "bf16": bf16} {
		for _, f := range []mlxquant.Format{mlxquant.Affine.Default(), {Mode: mlxquant.Affine, Bits: 8, GroupSize: 64}, mlxquant.MXFP4.Default(), mlxquant.MXFP8.Default(), mlxquant.NVFP4.Default()} {
			p.Format = f
			b.Run(fmt.Sprintf("%s/%s-%d-%d", name, f.Mode, f.Bits, f.GroupSize), func(b *testing.B) {
				be := New(1)
				defer func() { _ = be.Close() }()
				s, batches := quantizing(b, be, p, rows, cols)
				tallies := make([]kernel.Tally, 1)
				b.SetBytes(2 * rows * cols)
				b.ReportAllocs()
				for b.Loop() {
					require.NoError(b, be.Run(b.Context(), s, batches, tallies))
				}
				require.Equal(b, kernel.Tally{}, tallies[0])
			})
		}
	}
}

// TestPackedTiles checks that the tiles of a job that quantizes cover it once, cut no group, and fit a worker's memory.
func TestPackedTiles(t *testing.T) {
	needtest.Alone(t)
	rng := rand.New(rand.NewPCG(5, 5))
	side := func() int { return 1 + rng.IntN(1<<rng.IntN(21)) }
	for range 20_000 {
		f := []mlxquant.Format{mlxquant.Affine.Default(), {Mode: mlxquant.Affine, Bits: 2, GroupSize: 128}, mlxquant.MXFP4.Default(), mlxquant.NVFP4.Default()}[rng.IntN(4)]
		p := kernel.Params{Op: kernel.Quantize, From: dtype.F8E4M3, To: dtype.BF16, Format: f, BlockRows: side(), BlockCols: side(), Transposed: rng.IntN(2) == 0}
		if rng.IntN(4) == 0 {
			p.From, p.BlockRows, p.BlockCols = dtype.BF16, 0, 0
		}
		j := kernel.Job{Rows: side(), Cols: f.GroupSize * (1 + rng.IntN(1<<rng.IntN(14)))}
		group := [2]int{1, f.GroupSize}
		if p.Transposed {
			j.Rows, j.Cols = j.Cols, j.Rows
			group = [2]int{f.GroupSize, 1}
		}
		if p.Scaled() {
			j.RowPhase, j.ColPhase = rng.IntN(p.BlockRows), rng.IntN(p.BlockCols)
		}
		x := planTiles(&p, &j)
		for i, c := range []struct {
			cut
			n int
		}{{x.down, j.Rows}, {x.across, j.Cols}} {
			end := 0
			for k := range c.parts {
				from, to := c.part(k)
				if from != end || to <= from || from%group[i] != 0 || to%group[i] != 0 {
					t.Fatalf("%+v %+v: part %d is [%d, %d), the one before ends at %d", p, j, k, from, to, end)
				}
				end = to
			}
			if end != c.n {
				t.Fatalf("%+v %+v: parts end at %d", p, j, end)
			}
		}
		if width := x.across.step; width > tileCols || p.Transposed && width > packCols {
			t.Fatalf("%+v %+v: a tile has %d columns", p, j, width)
		}
		if !p.Scaled() || x.thin {
			continue
		}
		for i := range x.across.parts {
			from, to := x.across.part(i)
			if blocks := (j.ColPhase+to-1)/p.BlockCols - (j.ColPhase+from)/p.BlockCols + 1; blocks > mostTables {
				t.Fatalf("%+v %+v: tile %d has %d blocks", p, j, i, blocks)
			}
		}
	}
}

func TestQuantizeAllocations(t *testing.T) {
	needtest.Alone(t)
	be := New(2)
	defer func() { require.NoError(t, be.Close()) }()
	p := kernel.Params{Op: kernel.Quantize, From: dtype.F8E4M3, ScaleType: dtype.BF16, BlockRows: 128, BlockCols: 128, To: dtype.BF16, Format: mlxquant.Affine.Default()}
	s, batches := quantizing(t, be, p, 256, 1024)
	for range 6 {
		batches[0].Jobs = append(batches[0].Jobs, batches[0].Jobs...)
	}
	tallies := make([]kernel.Tally, len(batches[0].Jobs))
	n := testing.AllocsPerRun(needtest.Rounds(5, 20), func() { require.NoError(t, be.Run(context.Background(), s, batches, tallies)) })
	require.LessOrEqual(t, n, 8.0)
}

// FuzzQuantize compares jobs of any geometry with the reference. types chooses the format and the types, raw is source elements and scales.
func FuzzQuantize(f *testing.F) {
	f.Add(uint16(3), uint16(2), uint16(128), uint16(128), uint16(0), uint16(0), uint16(0), []byte("\x00\x7e\x80\xfe\x38\x39"))
	f.Add(uint16(40), uint16(1), uint16(3), uint16(5), uint16(2), uint16(4), uint16(777), []byte{1, 2, 3, 0xFE, 0x7E, 0x80})
	f.Add(uint16(1), uint16(3), uint16(1), uint16(1), uint16(0), uint16(0), uint16(4321), []byte{0, 0, 0x80, 0x7F, 0, 0x3F})
	f.Add(uint16(7), uint16(2), uint16(1000), uint16(32), uint16(999), uint16(31), uint16(59999), []byte{0xFF, 0xFF, 0x7F, 0x7F})
	be := New(2)
	f.Cleanup(func() { _ = be.Close() })
	rig := kerneltest.NewRig(be)
	f.Fuzz(func(t *testing.T, lines, groups, blockRows, blockCols, rowPhase, colPhase, types uint16, raw []byte) {
		pick := func(n int) int {
			i := int(types) % n
			types /= uint16(n)
			return i
		}
		p := kernel.Params{Op: kernel.Quantize, Format: mlxquant.Format{Mode: mlxquant.Mode(pick(4))}, Profile: mlxquant.Profile(pick(2)), Transposed: pick(2) == 1}
		if p.Format = p.Format.Mode.Default(); p.Format.Mode == mlxquant.Affine {
			p.Format.GroupSize, p.Format.Bits = 32<<pick(3), []int{1, 2, 3, 4, 5, 6, 8}[pick(7)]
		}
		p.To = []dtype.DType{dtype.BF16, dtype.F16, dtype.F32}[pick(3)]
		p.From = []dtype.DType{dtype.F8E4M3, dtype.BF16, dtype.F16, dtype.F32}[pick(4)]
		l := kerneltest.Layout{Rows: 1 + int(lines%80), Cols: (1 + int(groups%6)) * p.Format.GroupSize, Shift: int(lines / 80 % 8), SrcGap: int(lines % 5), DstGap: int(lines % 7), Codes: raw}
		if p.Transposed {
			l.Rows, l.Cols = l.Cols, l.Rows
		}
		if p.Scaled() {
			p.ScaleType = []dtype.DType{dtype.BF16, dtype.F32, dtype.F16, dtype.F8E8M0}[pick(4)]
			p.BlockRows, p.BlockCols = 1+int(blockRows), 1+int(blockCols)
			l.RowPhase, l.ColPhase = int(rowPhase)%p.BlockRows, int(colPhase)%p.BlockCols
			for n := int(p.ScaleType.Size()); len(raw) >= n; raw = raw[n:] {
				var word [4]byte
				copy(word[:], raw[:n])
				l.Scales = append(l.Scales, little.Uint32(word[:]))
			}
		}
		w := kerneltest.NewWindow(uint64(types))
		w.Add(p, l)
		rig.Check(t, w)
	})
}
