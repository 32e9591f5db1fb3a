package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

// The matrices are those of an expert of Qwen3.6-35B-A3B, enough of them to exceed the caches.
const (
	expertRows, expertCols = 512, 2048
	expertSize             = expertRows * expertCols
	mostExperts            = 64
)

// measured lists the kernels: what the scale dialects, layouts and formats of a conversion need.
func measured() (list []kernel.Params) {
	blocks := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16, BlockRows: 128, BlockCols: 128}
	channel, tensor, turned, half := blocks, blocks, blocks, blocks
	channel.BlockRows, channel.BlockCols = 1, expertCols
	tensor.BlockRows, tensor.BlockCols = expertRows, expertCols
	turned.Transposed = true
	half.To = dtype.F16
	list = append(list, blocks, channel, tensor, turned, half,
		kernel.Params{Op: kernel.Cast, From: dtype.F32, To: dtype.BF16},
		kernel.Params{Op: kernel.Copy, From: dtype.BF16, To: dtype.BF16, Transposed: true})
	for _, m := range []mlxquant.Mode{mlxquant.Affine, mlxquant.MXFP4, mlxquant.MXFP8, mlxquant.NVFP4} {
		p := blocks
		p.Op, p.Format = kernel.Quantize, m.Default()
		list = append(list, p)
	}
	return list
}

// jobs places n expert matrices one after the other, then their scales. It returns how many bytes
// they read and write.
func jobs(p *kernel.Params, n int) (list []kernel.Job, read, written int) {
	rows := expertRows / int(p.From.Size()) // the same number of bytes for every type
	j := kernel.Job{Rows: rows, Cols: expertCols, SrcStride: expertCols, DstStride: expertCols}
	if p.Transposed {
		j.DstStride = rows
	}
	scales := 0
	if p.Scaled() {
		down, across := p.Blocks(&j)
		scales, j.ScaleStride = down*across*int(p.ScaleType.Size()), across
	}
	for i := range n {
		j.Src, j.Scale = i*expertSize, n*expertSize+i*scales
		if p.Op == kernel.Quantize {
			_, _, codes, scales, biases := p.Packed(&j)
			j.Dst = written
			j.DstScale = j.Dst + int(codes)
			j.DstBias = j.DstScale + int(scales)
			written = j.DstBias + int(biases)
		} else {
			j.Dst = written
			written += rows * expertCols * int(p.To.Size())
		}
		list = append(list, j)
	}
	return list, n * (expertSize + scales), written
}

// fill makes ordinary weights: no NaN, scales about 1e-4.
func fill(in []byte, p *kernel.Params, n int) {
	rng := rand.New(rand.NewPCG(1, 1))
	for at := 0; at < n*expertSize; at += 8 {
		w := rng.Uint64()
		if p.From == dtype.F8E4M3 {
			w &^= 0x0101010101010101
		} else {
			w = w&0x80FF80FF80FF80FF | 0x3C003C003C003C00
		}
		binary.LittleEndian.PutUint64(in[at:], w)
	}
	for at := n * expertSize; p.Scaled() && at+2 <= len(in); at += 2 {
		binary.LittleEndian.PutUint16(in[at:], uint16(0x38C0+rng.IntN(64)))
	}
}

// kernels measures a backend's kernels in turn with memcpy of as many bytes in the same slot.
func (s *Suite) kernels(ctx context.Context, of Implementation) (err error) {
	be, err := of.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, be.Close()) }()
	n := int(min(max(s.Size/16/expertSize, 1), mostExperts))
	slot, err := be.NewSlot(2*n*expertSize, 2*n*expertSize)
	if err != nil {
		return err
	}
	clear(slot.Out()) // otherwise the first round pays for its pages
	reference := memcpyName(of.Threads)
	for i, p := range measured() {
		if p.Op == of.Skip {
			continue
		}
		list, read, written := jobs(&p, n)
		fill(slot.In()[:read], &p, n)
		batches, tallies := []kernel.Batch{{Params: p, Jobs: list}}, make([]kernel.Tally, n)
		var gpu []float64
		run := func(ctx context.Context) error {
			before := gpuSeconds(be)
			err := be.Run(ctx, slot, batches, tallies)
			gpu = append(gpu, gpuSeconds(be)-before)
			return err
		}
		copied := int64(read+written) / 2
		if err := run(ctx); err != nil { // compiles, and touches all pages
			return fmt.Errorf("%s: %s: %w", of.Name, p, err)
		}
		gpu = nil
		t, err := rounds(ctx, 5, 25, 0.5*float64(n)/mostExperts, seconds(run), seconds(func(context.Context) error {
			memcpy(slot.Out()[:copied], slot.In()[:copied], of.Threads)
			return nil
		}))
		if err != nil {
			return fmt.Errorf("%s: %s: %w", of.Name, p, err)
		}
		row := Row{Group: "kernel", Name: "memcpy", On: of.Name, Bytes: 2 * copied, Reference: reference}
		if i == 0 {
			s.add(row, t[1], t[1])
		}
		row.Name, row.Bytes = p.String(), int64(read+written)
		s.add(row, t[0], t[1])
		if median(gpu) > 0 {
			row.On += ", GPU alone"
			s.add(row, gpu, t[1])
		}
	}
	return nil
}

func gpuSeconds(be kernel.Backend) float64 {
	if g, ok := be.(interface{ GPUSeconds() float64 }); ok {
		return g.GPUSeconds()
	}
	return 0
}

func memcpyName(threads int) string {
	if threads == 1 {
		return "memcpy, 1 thread"
	}
	return fmt.Sprintf("memcpy, %d threads", threads)
}

// memcpy copies with several threads, each a share.
func memcpy(to, from []byte, threads int) {
	var wg sync.WaitGroup
	for i := range threads {
		a, b := len(from)*i/threads, len(from)*(i+1)/threads
		wg.Go(func() { copy(to[a:b], from[a:b]) })
	}
	wg.Wait()
}
