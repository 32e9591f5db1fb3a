package cpufallback

import (
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

const (
	// tileSize is about how many elements a tile has: small enough to share a window among workers, large against what a tile costs.
	tileSize = 256 << 10
	// tileCols is about how many columns it has at most.
	tileCols = 8 << 10
	// turnCols is about how many where the result is transposed: each column is a cache line of its own until its tile is done.
	turnCols = 256
	// mostTables is how many blocks across a tile may have: with 16-bit results their tables take 32 KiB.
	mostTables = 64
	// thinBlock is the size of a block, in elements, below which multiplying each costs less than a table; thinBlockF16 is that for
	// float16, whose tables rarely come from steps of the exponent.
	thinBlock, thinBlockF16 = 64, 160
)

// tile is a rectangle of a job: rows [r0, r1) and columns [c0, c1).
type tile struct{ r0, r1, c0, c1 int }

// plan is how a job is cut into tiles.
type plan struct {
	down, across cut
	thin         bool
}

// planTiles chooses the tiles of a job.
func planTiles(p *kernel.Params, j *kernel.Job) plan {
	if p.Op == kernel.Quantize {
		return planPacked(p, j)
	}
	if p.Op != kernel.Dequant {
		most := tileSize
		if p.Transposed {
			most = turnCols
		} else if p.Op == kernel.AddOne {
			most = tileCols // which a worker's line holds
		}
		across := divide(j.Cols, 0, 1, most)
		return plan{down: divide(j.Rows, 0, 1, max(1, tileSize/across.step)), across: across}
	}
	blockRows, blockCols := min(p.BlockRows, j.Rows), min(p.BlockCols, j.Cols)
	least := thinBlock
	if p.To == dtype.F16 {
		least = thinBlockF16
	}
	x := plan{thin: blockRows*blockCols < least}
	most := tileCols
	if p.Transposed {
		most = turnCols
	}
	if !x.thin {
		most = min(most, mostTables*blockCols)
	}
	x.across = divide(j.Cols, j.ColPhase, p.BlockCols, most)
	x.down = divide(j.Rows, j.RowPhase, p.BlockRows, max(1, tileSize/x.across.step))
	return x
}

// tile is the i-th tile, row by row.
func (p *plan) tile(i int) (t tile) {
	t.r0, t.r1 = p.down.part(i / p.across.parts)
	t.c0, t.c1 = p.across.part(i % p.across.parts)
	return t
}

// cut divides a number of rows or columns into parts.
type cut struct {
	n, step, parts int
	skew           int // by how much the first part is shorter, so that the others begin with a block
}

// divide cuts n elements, the first of which lies phase into its block, into parts of about want. They end where blocks end, unless a
// block is much larger than a part.
func divide(n, phase, block, want int) cut {
	block = min(block, phase+n)
	c := cut{n: n, step: want}
	unit := 1
	if block <= 4*want {
		unit = block
		c.step = max(1, want/block) * block
		c.skew = phase
	}
	c.parts = (c.skew + n + c.step - 1) / c.step
	even := (c.skew + n + c.parts - 1) / c.parts
	c.step = (even + unit - 1) / unit * unit
	c.parts = (c.skew + n + c.step - 1) / c.step
	return c
}

func (c *cut) part(i int) (from, to int) {
	return max(0, i*c.step-c.skew), min(c.n, (i+1)*c.step-c.skew)
}
