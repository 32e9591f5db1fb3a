// Package enginetest has what tests of the engine and of what it writes into share: a backend that
// computes one element at a time, and checkpoints of odd shapes.
package enginetest

import (
	"context"
	"encoding/binary"
	"math"
	"sync/atomic"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

// Naive is a backend that computes one element at a time in float64; its results are right for the
// values that these tests use.
type Naive struct{ runs atomic.Int64 }

type memory struct{ in, out []byte }

func (m *memory) In() []byte  { return m.in }
func (m *memory) Out() []byte { return m.out }

// Name implements kernel.Backend.
func (*Naive) Name() string { return "naive" }

// InFlight implements kernel.Backend.
func (*Naive) InFlight() int { return 3 }

// Close implements kernel.Backend.
func (*Naive) Close() error { return nil }

// NewSlot implements kernel.Backend.
func (*Naive) NewSlot(in, out int) (kernel.Slot, error) {
	m := &memory{make([]byte, in), make([]byte, out)}
	for i := range m.out {
		m.out[i] = 0xA5
	}
	return m, nil
}

// Run implements kernel.Backend.
func (n *Naive) Run(ctx context.Context, s kernel.Slot, batches []kernel.Batch, tallies []kernel.Tally) error {
	n.runs.Add(1)
	k := 0
	for _, b := range batches {
		for _, j := range b.Jobs {
			tallies[k] = kernel.Tally{}
			if b.Params.Op == kernel.Quantize {
				pack(s, &b.Params, &j, &tallies[k])
				k++
				continue
			}
			for r := range j.Rows {
				for c := range j.Cols {
					element(s, &b.Params, &j, r, c, &tallies[k])
				}
			}
			k++
		}
	}
	return ctx.Err()
}

func element(s kernel.Slot, p *kernel.Params, j *kernel.Job, r, c int, t *kernel.Tally) {
	at := r*j.DstStride + c
	if p.Transposed {
		at = c*j.DstStride + r
	}
	out := s.Out()[j.Dst+at*int(p.To.Size()):]
	switch in := s.In()[j.Src+(r*j.SrcStride+c)*int(p.From.Size()):]; p.Op {
	case kernel.Cast:
		Store(out, p.To, Load(in, p.From))
		return
	case kernel.Copy:
		copy(out[:p.To.Size()], in)
		return
	case kernel.AddOne:
		Store(out, p.To, Load(in, p.From)+1)
		return
	}
	code := s.In()[j.Src+r*j.SrcStride+c]
	at = j.Scale + ((r+j.RowPhase)/p.BlockRows*j.ScaleStride+(c+j.ColPhase)/p.BlockCols)*int(p.ScaleType.Size())
	scale := Load(s.In()[at:], p.ScaleType)
	if code&0x7F == 0x7F {
		t.NaN.At(r, c, 1)
	}
	if math.IsNaN(float64(scale)) || math.IsInf(float64(scale), 0) {
		t.Scale.At(r, c, 1)
	}
	Store(out, p.To, float32(float64(Code(code))*float64(scale)))
}

// Load widens the first value of b.
func Load(b []byte, t dtype.DType) float32 {
	if t == dtype.BF16 {
		return math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)
	}
	return math.Float32frombits(binary.LittleEndian.Uint32(b))
}

// Store writes v, which the tests choose so that only rounding to nearest even is right.
func Store(b []byte, t dtype.DType, v float32) {
	w := math.Float32bits(v)
	if t == dtype.F32 {
		binary.LittleEndian.PutUint32(b, w)
		return
	}
	binary.LittleEndian.PutUint16(b, uint16((w+0x7FFF+w>>16&1)>>16))
}

// Code returns the value of a code.
func Code(c byte) float32 { return codes[c] }

// codes has the value of each E4M3 code, by its definition.
var codes = func() (v [256]float32) {
	for c := range v {
		v[c] = decode(byte(c))
	}
	return v
}()

func decode(c byte) float32 {
	e, m := int(c>>3&15), float64(c&7)
	v := math.Ldexp(8+m, e-10)
	if e == 0 {
		v = math.Ldexp(m, -9)
	}
	if c&0x7F == 0x7F {
		v = math.NaN()
	}
	if c >= 128 {
		v = -v
	}
	return float32(v)
}

// pack quantizes a job row by row. The tests are about which rows the engine asks for and where it
// puts them, not about the arithmetic.
func pack(s kernel.Slot, p *kernel.Params, j *kernel.Job, t *kernel.Tally) {
	rows, cols, codes, scales, biases := p.Packed(j)
	values := make([]byte, j.Rows*j.Cols*2)
	inner := *p
	inner.Op, inner.To, inner.Transposed = kernel.Cast, dtype.BF16, false
	if p.Scaled() {
		inner.Op = kernel.Dequant
	}
	to := *j
	to.Dst, to.DstStride = 0, j.Cols
	at := &memory{s.In(), values}
	for r := range j.Rows {
		for c := range j.Cols {
			element(at, &inner, &to, r, c, t)
		}
	}
	matrix := make([]uint16, rows*cols)
	for i := range matrix {
		r, c := i/cols, i%cols
		if p.Transposed {
			r, c = c, r
		}
		matrix[i] = binary.LittleEndian.Uint16(values[2*(r*j.Cols+c):])
	}
	a, b, c := Quantized(matrix, rows, p.Format)
	copy(s.Out()[j.Dst:][:codes], a)
	copy(s.Out()[j.DstScale:][:scales], b)
	copy(s.Out()[j.DstBias:][:biases], c)
}

// Quantized packs the rows of a matrix of bf16.
func Quantized(matrix []uint16, rows int, f mlxquant.Format) (codes, scales, biases []byte) {
	q, err := mlxquant.New(f, mlxquant.CPU, dtype.BF16)
	if err != nil {
		panic(err)
	}
	cols := len(matrix) / rows
	size := int(f.ScaleType(dtype.BF16).Size()) * f.Groups(cols)
	codes, scales, biases = make([]byte, rows*f.RowBytes(cols)), make([]byte, rows*size), make([]byte, rows*size)
	values := make([]float32, cols)
	for r := range rows {
		for c := range cols {
			values[c] = math.Float32frombits(uint32(matrix[r*cols+c]) << 16)
		}
		q.Row(codes[r*f.RowBytes(cols):], scales[r*size:], biases[r*size:], values)
	}
	if f.Mode != mlxquant.Affine {
		biases = nil
	}
	return codes, scales, biases
}
