package metal

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

// What quantizes is cut into command buffers, at offsets that Metal takes; every tile is in one, and what does not quantize is not cut.
func TestQuantizingIsCutIntoCommandBuffers(t *testing.T) {
	quantize := kernel.Params{Op: kernel.Quantize, From: dtype.BF16, To: dtype.BF16, Format: mlxquant.Affine.Default()}
	dequant := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.F32, BlockRows: 128, BlockCols: 128}
	batch := func(p kernel.Params, rows ...int) (b kernel.Batch) {
		b.Params = p
		for _, n := range rows {
			b.Jobs = append(b.Jobs, kernel.Job{Rows: n, Cols: 4096, SrcStride: 4096, DstStride: 4096, ScaleStride: 32})
		}
		return b
	}
	for name, c := range map[string]struct {
		batches []kernel.Batch
		buffers int
	}{
		"a large one that does not quantize": {[]kernel.Batch{batch(dequant, 16<<10)}, 1},
		"one that fits":                      {[]kernel.Batch{batch(quantize, 512)}, 1},
		"one tile more":                      {[]kernel.Batch{batch(quantize, 513)}, 2},
		"a window of 16 MiB":                 {[]kernel.Batch{batch(quantize, 1024, 1024, 1024, 1024)}, 8},
		"among others":                       {[]kernel.Batch{batch(dequant, 700), batch(quantize, 100), batch(dequant, 5), batch(quantize, 500, 300), batch(dequant, 9)}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			var l layout
			l.plan(c.batches)
			buffers := commandBuffers(l.dispatches)
			assert.Len(t, buffers, c.buffers)
			seen := make([]int, len(l.jobs))
			for _, buffer := range buffers {
				elements := 0
				for _, d := range buffer {
					assert.Zero(t, d.offset%256, d)
					assert.Zero(t, d.first%align, d)
					whole := l.dispatches[0]
					for _, w := range l.dispatches {
						if w.first <= d.first {
							whole = w
						}
					}
					assert.Equal(t, whole.kernel, d.kernel)
					assert.Equal(t, whole.offset+(d.first-whole.first)*84*min(d.size, 1), d.offset, "a tile that quantizes is 84 bytes")
					for i := range d.count {
						seen[d.first+i]++
					}
					if c.batches[d.batch].Params.Op == kernel.Quantize {
						elements += d.count * 4096
					}
				}
				assert.LessOrEqual(t, elements, 2<<20)
			}
			for i, job := range l.jobs {
				want := 1
				if job < 0 {
					want = 0
				}
				if seen[i] != want {
					t.Fatalf("tile %d is dispatched %d times", i, seen[i])
				}
			}
		})
	}
}
