package engine

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/plan"
)

// apart is a plan whose matrices of rows x cols, neighbours in the source, have small tensors
// between them in the output; each block of 1x8 has a scale, so that scales take all the room they
// may. The scales, and what the small tensors are made of, lie behind the codes.
func apart(matrices int, rows, cols int64) *geometry {
	g := &geometry{plan: &plan.Plan{Shards: []plan.Shard{{Name: "0", Header: make([]byte, 16), Size: 16}}}, sizes: make([]int64, 1)}
	p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16, BlockRows: 1, BlockCols: 8}
	small := make([]int, matrices)
	for i := range matrices {
		q := plan.Piece{Params: p, Rows: rows, Cols: cols, Source: g.source("matrix", p.From, rows*cols), Target: g.place(p.To, rows*cols)}
		q.Code, q.Out = q.Source.Offset, g.plan.Tensors[q.Target].Offset
		g.plan.Pieces = append(g.plan.Pieces, q)
		small[i] = g.place(p.To, 2000)
	}
	for i := range matrices {
		g.scales(&g.plan.Pieces[i])
	}
	for _, to := range small {
		g.moveTo(to)
	}
	return g
}

// What goes past the page cache must lie in memory as it does in a page of its file. The room that
// takes is within the limit, also where windows are full to the last byte.
func TestLongRunsKeepTheirPlaceInAPage(t *testing.T) {
	needtest.Alone(t)
	for _, tt := range []struct {
		rows, window int64 // matrices in a window
		runs         bool
	}{
		{270, 4, true}, // 270 x 1024 x 2 bytes: a little more than LongRun
		{270, 2, true},
		{50, 20, false},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			matrices := int(slots * tt.window)
			g := apart(matrices, tt.rows, 1024)
			s := NewSchedule(g.plan, slots*(fixed+slotFor(g.plan, tt.window*tt.rows*1024)))
			runs, most := 0, 0
			for w := range s.Windows() {
				computed := 0
				for _, x := range w.Writes {
					if x.Moved {
						continue
					}
					computed++
					if x.N >= LongRun {
						runs++
						assert.Zero(t, (x.Off-int64(x.Buf))%Page, "offset %d is at %d", x.Off, x.Buf)
					}
				}
				most = max(most, computed)
			}
			assert.EqualValues(t, tt.window, most, "the windows are full")
			if tt.runs {
				assert.Equal(t, matrices, runs)
			} else {
				assert.Zero(t, runs)
			}
			tr, err := newTracer(g.plan)
			require.NoError(t, err)
			require.NoError(t, tr.run(s, g.sizes))
		})
	}
}
