package cpufallback

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

// BenchmarkRatio tells how fast jobs are beside a copy of as many bytes, both on as many goroutines, in alternation, best of all rounds: other load disturbs that least.
func BenchmarkRatio(b *testing.B) {
	p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16}
	for _, r := range everyRows() {
		for _, block := range [][2]int{{128, 128}, {1, 4096}, {32, 32}, {1, 128}, {1, 32}} {
			for _, workers := range []int{1, 2} {
				p.BlockRows, p.BlockCols = block[0], block[1]
				b.Run(fmt.Sprintf("%s/%dx%d/workers=%d", r.name, block[0], block[1], workers), func(b *testing.B) { benchRatio(b, r.rows, p, workers) })
			}
		}
	}
}

// BenchmarkQuantizeRatio is the same for quantizing, codes of 128x128 blocks unless the format says otherwise.
func BenchmarkQuantizeRatio(b *testing.B) {
	for _, f := range []mlxquant.Format{{Mode: mlxquant.Affine, Bits: 4, GroupSize: 64}, {Mode: mlxquant.Affine, Bits: 8, GroupSize: 64}, mlxquant.MXFP4.Default(), mlxquant.MXFP8.Default(), mlxquant.NVFP4.Default()} {
		p := kernel.Params{Op: kernel.Quantize, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16, BlockRows: 128, BlockCols: 128, Format: f}
		b.Run(f.String(), func(b *testing.B) { benchRatio(b, everyRows()[0].rows, p, 1) })
		p.ScaleType, p.BlockRows, p.BlockCols, p.From = dtype.Invalid, 0, 0, dtype.BF16
		b.Run(f.String()+"/from BF16", func(b *testing.B) { benchRatio(b, everyRows()[0].rows, p, 1) })
	}
}

func benchRatio(b *testing.B, r rows, p kernel.Params, workers int) {
	be := New(workers)
	be.rows = r
	defer func() { _ = be.Close() }()
	w := newBenchWindow(b, be, p, 4096)
	half := (w.read + len(w.slot.Out())) / 2
	s, err := be.NewSlot(half, half)
	if err != nil {
		b.Fatal(err)
	}
	touch(s)
	least := [2]time.Duration{1 << 62, 1 << 62}
	for b.Loop() {
		start := time.Now()
		var wg sync.WaitGroup
		for i := range workers {
			wg.Go(func() { copy(s.Out()[i*half/workers:(i+1)*half/workers], s.In()[i*half/workers:]) })
		}
		wg.Wait()
		middle := time.Now()
		w.run(b, be)
		least[0], least[1] = min(least[0], middle.Sub(start)), min(least[1], time.Since(middle))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(2*half)/least[1].Seconds()/1e9, "GB/s")
	b.ReportMetric(float64(w.read/int(p.From.Size()))/least[1].Seconds()/1e9, "Gweights/s")
	b.ReportMetric(least[0].Seconds()/least[1].Seconds(), "x-copy")
}

// BenchmarkRow is one row in the first cache level.
func BenchmarkRow(b *testing.B) {
	src, dst := make([]byte, 4096), make([]byte, 16384)
	for _, r := range everyRows() {
		var t [32]table[uint16]
		var t32 [32]table[uint32]
		for i := range t {
			r.fill16(&t[i], 1e-4, dtype.BF16)
			r.fill32(&t32[i], 1e-4, dtype.F32)
		}
		b.Run(r.name+"/BF16", func(b *testing.B) {
			b.SetBytes(3 * 4096)
			for b.Loop() {
				r.row16(dst, src, t[:], 128, 128, false)
			}
		})
		b.Run(r.name+"/F32", func(b *testing.B) {
			b.SetBytes(5 * 4096)
			for b.Loop() {
				r.row32(dst, src, t32[:], 128, 128, false)
			}
		})
		for _, to := range []dtype.DType{dtype.BF16, dtype.F16} {
			b.Run(fmt.Sprintf("%s/fill %s", r.name, to), func(b *testing.B) {
				for b.Loop() {
					r.fill16(&t[0], 1e-4, to)
				}
			})
		}
		for _, width := range []int{1, 32, 64} {
			scales := make([]float32, 4096)
			b.Run(fmt.Sprintf("%s/multiply %d", r.name, width), func(b *testing.B) {
				b.SetBytes(3 * 4096)
				for b.Loop() {
					r.multiply(dst, src, scales[:4096/width], width, width, dtype.BF16)
				}
			})
		}
	}
}
