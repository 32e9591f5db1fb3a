package engine

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/plan"
)

// choices turns fuzz input into choices; where it has ended every choice is the first.
type choices []byte

func (c *choices) n(limit int) int {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return int(b) % limit
}

func choose[T any](c *choices, list ...T) T { return list[c.n(len(list))] }

// geometry builds plans from choices, without a checkpoint.
type geometry struct {
	choices
	plan  *plan.Plan
	sizes []int64 // of the source shards
}

var (
	floats     = []dtype.DType{dtype.BF16, dtype.F16, dtype.F32}
	scaleTypes = []dtype.DType{dtype.BF16, dtype.F32, dtype.F16, dtype.F8E8M0}
	lengths    = []int64{1, 2, 3, 5, 8, 16, 31, 32, 33, 64, 100, 128, 129, 300, 700}
)

// source makes a source tensor at the end of a shard, now and then behind a gap.
func (g *geometry) source(name string, t dtype.DType, elements int64) *checkpoint.Tensor {
	shard := g.n(len(g.sizes))
	g.sizes[shard] += choose(&g.choices, int64(0), 0, 0, 1, 7, 5000)
	x := &checkpoint.Tensor{Name: name, DType: t, Shape: []int64{elements}, Shard: shard, Offset: g.sizes[shard], Size: elements * t.Size()}
	g.sizes[shard] += x.Size
	return x
}

// target makes an output tensor at the end of the last shard, or begins a shard.
func (g *geometry) target(t dtype.DType, elements int64) int {
	p := g.plan
	if len(p.Shards) == 0 || g.n(4) == 3 {
		p.Shards = append(p.Shards, plan.Shard{Name: fmt.Sprint(len(p.Shards)), Header: make([]byte, 16), Size: 16})
	}
	// Plans order tensors so that there is no gap; here bytes fill it.
	if odd := p.Shards[len(p.Shards)-1].Size % t.Size(); odd != 0 {
		g.moveTo(g.place(dtype.U8, t.Size()-odd))
	}
	return g.place(t, elements)
}

// place makes an output tensor at the end of the last shard.
func (g *geometry) place(t dtype.DType, elements int64) int {
	p := g.plan
	s := &p.Shards[len(p.Shards)-1]
	p.Tensors = append(p.Tensors, plan.Tensor{Name: fmt.Sprint(len(p.Tensors)), DType: t, Shard: len(p.Shards) - 1, Offset: s.Size, Size: elements * t.Size()})
	s.Size += elements * t.Size()
	return len(p.Tensors) - 1
}

func (g *geometry) move(n int64) { g.moveTo(g.target(dtype.U8, n)) }

// moveTo makes a piece that only moves.
func (g *geometry) moveTo(to int) {
	n := g.plan.Tensors[to].Size
	x := g.source("moved", dtype.U8, n)
	g.plan.Pieces = append(g.plan.Pieces, plan.Piece{Source: x, Rows: 1, Cols: n, Code: x.Offset, Target: to, Out: g.plan.Tensors[to].Offset})
}

// matrix makes a piece's source: rows by cols of codes with scales, or of another type; it takes
// the rows from row on.
func (g *geometry) matrix(p kernel.Params, row, rows, cols int64) plan.Piece {
	q := plan.Piece{Params: p, Row: row, Rows: rows, Cols: cols}
	if p.Scaled() && g.n(2) == 0 {
		g.scales(&q)
	}
	q.Source = g.source("matrix", p.From, (row+rows)*cols)
	q.Code = q.Source.Offset + row*cols*p.From.Size()
	if p.Scaled() && q.Scale == nil {
		g.scales(&q)
	}
	return q
}

func (g *geometry) scales(q *plan.Piece) {
	br, bc := int64(q.Params.BlockRows), int64(q.Params.BlockCols)
	down := (q.Row+q.Rows-1)/br + 1
	q.ScaleCols = (q.Cols-1)/bc + 1
	q.Scale = g.source("scales", q.Params.ScaleType, down*q.ScaleCols)
	q.Scales = q.Scale.Offset
}

// params chooses a kernel that computes.
func (g *geometry) params(transposed bool) kernel.Params {
	p := kernel.Params{Op: choose(&g.choices, kernel.Dequant, kernel.Dequant, kernel.Cast, kernel.Copy), From: choose(&g.choices, floats...),
		To: choose(&g.choices, floats...), Transposed: transposed}
	switch p.Op {
	case kernel.Copy:
		p.To = p.From
	case kernel.Dequant:
		g.scaled(&p)
	}
	return p
}

func (g *geometry) scaled(p *kernel.Params) {
	p.From, p.ScaleType = dtype.F8E4M3, choose(&g.choices, scaleTypes...)
	p.BlockRows, p.BlockCols = choose(&g.choices, 128, 1, 2, 24, 1000), choose(&g.choices, 128, 1, 32, 48, 1000)
}

// straight makes a matrix that stays as it lies.
func (g *geometry) straight() {
	p := g.params(false)
	rows, cols := choose(&g.choices, lengths...), choose(&g.choices, lengths...)
	if !p.Scaled() {
		rows, cols = 1, rows*cols
	}
	to := g.target(p.To, rows*cols)
	q := g.matrix(p, 0, rows, cols)
	q.Target, q.Out = to, g.plan.Tensors[to].Offset
	g.plan.Pieces = append(g.plan.Pieces, q)
}

// turned makes matrices whose columns lie side by side: gate and up, one alone, or three.
func (g *geometry) turned() {
	p := g.params(true)
	beside, matrices := 1+g.n(3), int64(1+g.n(2))
	rows, cols := choose(&g.choices, lengths...), choose(&g.choices, lengths...)
	line := int64(beside) * rows
	to := g.target(p.To, matrices*cols*line)
	for m := range matrices {
		for k := range int64(beside) {
			q := g.matrix(p, choose(&g.choices, int64(0), 0, 5, 130), rows, cols)
			q.Target, q.Line = to, line
			q.Out = g.plan.Tensors[to].Offset + (m*cols*line+k*rows)*p.To.Size()
			g.plan.Pieces = append(g.plan.Pieces, q)
		}
	}
}

// packed makes a matrix whose rows, or columns, are quantized.
func (g *geometry) packed() {
	f := choose(&g.choices, mlxquant.Affine.Default(), mlxquant.Format{Mode: mlxquant.Affine, Bits: 3, GroupSize: 32}, mlxquant.Format{Mode: mlxquant.Affine, Bits: 8, GroupSize: 128},
		mlxquant.MXFP4.Default(), mlxquant.MXFP8.Default(), mlxquant.NVFP4.Default())
	p := kernel.Params{Op: kernel.Quantize, From: choose(&g.choices, floats...), To: choose(&g.choices, floats...), Transposed: g.n(2) == 1, Format: f}
	if g.n(2) == 0 {
		g.scaled(&p)
	}
	groups := int64(f.GroupSize) * choose(&g.choices, int64(1), 2, 3, 7, 20)
	others, row := choose(&g.choices, lengths...), choose(&g.choices, int64(0), 0, 5, 130)
	q := g.matrix(p, row, others, groups)
	if p.Transposed {
		q = g.matrix(p, row, groups, others)
		q.Line = groups
	}
	n := others * groups
	q.Target = g.target(dtype.U32, n*int64(f.Bits)/32)
	q.Out = g.plan.Tensors[q.Target].Offset
	x := &plan.Packed{Scales: g.target(f.ScaleType(p.To), n/int64(f.GroupSize)), Biases: -1}
	x.ScalesOut = g.plan.Tensors[x.Scales].Offset
	if t := f.BiasType(p.To); t != dtype.Invalid {
		x.Biases = g.target(t, n/int64(f.GroupSize))
		x.BiasesOut = g.plan.Tensors[x.Biases].Offset
	}
	q.Packed = x
	g.plan.Pieces = append(g.plan.Pieces, q)
}

// FuzzWindows splits plans of random geometry into windows of several sizes, most of them far
// smaller than any that a memory limit gives: every element is read from its place, with its scale,
// and every byte of the output is written once, to its place, from there. Pieces are complete when
// they are said to be.
func FuzzWindows(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{1, 4, 1, 1, 0, 1, 0, 0, 0, 0, 11, 13, 0, 2, 0, 0})
	f.Add([]byte{0, 2, 2, 0, 0, 0, 1, 2, 1, 13, 12})
	f.Add([]byte{0, 3, 3, 0, 0, 1, 1, 0, 0, 2, 9, 3})
	chance(f, needtest.Rounds(60, 600), 80)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 200 {
			return
		}
		g := geometry{choices: b, plan: &plan.Plan{}, sizes: make([]int64, 1+g0(b)%2)}
		for range 1 + g.n(5) {
			choose(&g.choices, g.straight, g.turned, g.packed, func() { g.move(choose(&g.choices, lengths...) * 40) })()
		}
		var all int64
		for _, s := range g.plan.Shards {
			all += s.Size
		}
		if all > 192<<10 {
			return
		}
		slices.SortFunc(g.plan.Pieces, func(a, b plan.Piece) int {
			return cmp.Or(cmp.Compare(a.Source.Shard, b.Source.Shard), cmp.Compare(a.Code, b.Code))
		})
		for _, g.plan.Invert = range []bool{false, true} {
			for _, window := range []int64{4096, 20480, minWindow} {
				require.NoError(t, trace(g.plan, g.sizes, window))
			}
			tr, err := newTracer(g.plan)
			require.NoError(t, err)
			least := MinMemory(g.plan)
			// Slots stay within the limit: NewSchedule panics where they do not.
			for _, memory := range []int64{least, 4*least + 12345} {
				require.NoError(t, tr.run(NewSchedule(g.plan, memory), g.sizes))
			}
		}
	})
}

func g0(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	return int(b[len(b)-1])
}
