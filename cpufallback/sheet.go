package cpufallback

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

// turn sends n rows to their columns.
func (s *sheet) turn(n int) {
	width := (s.t.c1 - s.t.c0) * s.size
	for c := 0; c < width; c += s.size {
		at := s.w.Dst + s.w.OutAt(&s.w.Job, s.first, s.t.c0)*s.size + c*s.w.DstStride
		to, from := s.r.out[at:at+n*s.size], s.line[c:]
		if s.size == 2 {
			for ; len(to) >= 2; to = to[2:] {
				little.PutUint16(to, little.Uint16(from))
				from = from[min(width, len(from)):]
			}
			continue
		}
		for ; len(to) >= 4; to = to[4:] {
			little.PutUint32(to, little.Uint32(from))
			from = from[min(width, len(from)):]
		}
	}
}
