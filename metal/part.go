package metal

import "github.com/metalcast/metalcast/internal/kernel"

// rectangles cuts a job into whole rows, or runs of a row, of at most n elements; where the result is transposed, n at least 64, into
// rectangles of 64 rows, or of more where rows are short, so that both sides are runs.
func rectangles(j *kernel.Job, turned bool, n int, each func(r, c, rows, cols int)) {
	rows, cols := max(1, n/j.Cols), min(n, j.Cols)
	if turned {
		rows = min(j.Rows, max(rows, 64))
		cols = min(j.Cols, n/rows)
	}
	for r := 0; r < j.Rows; r += rows {
		for c := 0; c < j.Cols; c += cols {
			each(r, c, min(rows, j.Rows-r), min(cols, j.Cols-c))
		}
	}
}

// part is a rectangle of a job as a job of its own, its results packed from dst on.
func part(p *kernel.Params, j *kernel.Job, r, c, rows, cols, dst int) kernel.Job {
	k := kernel.Job{
		Rows: rows, Cols: cols, Src: j.Src + (r*j.SrcStride+c)*int(p.From.Size()), SrcStride: j.SrcStride, Dst: dst, DstStride: cols,
	}
	if p.Transposed {
		k.DstStride = rows
	}
	if p.Op == kernel.Quantize {
		k.DstStride = 0
		placePacked(p, &k, dst)
	}
	if p.Scaled() {
		k.Scale = j.Scale + ((r+j.RowPhase)/p.BlockRows*j.ScaleStride+(c+j.ColPhase)/p.BlockCols)*int(p.ScaleType.Size())
		k.ScaleStride = j.ScaleStride
		k.RowPhase, k.ColPhase = (r+j.RowPhase)%p.BlockRows, (c+j.ColPhase)%p.BlockCols
	}
	return k
}
