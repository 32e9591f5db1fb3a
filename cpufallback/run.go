package cpufallback

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

// run is the bookkeeping of one Backend.Run, kept between calls.
type run struct {
	kernels    rows
	in, out    []byte
	jobs       []work
	tiles      int
	quantizers map[packing]*mlxquant.Quantizer
	next       atomic.Int64 // the tile to take

	mu      sync.Mutex // guards tallies
	tallies []kernel.Tally
}

// work is a job and its tiles.
type work struct {
	kernel.Params
	kernel.Job
	plan
	first     int                 // tiles of the jobs before it
	quantizer *mlxquant.Quantizer // of Quantize
	packer    *packer             // takes the rows of results, where they are quantized
}

// start lays out the tiles of all jobs.
func (r *run) start(k rows, in, out []byte, batches []kernel.Batch, tallies []kernel.Tally) {
	r.kernels, r.in, r.out, r.tallies = k, in, out, tallies
	r.jobs, r.tiles = r.jobs[:0], 0
	r.next.Store(0)
	for i := range batches {
		p := &batches[i].Params
		for k := range batches[i].Jobs {
			j := &batches[i].Jobs[k]
			w := work{Params: *p, Job: *j, plan: planTiles(p, j), first: r.tiles, quantizer: r.quantizer(p)}
			r.tiles += w.down.parts * w.across.parts
			r.jobs = append(r.jobs, w)
		}
	}
}

// quantizer makes one for each set of parameters.
func (r *run) quantizer(p *kernel.Params) *mlxquant.Quantizer {
	if p.Op != kernel.Quantize {
		return nil
	}
	key := packing{p.Format, p.Profile, p.To}
	if q := r.quantizers[key]; q != nil {
		return q
	}
	q, err := mlxquant.New(p.Format, p.Profile, p.To)
	if err != nil {
		panic("cpu: internal error: " + err.Error()) // kernel.Check let it pass
	}
	if r.quantizers == nil {
		r.quantizers = map[packing]*mlxquant.Quantizer{}
	}
	r.quantizers[key] = q
	return q
}

// packing is what a quantizer depends on.
type packing struct {
	format  mlxquant.Format
	profile mlxquant.Profile
	from    dtype.DType
}

// work takes tiles until there are none or ctx ends.
func (r *run) work(ctx context.Context, pool chan *scratch) {
	var s *scratch
	select {
	case s = <-pool:
		defer func() { pool <- s }()
	case <-ctx.Done():
		return
	}
	for ctx.Err() == nil {
		i := int(r.next.Add(1)) - 1
		if i >= r.tiles {
			return
		}
		at, found := slices.BinarySearchFunc(r.jobs, i, func(w work, i int) int { return cmp.Compare(w.first, i) })
		if !found {
			at-- // the tile is inside the job before the place of insertion
		}
		w := &r.jobs[at]
		if t := r.do(s, w, w.tile(i-w.first)); t.Any() {
			r.mu.Lock()
			r.tallies[at].Add(t)
			r.mu.Unlock()
		}
	}
}

func (r *run) do(s *scratch, w *work, t tile) kernel.Tally {
	switch {
	case w.Op == kernel.Quantize:
		return r.quantize(s, w, t)
	case w.Op == kernel.Copy:
		r.copy(w, t, s.line[:])
		return kernel.Tally{}
	case w.Op != kernel.Dequant:
		return r.cast(w, t, s.line[:])
	case w.thin:
		return r.multiply(w, t, s.line[:], s.scales[:])
	case w.To.Size() == 2:
		return dequant(r, w, t, s.line[:], &s.tables16, r.kernels.fill16, r.kernels.row16)
	}
	return dequant(r, w, t, s.line[:], &s.tables32, r.kernels.fill32, r.kernels.row32)
}
