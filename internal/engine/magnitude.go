package engine

import (
	"encoding/binary"
	"math"
	"sort"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// MostWeight is a magnitude that no weight of a model has. Those of published models stay below
// 100. A scale is A/448 for a block whose greatest weight is A; taken as its reciprocal, it turns
// that weight into 448*448/A, which is beyond 4096 for every A below 49. docs/families.md has the
// figures.
const MostWeight = 1 << 12

// Large describes the weights of a piece that are beyond MostWeight.
type Large struct {
	kernel.Spot
	Most float64 // the greatest magnitude, |code| * |scale|, exact
}

// add merges what another segment of the same piece holds.
func (l *Large) add(o Large) {
	if o.N > 0 {
		l.At(o.Row, o.Col, o.N)
		l.Most = max(l.Most, o.Most)
	}
}

var e4m3 = dtype.E4M3Values()

const (
	greatest = 0x7E // the code of 448
	nanCode  = 0x7F
)

// maybeLarge reports whether a code times this scale can be beyond MostWeight. Scales that are not
// finite are handled elsewhere.
func maybeLarge(scale float32) bool {
	s := math.Abs(float64(scale))
	return s*448 > MostWeight && s <= math.MaxFloat32
}

// leastLarge returns the least magnitude of a code that is beyond MostWeight with a scale for which
// there is one.
func leastLarge(scale float32) byte {
	s := math.Abs(float64(scale))
	return byte(sort.Search(greatest, func(c int) bool { return float64(e4m3[c])*s > MostWeight }))
}

// largeCodes counts the codes of at least this magnitude that are numbers, and returns the first
// one's index and the greatest magnitude.
func largeCodes(codes []byte, least byte) (n int64, first int, most byte) {
	for i, c := range codes {
		if c &= nanCode; c >= least && c != nanCode {
			if n == 0 {
				first = i
			}
			n++
			most = max(most, c)
		}
	}
	return n, first, most
}

// largeOf finds large weights in a job. It reads codes only in blocks whose scale allows one.
func largeOf(in []byte, p *kernel.Params, j *kernel.Job) (l Large) {
	size := int(p.ScaleType.Size())
	for down, top := 0, -j.RowPhase; top < j.Rows; down, top = down+1, top+p.BlockRows {
		for across, left := 0, -j.ColPhase; left < j.Cols; across, left = across+1, left+p.BlockCols {
			scale := p.ScaleType.Widen(in[j.Scale+(down*j.ScaleStride+across)*size:])
			if !maybeLarge(scale) {
				continue
			}
			least := leastLarge(scale)
			from, to := max(left, 0), min(left+p.BlockCols, j.Cols)
			for row := max(top, 0); row < min(top+p.BlockRows, j.Rows); row++ {
				at := j.Src + row*j.SrcStride
				if n, first, most := largeCodes(in[at+from:at+to], least); n > 0 {
					l.add(Large{kernel.Spot{N: n, Row: row, Col: from + first}, float64(e4m3[most]) * math.Abs(float64(scale))})
				}
			}
		}
	}
	return l
}

// measure checks all jobs of a window whose weights have scales.
func measure(in []byte, batches []kernel.Batch, large []Large) {
	for i := range batches {
		b := &batches[i]
		for k := range b.Jobs {
			large[k] = Large{}
			if b.Params.Scaled() {
				large[k] = largeOf(in, &b.Params, &b.Jobs[k])
			}
		}
		large = large[len(b.Jobs):]
	}
}

// Reciprocals describes scales of a window whose reciprocals a plan uses: N scales at From of the
// slot's In, and their reciprocals, in F32, at To.
type Reciprocals struct {
	Type     dtype.DType
	From, To int
	N        int
}

// invert computes reciprocals in float32, rounded to nearest even. That of zero is infinite, and
// refused like any infinite scale.
func (r *Reciprocals) invert(in []byte) {
	size := int(r.Type.Size())
	for i := range r.N {
		binary.LittleEndian.PutUint32(in[r.To+4*i:], math.Float32bits(1/r.Type.Widen(in[r.From+size*i:])))
	}
}
