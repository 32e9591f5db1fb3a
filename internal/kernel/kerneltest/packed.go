package kerneltest

import (
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// quantizeJob first computes the matrix in its type, then its groups.
func quantizeJob(in, out []byte, p *kernel.Params, j *kernel.Job, memo memo) (found kernel.Tally) {
	q := newQuantizer(p.Format, p.Profile, p.To)
	m := newMatrix(in, p, j, &found, memo)
	lines, cols, _, _, _ := p.Packed(j)
	group, bytes, size := p.Format.GroupSize, p.Format.GroupBytes(), int(p.Format.ScaleType(p.To).Size())
	w := make([]float64, group)
	for line := range lines {
		for g := range cols / group {
			at := func(i int) (row, col int) {
				if p.Transposed {
					return g*group + i, line
				}
				return line, g*group + i
			}
			sound := true
			for i := range w {
				row, col := at(i)
				w[i] = m[row*j.Cols+col]
				sound = sound && !math.IsNaN(w[i]) && !math.IsInf(w[i], 0)
			}
			r := q.group(w)
			if row, col := at(0); sound && !r.finite {
				noteAnywhere(&found.Overflow, row, col)
			}
			n := line*(cols/group) + g
			pack(out[j.Dst+n*bytes:], r.codes, p.Format.Bits)
			store(out[j.DstScale+n*size:], r.scale, size)
			if p.Format.BiasType(p.To) != dtype.Invalid {
				store(out[j.DstBias+n*size:], r.bias, size)
			}
		}
	}
	return found
}

// newMatrix returns the elements to quantize, and counts overflows and NaNs on the way there.
func newMatrix(in []byte, p *kernel.Params, j *kernel.Job, found *kernel.Tally, memo memo) (m []float64) {
	to, bf16 := formatOf(p.To), formatOf(dtype.BF16)
	m = make([]float64, 0, j.Rows*j.Cols)
	seen := map[[2]int]bool{}
	last, scale := [2]int{-1, -1}, 0.0
	var results *[256]entry
	for row := range j.Rows {
		for col := range j.Cols {
			var x float64
			sound := true // the source
			if p.Scaled() {
				block := [2]int{(j.RowPhase + row) / p.BlockRows, (j.ColPhase + col) / p.BlockCols}
				if block != last {
					last, scale = block, load(in, j.Scale, block[0]*j.ScaleStride+block[1], p.ScaleType)
					results = memo.of(scale, dtype.BF16)
				}
				code := in[j.Src+row*j.SrcStride+col]
				if sound = !math.IsNaN(scale) && !math.IsInf(scale, 0); !sound && !seen[block] {
					seen[block] = true
					note(&found.Scale, row, col)
				}
				if math.IsNaN(codes[code]) {
					sound = false
					note(&found.NaN, row, col)
				}
				x = bf16.value(recall(results, code, scale, bf16))
			} else {
				x = load(in, j.Src, row*j.SrcStride+col, p.From)
				if sound = !math.IsNaN(x) && !math.IsInf(x, 0); !sound {
					note(&found.NaN, row, col)
				}
			}
			x = to.value(to.round(x))
			if sound && math.IsInf(x, 0) {
				note(&found.Overflow, row, col)
			}
			m = append(m, x)
		}
	}
	return m
}

// noteAnywhere is note for elements that do not come in row-major order.
func noteAnywhere(s *kernel.Spot, row, col int) {
	if s.N == 0 || row < s.Row || row == s.Row && col < s.Col {
		s.Row, s.Col = row, col
	}
	s.N++
}
