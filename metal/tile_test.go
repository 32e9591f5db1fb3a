package metal

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/internal/needtest"
)

// operands is where an element of the output comes from: byte offsets of its source element and its scale.
type operands struct{ src, scale int }

// expected goes through a job element by element.
func expected(p *kernel.Params, j *kernel.Job, to map[int]operands) {
	for r := range j.Rows {
		for c := range j.Cols {
			o := operands{src: j.Src + (r*j.SrcStride+c)*int(p.From.Size())}
			if p.Op == kernel.Dequant {
				o.scale = j.Scale + ((r+j.RowPhase)/p.BlockRows*j.ScaleStride+(c+j.ColPhase)/p.BlockCols)*int(p.ScaleType.Size())
			}
			at := r*j.DstStride + c
			if p.Transposed {
				at = c*j.DstStride + r
			}
			to[j.Dst+at*int(p.To.Size())] = o
		}
	}
}

// expectedGroups goes through a job that quantizes: for every group, by the place of its codes, those of its scale, its bias and every element's operands.
func expectedGroups(p *kernel.Params, j *kernel.Job, to map[int]group) {
	lines, cols, _, _, _ := p.Packed(j)
	size, unit := p.Format.GroupSize, int(p.Format.ScaleType(p.To).Size())
	for line := range lines {
		for k := range cols / size {
			n := line*(cols/size) + k
			g := group{scale: j.DstScale + n*unit, bias: j.DstBias + n*unit}
			for i := range size {
				r, c := line, k*size+i
				if p.Transposed {
					r, c = c, r
				}
				o := operands{src: j.Src + (r*j.SrcStride+c)*int(p.From.Size())}
				if p.Scaled() {
					o.scale = j.Scale + ((r+j.RowPhase)/p.BlockRows*j.ScaleStride+(c+j.ColPhase)/p.BlockCols)*int(p.ScaleType.Size())
				}
				g.elements = append(g.elements, o)
			}
			to[j.Dst+n*p.Format.GroupBytes()] = g
		}
	}
}

type group struct {
	scale, bias int
	elements    []operands
}

// coveredGroups goes through tiles as the kernel does.
func coveredGroups(t *testing.T, l *layout, p *kernel.Params) map[int]group {
	got := map[int]group{}
	unit := uint32(p.Format.ScaleType(p.To).Size())
	for _, x := range l.quantize {
		assert.LessOrEqual(t, x.rows*x.cols, uint32(runLength))
		lines, length := x.rows, x.cols
		if x.transposed == 1 {
			lines, length = length, lines
		}
		assert.Zero(t, length%x.group)
		for line := range lines {
			for k := range length / x.group {
				n := line*x.lineGroups + k
				g := group{scale: int(x.scales + n*unit), bias: int(x.biases + n*unit)}
				for i := range x.group {
					r, c := line, k*x.group+i
					if x.transposed == 1 {
						r, c = c, r
					}
					o := operands{src: int(x.src + (r*x.srcStride+c)*uint32(p.From.Size()))}
					if p.Scaled() {
						o.scale = int(x.scale + ((r+x.rowPhase)/x.blockRows*x.scaleStride+(c+x.colPhase)/x.blockCols)*uint32(p.ScaleType.Size()))
					}
					g.elements = append(g.elements, o)
				}
				at := int(x.codes + line*x.lineBytes + k*uint32(p.Format.GroupBytes()))
				if _, twice := got[at]; twice {
					t.Fatalf("the group at byte %d is written twice", at)
				}
				got[at] = g
			}
		}
	}
	return got
}

// TestTilesCoverEveryGroupOnce compares tiles with the contract's own indices, for jobs of any geometry and what is cut out of them.
func TestTilesCoverEveryGroupOnce(t *testing.T) {
	needtest.Alone(t)
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 2))
		side := func() int { return []int{1, 3, 16, 32, 128, 200, 1 << 20, math.MaxInt32}[rng.IntN(8)] }
		f := []mlxquant.Format{mlxquant.Affine.Default(), {Mode: mlxquant.Affine, Bits: 3, GroupSize: 128}, mlxquant.MXFP4.Default(), mlxquant.NVFP4.Default()}[rng.IntN(4)]
		p := kernel.Params{Op: kernel.Quantize, From: dtype.F8E4M3, To: dtype.F32, ScaleType: dtype.F16, BlockRows: side(), BlockCols: side(), Format: f, Transposed: seed%2 == 1}
		if rng.IntN(3) == 0 {
			p.From, p.ScaleType, p.BlockRows, p.BlockCols = dtype.BF16, dtype.Invalid, 0, 0
		}
		b := kernel.Batch{Params: p}
		want, cut := map[int]group{}, map[int]group{}
		dst := 0
		for range 3 {
			j := kernel.Job{Rows: 1 + rng.IntN(1<<rng.IntN(8)), Cols: (1 + rng.IntN(1<<rng.IntN(7))) * f.GroupSize, Src: rng.IntN(1000), Scale: rng.IntN(1000)}
			if p.Transposed {
				j.Rows, j.Cols = j.Cols, j.Rows
			}
			j.SrcStride = j.Cols + rng.IntN(3)
			if p.Scaled() {
				j.RowPhase, j.ColPhase = rng.IntN(p.BlockRows), rng.IntN(p.BlockCols)
				_, across := p.Blocks(&j)
				j.ScaleStride = across + rng.IntN(2)
			}
			dst = placePacked(&p, &j, dst)
			expectedGroups(&p, &j, want)
			groupRectangles(&p, &j, 128+rng.IntN(5000), func(r, c, rows, cols int) {
				k := part(&p, &j, r, c, rows, cols, 0)
				piece := map[int]group{}
				expectedGroups(&p, &k, piece)
				_, long, _, _, _ := p.Packed(&k)
				for n := range len(piece) {
					y, x := n/f.Groups(long), n%f.Groups(long)*f.GroupSize // of the result
					if p.Transposed {
						y, x = x, y
					}
					at := packedAt(&p, &j, r+y, c+x)
					cut[at[0]] = group{at[1], at[2], piece[k.Dst+n*f.GroupBytes()].elements}
				}
			})
			b.Jobs = append(b.Jobs, j)
		}
		var l layout
		l.plan([]kernel.Batch{b})
		require.Equal(t, want, coveredGroups(t, &l, &p), "seed %d: %s", seed, p)
		require.Equal(t, want, cut, "seed %d: %s", seed, p)
	}
}

// covered goes through tiles as the kernels do, and demands that no element is written twice.
func covered(t *testing.T, l *layout, batches []kernel.Batch) map[int]operands {
	got := map[int]operands{}
	put := func(at uint32, o operands) {
		if _, twice := got[int(at)]; twice {
			t.Fatalf("the result at byte %d is written twice", at)
		}
		got[int(at)] = o
	}
	place := func(p *kernel.Params, dst, stride, turned, r, c uint32) uint32 {
		if turned == 1 {
			r, c = c, r
		}
		return dst + (r*stride+c)*uint32(p.To.Size())
	}
	for _, d := range l.dispatches {
		p := &batches[d.batch].Params
		if p.Op != kernel.Dequant {
			for _, x := range l.plain[:d.count] {
				assert.LessOrEqual(t, x.rows*x.cols, uint32(runLength))
				for r := range x.rows {
					for c := range x.cols {
						put(place(p, x.dst, x.dstStride, x.transposed, r, c), operands{src: int(x.src + (r*x.srcStride+c)*uint32(p.From.Size()))})
					}
				}
			}
			l.plain = l.plain[d.count:]
			continue
		}
		if d.kernel[:4] == "thin" {
			for _, x := range l.thin[:d.count] {
				for r := range x.rows {
					for c := range x.cols {
						block := (r+x.rowPhase)/x.blockRows*x.scaleStride + (c+x.colPhase)/x.blockCols
						put(place(p, x.dst, x.dstStride, x.transposed, r, c), operands{int(x.src + r*x.srcStride + c), int(x.scale + block*uint32(p.ScaleType.Size()))})
					}
				}
			}
			l.thin = l.thin[d.count:]
			continue
		}
		for _, x := range l.table[:d.count] {
			assert.LessOrEqual(t, x.rows, uint32(tileRows))
			assert.LessOrEqual(t, x.rows*x.cols, uint32(tileRows*tileCols))
			for r := range x.rows {
				for c := range x.cols {
					put(place(p, x.dst, x.dstStride, x.transposed, r, c), operands{int(x.src + r*x.srcStride + c), int(x.scale)})
				}
			}
		}
		l.table = l.table[d.count:]
	}
	return got
}

// TestTilesCoverEveryElementOnce compares tiles with the contract's own indices, for jobs of any geometry.
func TestTilesCoverEveryElementOnce(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			var batches []kernel.Batch
			want := map[int]operands{}
			jobs, dst := 0, 0
			for range 1 + rng.IntN(3) {
				side := func() int { return []int{1, 3, 16, 32, 128, 200, 1 << 20, math.MaxInt32}[rng.IntN(8)] }
				b := kernel.Batch{Params: kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.F32,
					BlockRows: side(), BlockCols: side(), Transposed: rng.IntN(3) == 0}}
				switch turned := b.Params.Transposed; rng.IntN(8) {
				case 0:
					b.Params = kernel.Params{Op: kernel.Cast, From: dtype.F32, To: dtype.F16, Transposed: turned}
				case 1:
					b.Params = kernel.Params{Op: kernel.Copy, From: dtype.BF16, To: dtype.BF16, Transposed: turned}
				case 2:
					b.Params = kernel.Params{Op: kernel.AddOne, From: dtype.F16, To: dtype.F32}
				case 3:
					b.Params.ScaleType = dtype.F8E8M0
				}
				for range 1 + rng.IntN(4) {
					j := kernel.Job{Rows: 1 + rng.IntN(1<<rng.IntN(9)), Cols: 1 + rng.IntN(1<<rng.IntN(9)), Src: rng.IntN(1000), Scale: rng.IntN(1000), Dst: dst}
					j.SrcStride = j.Cols + rng.IntN(3)
					j.DstStride = max(j.Rows, j.Cols) + rng.IntN(3)
					if b.Params.Op == kernel.Dequant {
						j.RowPhase, j.ColPhase = rng.IntN(b.Params.BlockRows), rng.IntN(b.Params.BlockCols)
						_, across := b.Params.Blocks(&j)
						j.ScaleStride = across + rng.IntN(2)
					}
					dst += (max(j.Rows, j.Cols) + 1) * (j.DstStride + 1) * 4
					expected(&b.Params, &j, want)
					b.Jobs = append(b.Jobs, j)
					jobs++
				}
				batches = append(batches, b)
			}
			var l layout
			l.plan(batches)
			for _, d := range l.dispatches {
				assert.Zero(t, d.offset%256)
				assert.Zero(t, d.first%align)
				for _, job := range l.jobs[d.first : d.first+d.count] {
					assert.GreaterOrEqual(t, job, int32(0))
					assert.Less(t, int(job), jobs)
				}
			}
			require.Equal(t, want, covered(t, &l, batches))
		})
	}
}

// TestPartIsTheSameJob cuts jobs into rectangles and demands the operands of the whole.
func TestPartIsTheSameJob(t *testing.T) {
	for turned, n := range map[bool]int{false: 20, true: 70} { // less than a row; three columns
		p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16, BlockRows: 5, BlockCols: 7, Transposed: turned}
		j := kernel.Job{Rows: 23, Cols: 31, Src: 11, SrcStride: 33, Dst: 4, DstStride: 40, Scale: 3, ScaleStride: 9, RowPhase: 2, ColPhase: 6}
		whole, parts := map[int]operands{}, map[int]operands{}
		expected(&p, &j, whole)
		rectangles(&j, turned, n, func(r, c, rows, cols int) {
			k := part(&p, &j, r, c, rows, cols, 0)
			piece := map[int]operands{}
			expected(&p, &k, piece)
			for y := range rows {
				for x := range cols {
					parts[j.Dst+p.OutAt(&j, r+y, c+x)*2] = piece[p.OutAt(&k, y, x)*2]
				}
			}
		})
		assert.Equal(t, whole, parts)
	}
}

func TestStatusTellsWhatHappened(t *testing.T) {
	assert.False(t, status{}.ran())
	assert.True(t, status{done: kDone}.ran())
	assert.False(t, status{done: kDone}.sawSomething(0))
	assert.True(t, status{done: kDone, met: kMetOverflow}.sawSomething(0))
	assert.True(t, status{done: kDone}.sawSomething(kMetNaN))
}

// Rows that each have a scale of their own make long tiles, not tables for 128 codes; and go to the thin kernel where they become columns.
func TestScalesOfRows(t *testing.T) {
	p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.F32, BlockRows: 1, BlockCols: 2048}
	job := kernel.Job{Rows: 100, Cols: 2048, SrcStride: 2048, DstStride: 2048, ScaleStride: 1}
	var l layout
	l.plan([]kernel.Batch{{Params: p, Jobs: []kernel.Job{job}}})
	assert.Len(t, l.table, 100)
	p.Transposed = true
	job.DstStride = 100
	l.plan([]kernel.Batch{{Params: p, Jobs: []kernel.Job{job}}})
	assert.Empty(t, l.table)
	assert.LessOrEqual(t, len(l.thin), 100*2048/runLength*2)
}
