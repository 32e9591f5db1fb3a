package engine

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/metalcast/metalcast/internal/plan"
)

// Suspect is a piece that holds a weight beyond MostWeight, or a scale that has no reciprocal.
type Suspect struct {
	Piece    int32
	Row, Col int64 // of the weight, in the source tensor's matrix
	// Code and Scale are magnitudes, of the code and of what it is multiplied by. Scale is infinite
	// for a scale that has no reciprocal.
	Code, Scale float64
}

// Weight returns the weight's magnitude.
func (s *Suspect) Weight() float64 { return s.Code * s.Scale }

// Survey looks for weights beyond MostWeight, and with invert for scales without a reciprocal,
// before anything is written. It reads the scales of a plan, and codes where a scale allows such a
// weight. How much it reads of a piece is bounded: of long scales it reads four stretches, which
// reveals a tensor that is wrong as a whole, and of codes at most surveyCodes in surveyBlocks
// blocks; Run checks all of them. Suspects come in the order of the pieces. zero lists the pieces
// of which every scale that was read is zero, in the same order.
func Survey(ctx context.Context, p *plan.Plan, src Source, invert bool) (found []Suspect, zero []int32, err error) {
	s := surveyor{plan: p, src: src, invert: invert, seen: map[int32]*surveyed{}, some: make([]bool, len(p.Pieces))}
	list := scaleRanges(p)
	for len(list) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		n, end := together(p, list)
		off := list[0].off
		s.buf = slices.Grow(s.buf[:0], int(end-off))[:end-off]
		if err := src.ReadAt(p.Pieces[list[0].piece].Scale.Shard, s.buf, off); err != nil {
			return nil, nil, err
		}
		for i := range list[:n] {
			x := &list[i]
			if err := s.look(x, s.buf[x.off-off:x.off-off+x.n]); err != nil {
				return nil, nil, err
			}
		}
		list = list[n:]
	}
	slices.SortFunc(s.found, func(a, b Suspect) int { return cmp.Compare(a.Piece, b.Piece) })
	for i := range p.Pieces {
		if p.Pieces[i].Params.Scaled() && !s.some[i] {
			zero = append(zero, int32(i))
		}
	}
	return s.found, zero, nil
}

// Bounds of a survey.
const (
	wholeScales  = 16 << 10  // scales of a piece that are read whole, in bytes
	surveyPart   = 512       // or one in so many bytes of the piece's codes
	surveyRead   = 1 << 20   // bytes of scales per read, approximately
	surveyBytes  = 256 << 10 // bytes of one piece among them
	surveyCodes  = 1 << 20   // bytes of a piece's codes
	surveyBlocks = 64        // scale blocks of a piece whose codes are read
)

// scaleBytes is consecutive scales of a piece.
type scaleBytes struct {
	piece int32
	off   int64 // in the scales' shard
	n     int64 // bytes
	first int64 // number of the first scale within the piece
}

// scaleRanges lists the scales that a survey reads, in the order of their places.
func scaleRanges(p *plan.Plan) (list []scaleBytes) {
	for i := range p.Pieces {
		q := &p.Pieces[i]
		if !q.Params.Scaled() {
			continue
		}
		size := q.Params.ScaleType.Size()
		off, n := scaleRange(q, &segment{rows: q.Rows, cols: q.Cols})
		add := func(from, to int64) {
			for ; from < to; from += surveyBytes {
				list = append(list, scaleBytes{int32(i), off + from, min(surveyBytes, to-from), from / size})
			}
		}
		if n <= max(wholeScales, q.InBytes()/surveyPart) {
			add(0, n)
			continue
		}
		for k := range int64(4) {
			from := (n - wholeScales/4) * k / 3 / size * size
			add(from, from+wholeScales/4)
		}
	}
	shard := func(x *scaleBytes) int { return p.Pieces[x.piece].Scale.Shard }
	slices.SortFunc(list, func(a, b scaleBytes) int {
		return cmp.Or(cmp.Compare(shard(&a), shard(&b)), cmp.Compare(a.off, b.off), cmp.Compare(a.piece, b.piece))
	})
	return list
}

// together returns how many of the ranges one read takes, and where it ends.
func together(p *plan.Plan, list []scaleBytes) (n int, end int64) {
	shard := p.Pieces[list[0].piece].Scale.Shard
	end = list[0].off + list[0].n
	for n = 1; n < len(list); n++ {
		x := &list[n]
		if p.Pieces[x.piece].Scale.Shard != shard || x.off-end > scaleGap || max(end, x.off+x.n)-list[0].off > surveyRead {
			break
		}
		end = max(end, x.off+x.n)
	}
	return n, end
}

type surveyor struct {
	plan   *plan.Plan
	src    Source
	invert bool
	buf    []byte // of scales
	row    []byte // of codes
	seen   map[int32]*surveyed
	some   []bool // for each piece: one of its scales is not zero
	found  []Suspect
}

// surveyed records what was done about a piece.
type surveyed struct {
	found  bool
	codes  int64 // bytes read
	blocks int
}

// look checks scales of a piece until one is found to be wrong.
func (s *surveyor) look(x *scaleBytes, scales []byte) error {
	q := &s.plan.Pieces[x.piece]
	size := int(q.Params.ScaleType.Size())
	for i := range len(scales) / size {
		scale := q.Params.ScaleType.Widen(scales[i*size:])
		if scale != 0 {
			s.some[x.piece] = true
		}
		if s.invert {
			stored := scale
			if scale = 1 / stored; math.IsInf(float64(scale), 0) {
				row, col, _, _ := blockOf(q, x.first+int64(i))
				s.suspect(Suspect{Piece: x.piece, Row: q.Row + row, Col: col, Scale: math.Inf(1)})
				return nil
			}
		}
		if !maybeLarge(scale) {
			continue
		}
		seen := s.seen[x.piece]
		if seen == nil {
			seen = new(surveyed)
			s.seen[x.piece] = seen
		}
		if seen.found || seen.blocks >= surveyBlocks || seen.codes >= surveyCodes {
			return nil
		}
		seen.blocks++
		if err := s.weigh(seen, x.piece, x.first+int64(i), scale); err != nil {
			return err
		}
	}
	return nil
}

// suspect records one suspect per piece.
func (s *surveyor) suspect(x Suspect) {
	seen := s.seen[x.Piece]
	if seen == nil {
		seen = new(surveyed)
		s.seen[x.Piece] = seen
	}
	if !seen.found {
		seen.found = true
		s.found = append(s.found, x)
	}
}

// blockOf returns the rectangle of a piece that its ith scale serves.
func blockOf(q *plan.Piece, i int64) (row, col, rows, cols int64) {
	br, bc := int64(q.Params.BlockRows), int64(q.Params.BlockCols)
	top := (q.Row/br+i/q.ScaleCols)*br - q.Row
	row, col = max(top, 0), i%q.ScaleCols*bc
	return row, col, min(top+br, q.Rows) - row, min(bc, q.Cols-col)
}

// weigh reads the codes that a scale serves, row by row, until a weight is beyond MostWeight.
func (s *surveyor) weigh(seen *surveyed, piece int32, i int64, scale float32) error {
	q := &s.plan.Pieces[piece]
	least := leastLarge(scale)
	top, left, rows, cols := blockOf(q, i)
	for row := top; row < top+rows && seen.codes < surveyCodes; row++ {
		n := min(cols, surveyCodes)
		seen.codes += n
		s.row = slices.Grow(s.row[:0], int(n))[:n]
		if err := s.src.ReadAt(q.Source.Shard, s.row, q.Code+row*q.Cols+left); err != nil {
			return err
		}
		count, first, most := largeCodes(s.row, least)
		if count == 0 {
			continue
		}
		if at := slices.IndexFunc(s.row, func(c byte) bool { return c&nanCode == most }); at > first {
			first = at
		}
		s.suspect(Suspect{piece, q.Row + row, left + int64(first), float64(e4m3[most]), math.Abs(float64(scale))})
		return nil
	}
	return nil
}
