package cpufallback

import "math"

// turnRows is how many rows of results are turned at once: those of 16 bits are then a cache line of their column, which written one by
// one would cost a cache line each.
const turnRows = 32

// sheet is where the results of a tile are computed, row by row: in place, or, where they are turned, in a worker's memory, some rows at a time.
type sheet struct {
	r     *run
	w     *work
	t     tile
	size  int // of a result, in bytes
	line  []byte
	first int // of the rows in line
	most  int // rows that line holds
}

func (r *run) sheet(w *work, t tile, line []byte) sheet {
	size := int(w.To.Size())
	return sheet{r: r, w: w, t: t, size: size, line: line, first: t.r0, most: min(turnRows, len(line)/((t.c1-t.c0)*size))}
}

// results is the place of n results from a row and column on.
func (s *sheet) results(row, col, n int) []byte {
	if s.w.packer != nil {
		at := (col - s.t.c0) * s.size
		return s.line[at : at+n*s.size]
	}
	if s.w.Transposed {
		at := ((row-s.first)*(s.t.c1-s.t.c0) + col - s.t.c0) * s.size
		return s.line[at : at+n*s.size]
	}
	at := s.w.Dst + s.w.OutAt(&s.w.Job, row, col)*s.size
	return s.r.out[at : at+n*s.size]
}

// end says that a row is done.
func (s *sheet) end(row int) {
	if s.w.packer != nil {
		s.w.packer.row(row, s.line)
		return
	}
	if n := row + 1 - s.first; s.w.Transposed && (n == s.most || row+1 == s.t.r1) {
		s.turn(n)
		s.first = row + 1
	}
}

// turn sends n rows to their columns: squares of whole words first, then what is left.
func (s *sheet) turn(n int) {
	cols := s.t.c1 - s.t.c0
	width, stride := cols*s.size, s.w.DstStride*s.size
	side := 8 / s.size
	rows, across := n-n%side, cols-cols%side
	at := s.w.Dst + s.w.OutAt(&s.w.Job, s.first, s.t.c0)*s.size
	for c := 0; c < across; c += side {
		for r := 0; r < rows; r += side {
			from, to := s.line[r*width+c*s.size:], s.r.out[at+c*stride+r*s.size:]
			if s.size == 2 {
				turn4(to, stride, from, width)
			} else {
				turn2(to, stride, from, width)
			}
		}
	}
	for c := range cols {
		r := rows
		if c >= across {
			r = 0
		}
		for ; r < n; r++ {
			copy(s.r.out[at+c*stride+r*s.size:][:s.size], s.line[r*width+c*s.size:])
		}
	}
}

// turn4 turns four rows of four results of 16 bits.
func turn4(to []byte, stride int, from []byte, width int) {
	const even = 0x0000FFFF0000FFFF
	a, b, c, d := little.Uint64(from), little.Uint64(from[width:]), little.Uint64(from[2*width:]), little.Uint64(from[3*width:])
	a, b = a&even|b&even<<16, a>>16&even|b&^even // columns 0 and 2, 1 and 3, of two rows
	c, d = c&even|d&even<<16, c>>16&even|d&^even
	little.PutUint64(to, a&math.MaxUint32|c<<32)
	little.PutUint64(to[stride:], b&math.MaxUint32|d<<32)
	little.PutUint64(to[2*stride:], a>>32|c&^math.MaxUint32)
	little.PutUint64(to[3*stride:], b>>32|d&^math.MaxUint32)
}

// turn2 turns two rows of two results of 32 bits.
func turn2(to []byte, stride int, from []byte, width int) {
	a, b := little.Uint64(from), little.Uint64(from[width:])
	little.PutUint64(to, a&math.MaxUint32|b<<32)
	little.PutUint64(to[stride:], a>>32|b&^math.MaxUint32)
}
