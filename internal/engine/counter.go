package engine

import (
	"cmp"
	"slices"

	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/internal/plan"
)

// counter counts by piece. Unfinished pieces are counted separately: a resumed run does them again,
// and counts them again.
type counter struct {
	done Counts
	open map[int32]*pieceCount
}

type pieceCount struct {
	tally kernel.Tally
	large Large
	nvfp4 Groups
}

func newCounter(earlier Counts) counter {
	earlier.Found = slices.Clone(earlier.Found)
	return counter{earlier, map[int32]*pieceCount{}}
}

// of returns the count of an unfinished piece.
func (c *counter) of(piece int32) *pieceCount {
	x := c.open[piece]
	if x == nil {
		x = new(pieceCount)
		c.open[piece] = x
	}
	return x
}

// settle marks pieces as done.
func (c *counter) settle(pieces []int32) {
	for _, i := range pieces {
		x := c.open[i]
		if x == nil {
			continue
		}
		delete(c.open, i)
		if x.tally.Any() || x.large.N > 0 {
			c.done.Found = append(c.done.Found, Found{i, x.tally, x.large})
		}
		c.done.NVFP4.add(x.nvfp4)
	}
}

// findings returns what finished pieces held, by source tensor, in the source's order.
func (c *counter) findings(p *plan.Plan) (findings []Finding) {
	found := slices.Clone(c.done.Found)
	slices.SortFunc(found, func(a, b Found) int { return cmp.Compare(a.Piece, b.Piece) })
	for _, f := range found {
		name := p.Pieces[f.Piece].Source.Name // a tensor's pieces follow each other
		if n := len(findings); n == 0 || findings[n-1].Tensor != name {
			findings = append(findings, Finding{Tensor: name})
		}
		last := &findings[len(findings)-1]
		last.Tally.Add(f.Tally)
		last.Large.add(f.Large)
	}
	return findings
}

// groups counts a window's nvfp4 groups by their scales, E4M3 codes without a sign.
func (c *counter) groups(s *slot) {
	segments := s.window.Segments
	for i := range s.window.Batches {
		b := &s.window.Batches[i]
		of := segments[:len(b.Jobs)]
		segments = segments[len(b.Jobs):]
		if b.Params.Op != kernel.Quantize || b.Params.Format.Mode != mlxquant.NVFP4 {
			continue
		}
		for k := range b.Jobs {
			j := &b.Jobs[k]
			_, _, _, n, _ := b.Params.Packed(j)
			g := Groups{All: n}
			for _, code := range s.mem.Out()[j.DstScale : j.DstScale+int(n)] {
				if code == 0 {
					g.Zeroed++
				} else if code < 8 {
					g.Coarse++
				}
			}
			c.of(of[k].Piece).nvfp4.add(g)
		}
	}
}

func (g *Groups) add(o Groups) {
	g.All += o.All
	g.Zeroed += o.Zeroed
	g.Coarse += o.Coarse
}
