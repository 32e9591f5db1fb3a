package cpufallback

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

// The figures to read are ratios: bytes read and written in a second, beside those of a copy of as many bytes. Buffers are larger
// than the caches.

const benchCodes = 64 << 20

func BenchmarkCopy(b *testing.B) {
	s, err := newSlot(benchCodes*3/2, benchCodes*3/2)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.close() }()
	touch(s)
	b.SetBytes(3 * benchCodes)
	for b.Loop() {
		copy(s.out, s.in)
	}
}

func BenchmarkDequant(b *testing.B) {
	p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16, BlockRows: 128, BlockCols: 128}
	for _, cols := range []int{2048, 7168} {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("128x128/cols=%d/workers=%d", cols, workers), func(b *testing.B) { benchJob(b, p, cols, workers) })
		}
	}
	for _, block := range [][2]int{{1, 4096}, {4096, 4096}, {32, 32}, {1, 128}, {1, 32}, {1, 1}} {
		p.BlockRows, p.BlockCols = block[0], block[1]
		b.Run(fmt.Sprintf("%dx%d/cols=4096", block[0], block[1]), func(b *testing.B) { benchJob(b, p, 4096, 1) })
	}
	for _, to := range []dtype.DType{dtype.F16, dtype.F32} {
		p.To, p.BlockRows, p.BlockCols = to, 128, 128
		b.Run(fmt.Sprintf("128x128/cols=7168/%s", to), func(b *testing.B) { benchJob(b, p, 7168, 1) })
	}
}

// BenchmarkScales compares the dialects of scales on rows of 2048: blocks, one for each row, one for the matrix.
func BenchmarkScales(b *testing.B) {
	const cols = 2048
	p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3}
	for _, to := range []dtype.DType{dtype.BF16, dtype.F16} {
		for _, st := range []dtype.DType{dtype.BF16, dtype.F8E8M0} {
			for _, turned := range []bool{false, true} {
				for name, block := range map[string][2]int{"block": {128, 128}, "row": {1, cols}, "matrix": {benchCodes / cols, cols}} {
					p.To, p.ScaleType, p.Transposed, p.BlockRows, p.BlockCols = to, st, turned, block[0], block[1]
					b.Run(fmt.Sprintf("%s/%s/transposed=%t/%s", to, st, turned, name), func(b *testing.B) { benchJob(b, p, cols, 1) })
				}
			}
		}
	}
}

func BenchmarkTransposed(b *testing.B) {
	for _, p := range []kernel.Params{
		{Op: kernel.Copy, From: dtype.BF16, To: dtype.BF16}, {Op: kernel.Copy, From: dtype.F32, To: dtype.F32}, {Op: kernel.Cast, From: dtype.F32, To: dtype.BF16},
	} {
		for _, turned := range []bool{false, true} {
			p.Transposed = turned
			b.Run(p.String(), func(b *testing.B) { benchJob(b, p, 4096, 1) })
		}
	}
}

func BenchmarkCast(b *testing.B) {
	for _, from := range []dtype.DType{dtype.F16, dtype.BF16, dtype.F32} {
		for _, to := range []dtype.DType{dtype.F16, dtype.BF16, dtype.F32} {
			b.Run(fmt.Sprintf("%s-%s", from, to), func(b *testing.B) {
				benchJob(b, kernel.Params{Op: kernel.Cast, From: from, To: to}, 4096, 1)
			})
		}
	}
}

// benchJob runs one matrix.
func benchJob(b *testing.B, p kernel.Params, cols, workers int) {
	be := New(workers)
	defer func() { _ = be.Close() }()
	w := newBenchWindow(b, be, p, cols)
	b.SetBytes(int64(w.read + len(w.slot.Out())))
	for b.Loop() {
		w.run(b, be)
	}
}

// benchWindow is one matrix of ordinary weights: no NaN codes, scales about 1e-4.
type benchWindow struct {
	slot    kernel.Slot
	read    int // bytes of the source
	batches []kernel.Batch
	tallies []kernel.Tally
}

func newBenchWindow(b *testing.B, be kernel.Backend, p kernel.Params, cols int) *benchWindow {
	rows := benchCodes / cols / int(p.From.Size())
	j := kernel.Job{Rows: rows, Cols: cols, SrcStride: cols, DstStride: cols, Scale: rows * cols * int(p.From.Size())}
	if p.Transposed {
		j.DstStride = rows
	}
	scales := 0
	if p.Scaled() {
		down, across := p.Blocks(&j)
		scales, j.ScaleStride = down*across, across
	}
	out := rows * cols * int(p.To.Size())
	if p.Op == kernel.Quantize {
		j.DstStride = 0
		size := int(p.Format.ScaleType(p.To).Size())
		j.DstScale = rows * p.Format.RowBytes(cols)
		j.DstBias = j.DstScale + rows*p.Format.Groups(cols)*size
		out = j.DstBias
		if p.Format.Mode == mlxquant.Affine {
			out += j.DstBias - j.DstScale
		} else {
			j.DstBias = 0
		}
	}
	s, err := be.NewSlot(j.Scale+scales*4, out)
	if err != nil {
		b.Fatal(err)
	}
	touch(s)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := 0; i < j.Scale; i += 8 {
		little.PutUint64(s.In()[i:], rng.Uint64()&^0x0101010101010101)
	}
	for i := range scales {
		if p.ScaleType == dtype.F8E8M0 {
			s.In()[j.Scale+i] = byte(113 + rng.IntN(3))
		} else {
			little.PutUint16(s.In()[j.Scale+2*i:], uint16(0x38C0+rng.IntN(64)))
		}
	}
	return &benchWindow{s, j.Scale, []kernel.Batch{{Params: p, Jobs: []kernel.Job{j}}}, make([]kernel.Tally, 1)}
}

func (w *benchWindow) run(b *testing.B, be kernel.Backend) {
	if err := be.Run(b.Context(), w.slot, w.batches, w.tallies); err != nil {
		b.Fatal(err)
	}
}

func touch(s kernel.Slot) {
	for _, m := range [][]byte{s.In(), s.Out()} {
		for i := 0; i < len(m); i += 4096 {
			m[i] = 1
		}
	}
}

func BenchmarkFill(b *testing.B) {
	for _, to := range []dtype.DType{dtype.BF16, dtype.F16} {
		for name, scale := range map[string]float32{"normal": 1e-4, "subnormal": 1e-39} {
			b.Run(fmt.Sprintf("%s/%s", to, name), func(b *testing.B) {
				var t table[uint16]
				for b.Loop() {
					fill(&t, scale, to)
				}
			})
		}
	}
	b.Run("F32/normal", func(b *testing.B) {
		var t table[uint32]
		for b.Loop() {
			fill(&t, 1e-4, dtype.F32)
		}
	})
}
