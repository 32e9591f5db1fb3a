package kernel

import (
	"fmt"
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
)

// Check returns what is wrong with the batches of one Run, given slot memory of in and out bytes
// and the number of tallies. Every backend calls it first: on a GPU, a job that reached outside its
// slot would silently corrupt memory. It does not look for jobs whose destinations overlap; their
// result is undefined.
func Check(in, out int, batches []Batch, tallies int) error {
	n := 0
	for i := range batches {
		b := &batches[i]
		if err := b.Params.check(); err != nil {
			return err
		}
		for k := range b.Jobs {
			if err := b.Jobs[k].check(&b.Params, int64(in), int64(out)); err != nil {
				return fmt.Errorf("job %d of %s: %w", k, b.Params, err)
			}
		}
		n += len(b.Jobs)
	}
	if tallies != n {
		return fmt.Errorf("kernel: %d tallies for %d jobs", tallies, n)
	}
	return nil
}

func (p *Params) check() error {
	there := p.To.IsFloat() // a kernel with these parameters exists
	switch p.Op {
	case Dequant:
		there = there && p.From == dtype.F8E4M3 && isScale(p.ScaleType) && size(p.BlockRows) && size(p.BlockCols)
	case Cast, Copy, AddOne:
		there = there && p.From.IsFloat() && p.ScaleType == dtype.Invalid && p.BlockRows == 0 && p.BlockCols == 0 &&
			(p.Op != Copy || p.From == p.To) && (p.Op != AddOne || !p.Transposed)
	case Quantize:
		return p.checkQuantize()
	default:
		return fmt.Errorf("kernel: unknown operation %d", p.Op)
	}
	if !there {
		return fmt.Errorf("kernel: there is no %s", p)
	}
	return nil
}

func isScale(t dtype.DType) bool { return t.IsFloat() || t == dtype.F8E8M0 }

// size reports whether 32-bit indices can hold a count of rows, columns or elements.
func size(n int) bool { return n >= 1 && n <= math.MaxInt32 }

// place reports whether n is valid as an offset, stride or phase.
func place(n int) bool { return n >= 0 && n <= math.MaxInt32 }

func (j *Job) check(p *Params, in, out int64) error {
	if !size(j.Rows) || !size(j.Cols) {
		return fmt.Errorf("%d rows of %d columns", j.Rows, j.Cols)
	}
	if !place(j.Src) || !place(j.SrcStride) || !place(j.Dst) || !place(j.DstStride) || !place(j.Scale) || !place(j.ScaleStride) {
		return fmt.Errorf("an offset or stride is negative or beyond 2^31: %+v", *j)
	}
	if j.Rows > 1 && j.SrcStride < j.Cols {
		return fmt.Errorf("rows of %d columns overlap: source stride %d", j.Cols, j.SrcStride)
	}
	if p.Op == Quantize {
		return j.checkQuantize(p, in, out)
	}
	lines, length := j.Rows, j.Cols // of the result
	if p.Transposed {
		lines, length = length, lines
	}
	if lines > 1 && j.DstStride < length {
		return fmt.Errorf("lines of %d results overlap: destination stride %d", length, j.DstStride)
	}
	if int64(j.Dst)%p.To.Size() != 0 {
		return fmt.Errorf("destination at byte %d, not a multiple of %d", j.Dst, p.To.Size())
	}
	if err := inside("source", j.Src, j.Rows, j.SrcStride, j.Cols, p.From, in, "input"); err != nil {
		return err
	}
	if err := inside("destination", j.Dst, lines, j.DstStride, length, p.To, out, "output"); err != nil {
		return err
	}
	if p.Op != Dequant {
		return nil
	}
	return j.checkScales(p, in)
}

// checkScales checks the scales of a job's codes.
func (j *Job) checkScales(p *Params, in int64) error {
	if j.RowPhase < 0 || j.RowPhase >= p.BlockRows || j.ColPhase < 0 || j.ColPhase >= p.BlockCols {
		return fmt.Errorf("phase (%d, %d) outside a block of %dx%d", j.RowPhase, j.ColPhase, p.BlockRows, p.BlockCols)
	}
	down, across := p.Blocks(j)
	if down > 1 && j.ScaleStride < across {
		return fmt.Errorf("scale stride %d for rows of %d blocks", j.ScaleStride, across)
	}
	return inside("scales", j.Scale, down, j.ScaleStride, across, p.ScaleType, in, "input")
}

// inside checks the end of a strided matrix. It counts in elements, because their number times
// their size could overflow.
func inside(what string, at, rows, stride, cols int, t dtype.DType, limit int64, where string) error {
	last := int64(rows-1)*int64(stride) + int64(cols)
	if room := (limit - int64(at)) / t.Size(); int64(at) > limit || last > room {
		return fmt.Errorf("%s of %dx%d (stride %d) at byte %d beyond the %d bytes of the slot's %s", what, rows, cols, stride, at, limit, where)
	}
	return nil
}

// Blocks returns how many scale blocks a job touches, down and across.
func (p *Params) Blocks(j *Job) (down, across int) {
	return (j.RowPhase+j.Rows-1)/p.BlockRows + 1, (j.ColPhase+j.Cols-1)/p.BlockCols + 1
}
