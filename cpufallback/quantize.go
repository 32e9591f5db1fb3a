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

// packer takes the rows of a tile, dequantized or as they are, and quantizes them.
type packer struct {
	r     *run
	w     *work // the job as it came
	codes work  // the job that dequantizes them
	t     tile
	found kernel.Tally

	values [tileCols]float32             // a row
	block  [mostGroup * packCols]float32 // rows of one group's height, column by column
}

// quantize sends a tile row by row into the packer, codes through the kernels that dequantize them.
func (r *run) quantize(s *scratch, w *work, t tile) (found kernel.Tally) {
	p := &s.packer
	p.r, p.w, p.t, p.found = r, w, t, kernel.Tally{}
	if w.Scaled() {
		p.codes = *w
		p.codes.packer, p.codes.Op, p.codes.To, p.codes.Transposed = p, kernel.Dequant, dtype.BF16, false
		found = r.do(s, &p.codes, t)
	} else {
		for row := t.r0; row < t.r1; row++ {
			p.take(row, r.operands(w, row, t), w.From)
		}
	}
	found.Add(p.found)
	return found
}

// row takes the results of a row.
func (p *packer) row(row int, line []byte) { p.take(row, line, dtype.BF16) }

// take takes a row of some type.
func (p *packer) take(row int, line []byte, from dtype.DType) {
	values := p.values[:p.t.c1-p.t.c0]
	mlxquant.Widen(values, line, from)
	if from != p.w.To && p.w.To != dtype.F32 { // which holds all of them
		keep(values, p.w.To)
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

// keep rounds values to those of a type. What is not finite stays so; more is not asked.
func keep(values []float32, to dtype.DType) {
	for i, v := range values {
		b := math.Float32bits(v)
		a := b &^ (1 << 31)
		switch {
		case a >= infinity: // the greatest NaN would be carried into the sign
		case to == dtype.BF16:
			a = (a + 0x7FFF + a>>16&1) &^ 0xFFFF
		case a >= 0x477FF000: // 65520
			a = infinity
		case a >= 0x38800000: // 2^-14
			a = (a + 0xFFF + a>>13&1) &^ 0x1FFF
		default: // see roundF16
			a = math.Float32bits(math.Float32frombits(a) + 0.5 - 0.5)
		}
		values[i] = math.Float32frombits(a | b&(1<<31))
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

// refuse counts what made groups unfit: elements that are not finite, but for those that dequantizing has counted, or a range beyond the scale's type.
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
			switch src := p.source(row, col); {
			case finite(src): // before it was rounded to the matrix's type
				p.found.Overflow.At(row, col, 1)
			case !p.w.Scaled():
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

// source is an element before it was rounded to the matrix's type; of a code its product.
func (p *packer) source(row, col int) float32 {
	w := p.w
	if w.Scaled() {
		scale := loadScale(p.r.in, w, (w.RowPhase+row)/w.BlockRows, (w.ColPhase+col)/w.BlockCols)
		x := roundBF16(product(p.r.in[w.Src+row*w.SrcStride+col], scale))
		return math.Float32frombits(widenBF16(x))
	}
	size := int(w.From.Size())
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
