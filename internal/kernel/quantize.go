package kernel

import (
	"fmt"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

// packed is one of the results of Quantize, a range of bytes in a slot's Out.
type packed struct {
	name        string
	at          int
	size, align int64
}

// Packed returns the rows and columns of a Quantize job's result, and the sizes in bytes of its
// codes, scales and biases.
func (p *Params) Packed(j *Job) (rows, cols int, codes, scales, biases int64) {
	rows, cols = j.Rows, j.Cols
	if p.Transposed {
		rows, cols = cols, rows
	}
	codes = int64(rows) * int64(p.Format.RowBytes(cols))
	groups := int64(rows) * int64(p.Format.Groups(cols))
	scales = groups * p.Format.ScaleType(p.To).Size()
	if t := p.Format.BiasType(p.To); t != dtype.Invalid {
		biases = groups * t.Size()
	}
	return rows, cols, codes, scales, biases
}

func (p *Params) checkQuantize() error {
	if err := p.Format.Check(); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	there := p.To.IsFloat() && (p.Profile == mlxquant.Metal || p.Profile == mlxquant.CPU)
	if p.From == dtype.F8E4M3 {
		there = there && isScale(p.ScaleType) && size(p.BlockRows) && size(p.BlockCols)
	} else {
		there = there && p.From.IsFloat() && p.ScaleType == dtype.Invalid && p.BlockRows == 0 && p.BlockCols == 0
	}
	if !there {
		return fmt.Errorf("kernel: there is no %s", p)
	}
	return nil
}

func (j *Job) checkQuantize(p *Params, in, out int64) error {
	if err := inside("source", j.Src, j.Rows, j.SrcStride, j.Cols, p.From, in, "input"); err != nil {
		return err
	}
	_, cols, codes, scales, biases := p.Packed(j)
	if err := p.Format.CheckRow(cols); err != nil {
		return err
	}
	size := p.Format.ScaleType(p.To).Size()
	for _, x := range []packed{{"codes", j.Dst, codes, 4}, {"scales", j.DstScale, scales, size}, {"biases", j.DstBias, biases, size}} {
		switch {
		case x.size == 0:
		case !place(x.at) || int64(x.at) > out || x.size > out-int64(x.at):
			return fmt.Errorf("%s of %d bytes at byte %d beyond the %d bytes of the slot's output", x.name, x.size, x.at, out)
		case int64(x.at)%x.align != 0:
			return fmt.Errorf("%s at byte %d, not a multiple of %d", x.name, x.at, x.align)
		}
	}
	if p.From != dtype.F8E4M3 {
		return nil
	}
	return j.checkScales(p, in)
}
