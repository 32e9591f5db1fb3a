package cpufallback

import (
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

const (
	mostGroup = 128 // elements of the largest group
	// packCols is how many columns are packed side by side where groups run down them.
	packCols = 64
)

// packer takes the rows of a tile, dequantized or cast, and quantizes them.
type packer struct {
	r     *run
	w     *work // the job as it came
	t     tile
	from  dtype.DType // of the rows that come
	found kernel.Tally

	values [tileCols]float32             // a row
	block  [mostGroup * packCols]float32 // rows of one group's height, column by column
}

// quantize sends a tile through the kernels that dequantize or cast it, row by row into the packer.
func (r *run) quantize(s *scratch, w *work, t tile) kernel.Tally {
	p := &s.packer
	p.r, p.w, p.t, p.from, p.found = r, w, t, dtype.BF16, kernel.Tally{}
	inner := *w
	inner.packer, inner.Op, inner.To, inner.Transposed = p, kernel.Dequant, dtype.BF16, false
	if !w.Scaled() {
		p.from, inner.Op, inner.To = w.To, kernel.Cast, w.To
	}
	found := r.do(s, &inner, t)
	found.Add(p.found)
	return found
}

// row takes the results of a row.
func (p *packer) row(row int, line []byte) {
	values := p.values[:p.t.c1-p.t.c0]
	mlxquant.Widen(values, line, p.from)
	if p.from != p.w.To && p.w.To == dtype.F16 { // bf16 in float32 is exact, in float16 not
		for i, v := range values {
			x := widenF16(roundF16(canonical(math.Float32bits(v))))
			if x&0x7FFFFFFF == infinity && finite(v) {
				p.found.Overflow.At(row, p.t.c0+i, 1)
			}
			values[i] = math.Float32frombits(x)
		}
	}
	if p.w.Transposed {
		p.column(row, values)
		return
	}
	f := &p.w.Format
	codes, scales, biases := p.places(row, p.t.c0, p.w.Cols, len(values))
	if bad := p.w.quantizer.Row(codes, scales, biases, values); bad >= 0 {
		p.refuse(values, f.GroupSize, func(i int) (int, int) { return row, p.t.c0 + i })
	}
}

// column keeps a row until its group is complete, and then quantizes the group of every column.
func (p *packer) column(row int, values []float32) {
	size := p.w.Format.GroupSize
	at := (row - p.t.r0) % size
	for i, v := range values {
		p.block[i*size+at] = v
	}
	if at != size-1 {
		return
	}
	first := row - at
	for i := range values {
		group := p.block[i*size : (i+1)*size]
		codes, scales, biases := p.places(p.t.c0+i, first, p.w.Rows, size)
		if p.w.quantizer.Row(codes, scales, biases, group) >= 0 {
			p.refuse(group, size, func(k int) (int, int) { return first + k, p.t.c0 + i })
		}
	}
}

// places are where n elements of a row of the result go, from column first on; the row has cols columns.
func (p *packer) places(row, first, cols, n int) (codes, scales, biases []byte) {
	w := p.w
	at := w.Dst + row*w.Format.RowBytes(cols) + first/w.Format.GroupSize*w.Format.GroupBytes()
	size := int(w.Format.ScaleType(w.To).Size())
	group, groups := row*w.Format.Groups(cols)+first/w.Format.GroupSize, n/w.Format.GroupSize
	codes = p.r.out[at : at+w.Format.RowBytes(n)]
	scales = p.r.out[w.DstScale+group*size : w.DstScale+(group+groups)*size]
	if w.Format.BiasType(w.To) != dtype.Invalid {
		biases = p.r.out[w.DstBias+group*size : w.DstBias+(group+groups)*size]
	}
	return codes, scales, biases
}

// refuse counts what made groups unfit: elements that are not finite, but for those that dequantizing and casting have counted, or a range beyond
// the scale's type.
func (p *packer) refuse(values []float32, size int, place func(i int) (row, col int)) {
	for g := 0; g < len(values); g += size {
		group := values[g : g+size]
		bad := false
		for i, v := range group {
			if finite(v) {
				continue
			}
			bad = true
			row, col := place(g + i)
			if !p.w.Scaled() && !finite(p.source(row, col)) {
				p.found.NaN.At(row, col, 1)
			}
		}
		var codes [mostGroup]byte
		if !bad {
			if _, _, ok := p.w.quantizer.Group(codes[:p.w.Format.GroupBytes()], group); !ok {
				row, col := place(g)
				p.found.Overflow.At(row, col, 1)
			}
		}
	}
}

// source is an element before it was cast.
func (p *packer) source(row, col int) float32 {
	size := int(p.w.From.Size())
	return math.Float32frombits(widen(p.r.in[p.w.Src+(row*p.w.SrcStride+col)*size:], 0, p.w.From))
}

// planPacked chooses the tiles of a job that quantizes: they end where groups end.
func planPacked(p *kernel.Params, j *kernel.Job) plan {
	var x plan
	most, blockRows := tileCols, 1
	if p.Scaled() {
		blockRows = p.BlockRows
		blockCols := min(p.BlockCols, j.Cols)
		x.thin = min(p.BlockRows, j.Rows)*blockCols < thinBlock || (mostTables-1)*blockCols < p.Format.GroupSize && !p.Transposed
		if !x.thin {
			most = min(most, (mostTables-1)*blockCols)
		}
	}
	if p.Transposed {
		x.across = divide(j.Cols, 0, 1, min(most, packCols))
		x.down = divide(j.Rows, 0, p.Format.GroupSize, tileSize/x.across.step)
		return x
	}
	x.across = divide(j.Cols, 0, p.Format.GroupSize, most)
	x.down = divide(j.Rows, j.RowPhase, blockRows, max(1, tileSize/x.across.step))
	return x
}
