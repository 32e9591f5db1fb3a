// Package kernel is the contract between the data plane and the backends that compute: what a job is, where its operands
// lie, and what its result must be to the bit. Backends differ in speed only: equal jobs give equal bytes.
//
// # Arithmetic
//
// Dequantization gives, for a code c and the scale s of its block,
//
//	out = RNE_to( RNE_f32( f32(e4m3fn(c)) * f32(s) ) )
//
// that is, the product rounded to float32 and then to the output type, each time to nearest with ties to even, subnormal results
// included. Scales of other types are widened to float32 exactly. The sign of zero is kept. Every NaN result is the canonical one:
// bf16 0x7FC0, f16 0x7E00, f32 0x7FC00000. This is what DeepSeek's fp8_cast_bf16, compressed-tensors and MLX compute for finite input.
//
// E4M3FN (OCP 8-bit floating point specification, revision 1.0): sign, 4 exponent bits with bias 7, 3 mantissa bits; exponent 0
// is subnormal, there is no infinity, 0x7F and 0xFF are NaN, the greatest value is 448.
//
// E8M0, a type of scales (OCP microscaling formats specification, version 1.0): the byte b is 2^(b-127), always positive, and 0xFF is
// NaN. The least, 2^-127, is subnormal in float32 and counts in full.
//
// A cast widens exactly or rounds to nearest even, with the same canonical NaNs. A copy keeps every bit, those of NaNs included.
//
// Adding one gives, for an element x,
//
//	out = RNE_to( RNE_from( RNE_f32( f32(x) + 1 ) ) )
//
// which is v + 1.0 on an MLX array of type from, followed by a cast: there a Python scalar takes the array's type, and the sum is
// rounded to it. -1 gives +0.
//
// Quantizing gives what mlx.core.quantize gives for the matrix in type To; package mlxquant has the arithmetic. Codes are first dequantized to bf16, and
// what is not of type To is cast to it, as mlx_lm.convert does with a bf16 checkpoint.
package kernel

import (
	"context"
	"fmt"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

// Op is what a kernel does with an element.
type Op uint8

const (
	// Dequant multiplies E4M3FN codes by their block's scale.
	Dequant Op = iota + 1
	// Cast converts between float16, bfloat16 and float32.
	Cast
	// Copy moves elements bit for bit.
	Copy
	// AddOne adds 1 to each element and then casts: norm weights, which MLX keeps as what they multiply by.
	AddOne
	// Quantize dequantizes or casts, and packs rows in one of MLX's formats.
	Quantize
)

// Params selects a kernel. It is comparable: jobs of equal Params run in one dispatch.
type Params struct {
	Op        Op
	From      dtype.DType // F8E4M3 for Dequant; else F16, BF16 or F32
	To        dtype.DType // F16, BF16 or F32; that of From for Copy
	ScaleType dtype.DType // F32, BF16, F16 or F8E8M0; Invalid but for Dequant
	BlockRows int         // rows of a scale block, at least 1; 0 but for Dequant. A block may be larger than its matrix
	BlockCols int         // columns of a scale block
	// Transposed puts the element of row r and column c at Dst + (c*DstStride + r) elements. Not for AddOne. Quantize then packs columns.
	Transposed bool
	Format     mlxquant.Format  // of Quantize; else zero
	Profile    mlxquant.Profile // whose bits Quantize gives
}

// Scaled tells that the source is codes with scales.
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

// OutAt is where a job's element of row r and column c goes, in elements from the job's Dst.
func (p *Params) OutAt(j *Job, r, c int) int {
	if p.Transposed {
		return c*j.DstStride + r
	}
	return r*j.DstStride + c
}

// Job is one matrix, or a rectangle of one, inside a slot. Offsets are in bytes and need no alignment in In; Dst is a multiple of the output
// element's size. Strides are in elements. A vector is a matrix of one row. Counts are at least 1; everything fits 31 bits (Check).
type Job struct {
	Rows, Cols  int
	Src         int // of the first element, in the slot's In
	SrcStride   int // elements from one row to the next
	Dst         int // of the first element, in the slot's Out
	DstStride   int // elements from one row to the next; where the result is transposed, from one column to the next
	Scale       int // of the scale of the first element's block, in the slot's In
	ScaleStride int // scales from one row of blocks to the next
	RowPhase    int // rows of the first block that lie before this rectangle, below BlockRows
	ColPhase    int // columns of the first block that lie before it, below BlockCols
	DstScale    int // of Quantize: of the first scale, in the slot's Out; scales of successive rows follow each other
	DstBias     int // and of the first bias, where the format has biases. Quantize has packed rows follow each other too: it has no DstStride
}

// Batch is the jobs of one window that share their Params.
type Batch struct {
	Params Params
	Jobs   []Job
}

// Spot counts occurrences and keeps the first one's place, in row-major order.
type Spot struct {
	N        int64
	Row, Col int // relative to the job's rectangle
}

// Tally is what a job met that a sound checkpoint does not hold. Results are complete all the same.
type Tally struct {
	NaN      Spot `json:"nan,omitzero"`      // E4M3 codes 0x7F and 0xFF (Dequant, Quantize); elements of other types that are NaN or infinite (Quantize)
	Scale    Spot `json:"scale,omitzero"`    // NaN or infinite scales, by the row and column of the first element that uses them; N counts scales (Dequant, Quantize)
	Overflow Spot `json:"overflow,omitzero"` // finite values that became infinite: a finite code times a finite scale beyond the output's range (for Quantize: bf16's, then To's), or the operand of a cast or of AddOne
}

// Slot is the memory of one window in flight: pread lands in In, pwrite leaves from Out. Both are page aligned.
type Slot interface {
	In() []byte
	Out() []byte
}

// Backend runs jobs.
type Backend interface {
	// Name is "cpu" or "metal".
	Name() string
	// NewSlot allocates a slot of the given sizes in bytes, once, at start.
	NewSlot(in, out int) (Slot, error)
	// Run executes all jobs of a window and returns when their results are in the slot's Out; bytes of Out that no job covers stay as
	// they are. tallies has one element for each job, in the order of the batches; Run overwrites it. Run may be called from
	// several goroutines with different slots. It allocates nothing that grows with the number of calls. Jobs that Check refuses
	// are an error and nothing runs. When ctx ends, Run returns its error and the contents of Out and tallies are undefined.
	Run(ctx context.Context, s Slot, batches []Batch, tallies []Tally) error
	// InFlight is how many Runs should overlap, each with a slot of its own: more than one where a Run waits for a device.
	InFlight() int
	// Close releases the backend and its slots.
	Close() error
}

// At adds an occurrence at (row, col), n of them, keeping the earliest place.
func (s *Spot) At(row, col int, n int64) {
	if s.N == 0 || row < s.Row || row == s.Row && col < s.Col {
		s.Row, s.Col = row, col
	}
	s.N += n
}

// Add merges the counts of another part of the same job.
func (t *Tally) Add(o Tally) {
	for _, p := range []struct{ to, from *Spot }{{&t.NaN, &o.NaN}, {&t.Scale, &o.Scale}, {&t.Overflow, &o.Overflow}} {
		if p.from.N > 0 {
			p.to.At(p.from.Row, p.from.Col, p.from.N)
		}
	}
}

// Any tells whether there is something to report.
func (t *Tally) Any() bool { return t.NaN.N|t.Scale.N|t.Overflow.N != 0 }
