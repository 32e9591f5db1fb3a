package kerneltest

import (
	"encoding/binary"
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// Reference computes the jobs of a window, element by element, from in into out, and returns the
// expected tallies.
func Reference(in, out []byte, batches []kernel.Batch) (tallies []kernel.Tally) {
	memo := memo{}
	for i := range batches {
		for k := range batches[i].Jobs {
			p, j := &batches[i].Params, &batches[i].Jobs[k]
			switch p.Op {
			case kernel.Dequant:
				tallies = append(tallies, dequantJob(in, out, p, j, memo))
			case kernel.Quantize:
				tallies = append(tallies, quantizeJob(in, out, p, j, memo))
			default:
				tallies = append(tallies, plainJob(in, out, p, j))
			}
		}
	}
	return tallies
}

func dequantJob(in, out []byte, p *kernel.Params, j *kernel.Job, memo memo) (found kernel.Tally) {
	to, size := formatOf(p.To), int(p.To.Size())
	seen := map[[2]int]bool{}
	last, scale := [2]int{-1, -1}, 0.0
	var results *[256]entry
	large := min(p.BlockRows, j.Rows)*min(p.BlockCols, j.Cols) >= 32
	for row := range j.Rows {
		for col := range j.Cols {
			block := [2]int{(j.RowPhase + row) / p.BlockRows, (j.ColPhase + col) / p.BlockCols}
			if block != last {
				scale = load(in, j.Scale, block[0]*j.ScaleStride+block[1], p.ScaleType)
				if (math.IsNaN(scale) || math.IsInf(scale, 0)) && !seen[block] {
					seen[block] = true
					note(&found.Scale, row, col)
				}
				last, results = block, nil
				if large {
					results = memo.of(scale, p.To)
				}
			}
			code := in[j.Src+row*j.SrcStride+col]
			v := recall(results, code, scale, to)
			store(out[place(p, j, row, col):], v, size)
			if math.IsNaN(codes[code]) {
				note(&found.NaN, row, col)
			} else if to.isInf(v) && !math.IsInf(scale, 0) {
				note(&found.Overflow, row, col)
			}
		}
	}
	return found
}

// memo caches results, since elements of large blocks need the same ones again and again.
type memo map[key]*[256]entry

type key struct {
	scale uint64 // bits of float64
	to    dtype.DType
}

type entry struct {
	known bool
	bits  uint32
}

func (m memo) of(scale float64, to dtype.DType) *[256]entry {
	k := key{math.Float64bits(scale), to}
	if m[k] == nil {
		m[k] = new([256]entry)
	}
	return m[k]
}

func recall(known *[256]entry, code byte, scale float64, to format) uint32 {
	if known == nil {
		return dequant(code, scale, to)
	}
	if e := &known[code]; !e.known {
		*e = entry{true, dequant(code, scale, to)}
	}
	return known[code].bits
}

// plainJob is a job without scales.
func plainJob(in, out []byte, p *kernel.Params, j *kernel.Job) (found kernel.Tally) {
	from, to := formatOf(p.From), formatOf(p.To)
	size := int(p.To.Size())
	for row := range j.Rows {
		for col := range j.Cols {
			at := place(p, j, row, col)
			if p.Op == kernel.Copy {
				src := j.Src + size*(row*j.SrcStride+col)
				copy(out[at:at+size], in[src:src+size])
				continue
			}
			x := load(in, j.Src, row*j.SrcStride+col, p.From)
			v := to.round(x)
			if p.Op == kernel.AddOne {
				v = plusOne(x, from, to)
			}
			store(out[at:], v, size)
			if to.isInf(v) && !math.IsInf(x, 0) {
				note(&found.Overflow, row, col)
			}
		}
	}
	return found
}

// place returns where an element's result goes, in bytes.
func place(p *kernel.Params, j *kernel.Job, row, col int) int {
	if p.Transposed {
		row, col = col, row
	}
	return j.Dst + int(p.To.Size())*(row*j.DstStride+col)
}

// note is called in row-major order, so the first place is the first one noted.
func note(s *kernel.Spot, row, col int) {
	if s.N == 0 {
		s.Row, s.Col = row, col
	}
	s.N++
}

// load returns the value of the i-th element at a byte offset.
func load(b []byte, at, i int, t dtype.DType) float64 {
	switch t.Size() {
	case 1:
		return e8m0(b[at+i])
	case 2:
		return formatOf(t).value(uint32(binary.LittleEndian.Uint16(b[at+2*i:])))
	}
	return formatOf(t).value(binary.LittleEndian.Uint32(b[at+4*i:]))
}

func store(b []byte, v uint32, size int) {
	switch size {
	case 1:
		b[0] = byte(v)
	case 2:
		binary.LittleEndian.PutUint16(b, uint16(v))
	default:
		binary.LittleEndian.PutUint32(b, v)
	}
}
