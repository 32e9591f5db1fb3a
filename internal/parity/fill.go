package parity

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// tables multiplies all codes by each scale: a row of 256 codes for each.
func tables(p kernel.Params, scales []uint32) func([]byte) []kernel.Job {
	const most = 65536
	return func(in []byte) []kernel.Job {
		n := min(len(scales)*p.BlockCols/256, most)
		if n == 0 {
			return nil
		}
		for i := range 256 * n {
			in[i] = byte(i)
		}
		used := n * 256 / p.BlockCols
		put(in[256*n:], p.ScaleType, scales[:used])
		scales = scales[used:]
		return []kernel.Job{{Rows: n, Cols: 256, SrcStride: 256, DstStride: 256, Scale: 256 * n, ScaleStride: 256 / p.BlockCols}}
	}
}

// shapes returns matrices around the block's size, primes and one of a real model, with strides, at
// odd offsets.
func shapes(p kernel.Params, quick bool) func([]byte) []kernel.Job {
	list := [][2]int{{1, 1}, {1, 128}, {127, 129}, {128, 128}, {129, 127}, {130, 257}, {3, 1021}, {509, 2}, {576, 7168}}
	if quick {
		list = list[:8]
	}
	rng := rand.New(rand.NewPCG(17, 19))
	return func(in []byte) []kernel.Job {
		if len(list) == 0 {
			return nil
		}
		rows, cols := list[0][0], list[0][1]
		list = list[1:]
		j := kernel.Job{Rows: rows, Cols: cols, Src: rng.IntN(9), SrcStride: cols + rng.IntN(5), Dst: 64, DstStride: cols + rng.IntN(7)}
		if p.Transposed {
			j.DstStride = rows + rng.IntN(7)
		}
		j.RowPhase, j.ColPhase = rng.IntN(p.BlockRows), rng.IntN(p.BlockCols)
		operands(rng, in, &p, &j, rng.IntN(9))
		return []kernel.Job{j}
	}
}

// halves returns two matrices whose transposed results form one, each line half of the one and half
// of the other: gate and up.
func halves(p kernel.Params) func([]byte) []kernel.Job {
	const rows, cols = 200, 300
	done := false
	rng := rand.New(rand.NewPCG(23, 29))
	p.Transposed = true
	return func(in []byte) (jobs []kernel.Job) {
		if done {
			return nil
		}
		done = true
		at := 0
		for half := range 2 {
			j := kernel.Job{Rows: rows, Cols: cols, Src: at, SrcStride: cols, Dst: 64 + half*rows*int(p.To.Size()), DstStride: 2 * rows}
			at = operands(rng, in, &p, &j, 0)
			jobs = append(jobs, j)
		}
		return jobs
	}
}

// operands fills in a job's elements and, after a gap, its scales, and returns where they end.
func operands(rng *rand.Rand, in []byte, p *kernel.Params, j *kernel.Job, gap int) (end int) {
	end = j.Src + j.Rows*j.SrcStride*int(p.From.Size())
	for i := j.Src; i < end; i++ {
		in[i] = byte(rng.Uint32())
	}
	if !p.Scaled() {
		return end
	}
	down, across := p.Blocks(j)
	j.ScaleStride = across + rng.IntN(3)
	j.Scale = end + gap
	scales := make([]uint32, down*j.ScaleStride)
	for i := range scales {
		scales[i] = ordinary(rng, p.ScaleType)
	}
	put(in[j.Scale:], p.ScaleType, scales)
	return j.Scale + len(scales)*int(p.ScaleType.Size())
}

// plain returns every 16-bit pattern, or float32 patterns: as one row, or as a matrix to transpose.
func plain(from dtype.DType, turned, quick bool) func([]byte) []kernel.Job {
	done := false
	return func(in []byte) []kernel.Job {
		if done {
			return nil
		}
		done = true
		list := every(16)
		if from == dtype.F32 {
			list = edgeF32(quick)
		}
		put(in[1:], from, list)
		j := kernel.Job{Rows: 1, Cols: len(list), Src: 1, SrcStride: len(list), Dst: 64, DstStride: len(list)}
		if turned {
			j.Cols = 128
			j.Rows = len(list) / j.Cols
			j.SrcStride, j.DstStride = j.Cols, j.Rows+3
		}
		return []kernel.Job{j}
	}
}

// put writes the bits of a type.
func put(to []byte, t dtype.DType, list []uint32) {
	var word [4]byte
	size := int(t.Size())
	for i, w := range list {
		binary.LittleEndian.PutUint32(word[:], w)
		copy(to[i*size:], word[:size])
	}
}
