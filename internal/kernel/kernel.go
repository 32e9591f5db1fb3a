// Package kernel is the contract between the data plane and the backends that compute: what a job
// is, where its operands are, and what its result must be, bit for bit. Backends differ only in
// speed: equal jobs produce equal bytes.
//
// # Arithmetic
//
// Dequantization computes, for a code c and the scale s of its block,
//
//	out = RNE_to( RNE_f32( f32(e4m3fn(c)) * f32(s) ) )
//
// that is, the product rounded to float32 and then to the output type, each time to nearest with
// ties to even, subnormal results included. Scales of other types are widened to float32 exactly.
// The sign of zero is kept. Every NaN result is the canonical one: bf16 0x7FC0, f16 0x7E00, f32
// 0x7FC00000. This is what DeepSeek's fp8_cast_bf16, compressed-tensors and MLX compute for finite
// input.
//
// E4M3FN (OCP 8-bit floating point specification, revision 1.0) has a sign, 4 exponent bits with
// bias 7 and 3 mantissa bits. Exponent 0 is subnormal, there is no infinity, 0x7F and 0xFF are NaN,
// and the largest value is 448.
//
// E8M0, a type of scales (OCP microscaling formats specification, version 1.0): the byte b is
// 2^(b-127), always positive, and 0xFF is NaN. The smallest, 2^-127, is subnormal in float32 and is
// not flushed.
//
// A cast widens exactly or rounds to nearest even, with the same canonical NaNs. A copy keeps every
// bit, including those of NaNs.
//
// Adding one computes, for an element x,
//
//	out = RNE_to( RNE_from( RNE_f32( f32(x) + 1 ) ) )
//
// which is v + 1.0 on an MLX array of type from, followed by a cast: in MLX a Python scalar takes
// the array's type, and the sum is rounded to it. -1 becomes +0.
//
// Quantizing computes what mlx.core.quantize returns for the matrix in type To; package mlxquant
// has the arithmetic. Codes are first dequantized to bf16, and anything not of type To is cast to
// it, as mlx_lm.convert does with a bf16 checkpoint.
package kernel

import (
	"context"
	"fmt"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

// Op is what a kernel does to an element.
type Op uint8

const (
	// Dequant multiplies E4M3FN codes by their block's scale.
	Dequant Op = iota + 1
	// Cast converts between float16, bfloat16 and float32.
	Cast
	// Copy moves elements bit for bit.
	Copy
	// AddOne adds 1 to each element and then casts. It is for norm weights, which MLX stores as the
	// factor itself.
	AddOne
	// Quantize dequantizes or casts, and packs rows in one of MLX's formats.
	Quantize
)

// Params selects a kernel. It is comparable: jobs with equal Params run in one dispatch.
type Params struct {
	Op Op
	// F8E4M3 for Dequant; F8E4M3, F16, BF16 or F32 for Quantize; otherwise F16, BF16 or F32
	From dtype.DType
	To   dtype.DType // F16, BF16 or F32; equal to From for Copy
	// F32, BF16, F16 or F8E8M0 if the source is codes with scales; otherwise Invalid
	ScaleType dtype.DType
	// rows of a scale block, at least 1; 0 without scales. A block may be larger than its matrix
	BlockRows int
	BlockCols int // columns of a scale block
	// Transposed puts the element of row r and column c at Dst + (c*DstStride + r) elements. It is not
	// for AddOne. Quantize then packs columns.
	Transposed bool
	Format     mlxquant.Format  // of Quantize; otherwise zero
	Profile    mlxquant.Profile // whose bits Quantize produces
}

// Scaled reports whether the source is codes with scales.
func (p *Params) Scaled() bool { return p.Op == Dequant || p.Op == Quantize && p.From == dtype.F8E4M3 }

// String names the kernel in messages: "dequant F8_E4M3 128x128 BF16 -> BF16".
func (p Params) String() string {
	s := ""
	switch p.Op {
	case Dequant:
		s = fmt.Sprintf("dequant %s %dx%d %s -> %s", p.From, p.BlockRows, p.BlockCols, p.ScaleType, p.To)
	case Copy:
		s = fmt.Sprintf("copy %s", p.From)
	case AddOne:
		s = fmt.Sprintf("add one %s -> %s", p.From, p.To)
	case Quantize:
		s = fmt.Sprintf("quantize %s -> %s -> %s as %s", p.From, p.To, p.Format, p.Profile)
		if p.Scaled() {
			s = fmt.Sprintf("quantize %s %dx%d %s -> %s -> %s as %s", p.From, p.BlockRows, p.BlockCols, p.ScaleType, p.To, p.Format, p.Profile)
		}
	default:
		s = fmt.Sprintf("cast %s -> %s", p.From, p.To)
	}
	if p.Transposed {
		s += ", transposed"
	}
	return s
}

// OutAt returns where a job's element of row r and column c goes, in elements from the job's Dst.
func (p *Params) OutAt(j *Job, r, c int) int {
	if p.Transposed {
		return c*j.DstStride + r
	}
	return r*j.DstStride + c
}

// Job is one matrix, or a rectangle of one, inside a slot. Offsets are in bytes and need no
// alignment in In; Dst is a multiple of the output element's size. Strides are in elements. A
// vector is a matrix of one row. Counts are at least 1, and everything fits in 31 bits (see Check).
type Job struct {
	Rows, Cols int
	Src        int // of the first element, in the slot's In
	SrcStride  int // elements from one row to the next
	Dst        int // of the first element, in the slot's Out
	// elements from one row to the next, or from one column to the next if the result is transposed
	DstStride   int
	Scale       int // of the scale of the first element's block, in the slot's In
	ScaleStride int // scales from one row of blocks to the next
	RowPhase    int // rows of the first block that come before this rectangle, less than BlockRows
	ColPhase    int // columns of the first block that come before it, less than BlockCols
	// Quantize: of the first scale, in the slot's Out; the scales of successive rows are contiguous
	DstScale int
	// Quantize: of the first bias, if the format has biases. Packed rows are contiguous too, so there
	// is no DstStride
	DstBias int
}

// Batch is the jobs of one window that share their Params.
type Batch struct {
	Params Params
	Jobs   []Job
}

// Spot counts occurrences and keeps the row and column of the first, in row-major order.
type Spot struct {
	N        int64
	Row, Col int // relative to the job's rectangle
}

// Tally is what a job met that a sound checkpoint does not contain. Results are complete all the
// same.
type Tally struct {
	// E4M3 codes 0x7F and 0xFF (Dequant, Quantize), and elements of other types that are NaN or
	// infinite (Quantize).
	NaN Spot `json:"nan,omitzero"`
	// NaN or infinite scales (Dequant, Quantize). The spot is that of the first element that uses one;
	// N counts scales.
	Scale Spot `json:"scale,omitzero"`
	// Finite values that became infinite: a finite code times a finite scale beyond the output's range
	// (for Quantize: bf16's, then To's), or the operand of a cast or of AddOne.
	Overflow Spot `json:"overflow,omitzero"`
}

// Slot is the memory of one window in flight: pread reads into In, pwrite writes from Out. Both are
// page aligned.
type Slot interface {
	In() []byte
	Out() []byte
}

// Backend runs jobs.
type Backend interface {
	// Name is "cpu" or "metal".
	Name() string
	// NewSlot allocates a slot of the given sizes in bytes, once, at the start.
	NewSlot(in, out int) (Slot, error)
	// Run executes all jobs of a window and returns when their results are in the slot's Out; bytes of
	// Out that no job covers are unchanged. tallies has one element per job, in the order of the
	// batches; Run overwrites it. Run may be called from several goroutines with different slots. It
	// allocates nothing that grows with the number of calls. If Check refuses a job, Run returns the
	// error and runs nothing. When ctx ends, Run returns its error and the contents of Out and tallies
	// are undefined.
	Run(ctx context.Context, s Slot, batches []Batch, tallies []Tally) error
	// InFlight returns how many Runs should overlap, each with its own slot: more than one if Run
	// waits for a device.
	InFlight() int
	// Close releases the backend and its slots.
	Close() error
}

// At adds n occurrences, the first of them at (row, col), and keeps the earliest spot.
func (s *Spot) At(row, col int, n int64) {
	if s.N == 0 || row < s.Row || row == s.Row && col < s.Col {
		s.Row, s.Col = row, col
	}
	s.N += n
}

// Add merges the counts of another rectangle of the same job.
func (t *Tally) Add(o Tally) {
	for _, p := range []struct{ to, from *Spot }{{&t.NaN, &o.NaN}, {&t.Scale, &o.Scale}, {&t.Overflow, &o.Overflow}} {
		if p.from.N > 0 {
			p.to.At(p.from.Row, p.from.Col, p.from.N)
		}
	}
}

// Any reports whether there is anything to report.
func (t *Tally) Any() bool { return t.NaN.N|t.Scale.N|t.Overflow.N != 0 }
