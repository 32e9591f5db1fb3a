//go:build (darwin && cgo) || fakemetal

package metal

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/progrium/darwinkit/objc"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// common is tried when the backend opens; other parameters when they first come up.
var common = []kernel.Params{
	{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16, BlockRows: 128, BlockCols: 128},
	{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.F32, BlockRows: 128, BlockCols: 128},
}

// edges are the bits of scales and other operands where arithmetic changes its course: subnormals, the ends of the exponent's range, ties, infinity, NaN,
// zeros; and what 1 cancels, or is the first to lose. bfloat16 gets the upper halves of float32's.
var edges = map[dtype.DType][]uint32{
	dtype.F32: {
		0x3F800000, 0x00000001, 0x00000100, 0x007FFFFF, 0x00800000, 0x00FFFFFF, 0x01800000, 0x04000000, 0x05123456, 0x3FABCDEF,
		0x7E000000, 0x7E924925, 0x7F000000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0x80000000, 0x00000000, 0xBF124925, 0x3A088889,
		0x3F808000, 0x3F818000, 0x33800000, 0x38000000, 0x38800000, 0x477FF000, 0x42FE0000, 0x43000000,
		0xBF800000, 0xBF7FFFFF, 0xBF800001, 0x33800001, 0xB3000000, 0xB3000001, 0x34400000, 0x4B800000, 0xCB800001, 0xCC000000,
		0x3B800000, 0x3BC00000, 0x3C400000, 0x3C400001, 0x43800000, 0x477FEF80, 0xFFC12345, 0x7F800001, 0xFF800000,
	},
	dtype.F16: {
		0x3C00, 0x0001, 0x03FF, 0x0400, 0x0401, 0x7BFF, 0x7C00, 0xFC00, 0x7E00, 0xFC01, 0x8000, 0x0000, 0x5640, 0x1234,
		0xBC00, 0xBBFF, 0xBC01, 0x1000, 0x1400, 0x1600, 0x9000, 0x8C00, 0x6800, 0x6801, 0xE800, 0x6BFF,
	},
	dtype.F8E8M0: {127, 0, 1, 254, 255, 113, 135, 7, 8, 128, 126, 245, 246, 100},
}

func init() {
	for _, w := range edges[dtype.F32] {
		edges[dtype.BF16] = append(edges[dtype.BF16], w>>16)
	}
}

// try runs a kernel's self-test once. The verdict stays.
func (b *Backend) try(p kernel.Params) error {
	if b.opts.Unchecked {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	err, done := b.tried[p]
	if !done {
		if err = b.selfTest(p); err != nil {
			err = fmt.Errorf("%s: self-test of %s: %w", b.g, p, err)
		}
		b.tried[p] = err
	}
	return err
}

// selfTest computes two small matrices, one for the table and one for the thin kernel, in a slot of its own and compares all of Out, canaries included, with
// the CPU.
func (b *Backend) selfTest(p kernel.Params) (err error) {
	shapes := testShapes(&p)
	batch := kernel.Batch{Params: p}
	in, out := 0, 64
	for _, sh := range shapes {
		j := part(&p, &kernel.Job{Src: in, SrcStride: sh[1]}, 0, 0, sh[0], sh[1], out)
		in += sh[0] * sh[1] * int(p.From.Size())
		out += sizeOf(&p, sh[0], sh[1]) + 64
		if p.Scaled() {
			j.Scale = in
			down, across := p.Blocks(&j)
			j.ScaleStride = across
			in += down * across * int(p.ScaleType.Size())
		}
		batch.Jobs = append(batch.Jobs, j)
	}
	var s *slot
	objc.WithAutoreleasePool(func() { s, err = b.g.newSlot(in, out) })
	if err != nil {
		return err
	}
	defer func() {
		if e := s.close(); err == nil {
			err = e
		}
	}()
	fillTest(s.in, &batch)
	want := view{s.in, make([]byte, out)}
	for i := range want.out {
		want.out[i], s.out[i] = 0xA5, 0xA5
	}
	if err := b.opts.CPU.Run(context.Background(), want, []kernel.Batch{batch}, make([]kernel.Tally, len(batch.Jobs))); err != nil {
		return err
	}
	if err := b.dispatch(s, []kernel.Batch{batch}); err != nil {
		return err
	}
	if !bytes.Equal(want.out, s.out) {
		i := 0
		for want.out[i] == s.out[i] {
			i++
		}
		return fmt.Errorf("byte %d is 0x%02x, the CPU's is 0x%02x", i, s.out[i], want.out[i])
	}
	return nil
}

// testShapes is the shapes of a self-test.
func testShapes(p *kernel.Params) [][2]int {
	switch {
	case p.Op != kernel.Quantize:
		return [][2]int{{130, 260}, {5, 7}}
	case p.Transposed:
		return [][2]int{{256, 70}, {128, 5}}
	}
	return [][2]int{{70, 256}, {5, 128}}
}

// fillTest writes every code and edge scales, or edge operands and a spread of patterns.
func fillTest(in []byte, b *kernel.Batch) {
	for i := range in {
		in[i] = byte(i * 167 >> 3)
	}
	for k := range b.Jobs {
		j := &b.Jobs[k]
		if b.Params.Op == kernel.Quantize && k == 0 {
			fillOrdinary(in, &b.Params, j) // most groups with edges cannot be quantized
			continue
		}
		if !b.Params.Scaled() {
			list := edges[b.Params.From]
			putEdges(in[j.Src:], b.Params.From, min(len(list), j.Rows*j.Cols))
			continue
		}
		for i := range j.Rows * j.Cols {
			in[j.Src+i] = byte(i + i/256)
		}
		down, across := b.Params.Blocks(j)
		putEdges(in[j.Scale:], b.Params.ScaleType, down*across)
	}
}

// fillOrdinary writes operands of many magnitudes, none of them NaN, infinite or near that.
func fillOrdinary(in []byte, p *kernel.Params, j *kernel.Job) {
	put := func(to []byte, t dtype.DType, n int) {
		for i := range n {
			var word [4]byte
			binary.LittleEndian.PutUint32(word[:], ordinary(t, uint32(i)*2654435761))
			copy(to[i*int(t.Size()):], word[:t.Size()])
		}
	}
	put(in[j.Src:], p.From, j.Rows*j.Cols)
	if p.Scaled() {
		down, across := p.Blocks(j)
		put(in[j.Scale:], p.ScaleType, down*across)
	}
}

// ordinary makes bits of a type of random ones.
func ordinary(t dtype.DType, random uint32) uint32 {
	e := random >> 23 % 12
	switch t {
	case dtype.F8E4M3:
		return min(random>>8&0x7F, 0x7E) | random>>24&0x80
	case dtype.F8E8M0:
		return 115 + e
	case dtype.F16:
		return random>>16&0x83FF | (4+e)<<10
	case dtype.BF16:
		return random>>16&0x807F | (115+e)<<7
	}
	return random&0x807FFFFF | (115+e)<<23
}

// putEdges writes n edge values of a type.
func putEdges(to []byte, t dtype.DType, n int) {
	var word [4]byte
	size := int(t.Size())
	for i := range n {
		binary.LittleEndian.PutUint32(word[:], edges[t][i%len(edges[t])])
		copy(to[i*size:], word[:size])
	}
}
