package engine_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/plan"
)

// naive is a backend that computes one element at a time in float64; what it gives is right for the values that these tests use.
type naive struct{ runs atomic.Int64 }

type memory struct{ in, out []byte }

func (m *memory) In() []byte  { return m.in }
func (m *memory) Out() []byte { return m.out }

func (*naive) Name() string  { return "naive" }
func (*naive) InFlight() int { return 3 }
func (*naive) Close() error  { return nil }
func (*naive) NewSlot(in, out int) (kernel.Slot, error) {
	m := &memory{make([]byte, in), make([]byte, out)}
	for i := range m.out {
		m.out[i] = 0xA5
	}
	return m, nil
}

func (n *naive) Run(ctx context.Context, s kernel.Slot, batches []kernel.Batch, tallies []kernel.Tally) error {
	n.runs.Add(1)
	k := 0
	for _, b := range batches {
		for _, j := range b.Jobs {
			tallies[k] = kernel.Tally{}
			if b.Params.Op == kernel.Quantize {
				pack(s, &b.Params, &j, &tallies[k])
				k++
				continue
			}
			for r := range j.Rows {
				for c := range j.Cols {
					element(s, &b.Params, &j, r, c, &tallies[k])
				}
			}
			k++
		}
	}
	return ctx.Err()
}

func element(s kernel.Slot, p *kernel.Params, j *kernel.Job, r, c int, t *kernel.Tally) {
	at := r*j.DstStride + c
	if p.Transposed {
		at = c*j.DstStride + r
	}
	out := s.Out()[j.Dst+at*int(p.To.Size()):]
	switch in := s.In()[j.Src+(r*j.SrcStride+c)*int(p.From.Size()):]; p.Op {
	case kernel.Cast:
		store(out, p.To, load(in, p.From))
		return
	case kernel.Copy:
		copy(out[:p.To.Size()], in)
		return
	case kernel.AddOne:
		store(out, p.To, load(in, p.From)+1)
		return
	}
	code := s.In()[j.Src+r*j.SrcStride+c]
	at = j.Scale + ((r+j.RowPhase)/p.BlockRows*j.ScaleStride+(c+j.ColPhase)/p.BlockCols)*int(p.ScaleType.Size())
	scale := load(s.In()[at:], p.ScaleType)
	if code&0x7F == 0x7F {
		t.NaN.At(r, c, 1)
	}
	if math.IsNaN(float64(scale)) || math.IsInf(float64(scale), 0) {
		t.Scale.At(r, c, 1)
	}
	store(out, p.To, float32(float64(e4m3(code))*float64(scale)))
}

func load(b []byte, t dtype.DType) float32 {
	if t == dtype.BF16 {
		return math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)
	}
	return math.Float32frombits(binary.LittleEndian.Uint32(b))
}

// store writes v, which the tests choose so that bf16 cuts nothing but rounding to nearest even does.
func store(b []byte, t dtype.DType, v float32) {
	w := math.Float32bits(v)
	if t == dtype.F32 {
		binary.LittleEndian.PutUint32(b, w)
		return
	}
	binary.LittleEndian.PutUint16(b, uint16((w+0x7FFF+w>>16&1)>>16))
}

func e4m3(c byte) float32 { return codes[c] }

// codes is what each code of E4M3 is worth, by its definition.
var codes = func() (v [256]float32) {
	for c := range v {
		v[c] = decode(byte(c))
	}
	return v
}()

func decode(c byte) float32 {
	e, m := int(c>>3&15), float64(c&7)
	v := math.Ldexp(8+m, e-10)
	if e == 0 {
		v = math.Ldexp(m, -9)
	}
	if c&0x7F == 0x7F {
		v = math.NaN()
	}
	if c >= 128 {
		v = -v
	}
	return float32(v)
}

// disk is a Sink and a ReaderAt that counts what is written where.
type disk struct {
	shards [][]byte
	times  [][]byte // how often each byte was written
	fail   error
}

func newDisk(p *plan.Plan) *disk {
	d := &disk{}
	for _, s := range p.Shards {
		d.shards = append(d.shards, append(bytes.Clone(s.Header), make([]byte, s.Size-int64(len(s.Header)))...))
		d.times = append(d.times, make([]byte, s.Size))
	}
	return d
}

func (d *disk) Write(extents []engine.Extent) error {
	if d.fail != nil {
		return d.fail
	}
	for _, x := range extents {
		copy(d.shards[x.Shard][x.Off:x.Off+int64(len(x.Data))], x.Data)
		for i := range x.Data {
			d.times[x.Shard][int(x.Off)+i]++
		}
	}
	return nil
}

func (d *disk) ReadAt(shard int, p []byte, off int64) error {
	copy(p, d.shards[shard][off:])
	return nil
}

// open plans a checkpoint.
func open(t *testing.T, c *Checkpoint, o plan.Options) (*plan.Plan, *checkpoint.Source) {
	t.Helper()
	v, err := checkpoint.Open(t.Context(), c.Write(t))
	require.NoError(t, err)
	p, err := plan.New(v, o)
	require.NoError(t, err)
	s, err := v.OpenSource()
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return p, s
}

// ragged is a checkpoint of many shapes: matrices wider and taller than blocks, scales of both types, some in another shard.
func ragged(block [2]int, seed uint64) (c *Checkpoint, weights map[string]Tensor) {
	rng := rand.New(rand.NewPCG(seed, 1))
	c = &Checkpoint{Shards: map[string][]Tensor{}, Files: map[string]string{
		"config.json": fmt.Sprintf(`{"model_type":"x","quantization_config":{"weight_block_size":[%d,%d]}}`, block[0], block[1]),
	}}
	var a, b []Tensor
	weights = map[string]Tensor{}
	for i, shape := range [][]int{{1, 1}, {129, 257}, {1, 70001}, {3, 40000}, {576, 200}, {64, 64}, {300, 1}, {2, 5, 130}, {1000, 33}} {
		w := Tensor{Name: fmt.Sprintf("w%d.weight", i), DType: "F8_E4M3", Shape: shape}
		w.Data = make([]byte, w.Bytes())
		for k := range w.Data {
			for w.Data[k] = 0x7F; w.Data[k]&0x7F == 0x7F; {
				w.Data[k] = byte(rng.Uint32())
			}
		}
		n := len(shape)
		s := Tensor{Name: w.Name + "_scale_inv", DType: "BF16"}
		s.Shape = append(append(s.Shape, shape[:n-2]...), (shape[n-2]+block[0]-1)/block[0], (shape[n-1]+block[1]-1)/block[1])
		if i%2 == 1 {
			s.DType = "F32"
		}
		s.Data = make([]byte, s.Bytes())
		for k := 0; k < len(s.Data); k += width(s.DType) {
			v := math.Float32bits(float32(1+rng.IntN(7)) / 8)
			if s.DType == "F32" {
				binary.LittleEndian.PutUint32(s.Data[k:], v)
			} else {
				binary.LittleEndian.PutUint16(s.Data[k:], uint16(v>>16))
			}
		}
		weights[w.Name], weights[s.Name] = w, s
		other := Tensor{Name: fmt.Sprintf("m%d", i), DType: "U8", Shape: []int{rng.IntN(100000)}}
		other.Data = make([]byte, other.Bytes())
		for k := range other.Data {
			other.Data[k] = byte(rng.Uint32())
		}
		weights[other.Name] = other
		switch i % 3 {
		case 0:
			a = append(a, s, w, other)
		case 1:
			b = append(b, other, s)
			a = append(a, w)
		case 2:
			b = append([]Tensor{s}, b...)
			b = append(b, w)
			a = append(a, other)
		}
	}
	c.Shards["a.safetensors"], c.Shards["b.safetensors"] = a, b
	c.Index(nil)
	return c, weights
}

func width(t string) int {
	if t == "F32" {
		return 4
	}
	return 2
}

// want computes a tensor of ragged's output, element by element from the tensors as they were made.
func want(weights map[string]Tensor, name string, block [2]int) []byte {
	w := weights[name]
	s, scaled := weights[name+"_scale_inv"]
	if !scaled {
		return w.Data
	}
	n := len(w.Shape)
	rows, cols := w.Shape[n-2], w.Shape[n-1]
	gridRows, gridCols := s.Shape[n-2], s.Shape[n-1]
	out := make([]byte, 2*len(w.Data))
	for i, code := range w.Data {
		m, r, c := i/(rows*cols), i/cols%rows, i%cols
		k := (m*gridRows+r/block[0])*gridCols + c/block[1]
		typ := dtype.BF16
		if s.DType == "F32" {
			typ = dtype.F32
		}
		store(out[2*i:], dtype.BF16, e4m3(code)*load(s.Data[k*width(s.DType):], typ))
	}
	return out
}

func TestEveryByteLandsOnceForAnyMemory(t *testing.T) {
	for _, block := range [][2]int{{128, 128}, {32, 32}, {1, 16}, {1000, 1 << 20}, {3, 5}, {1, 1}} {
		c, weights := ragged(block, 7)
		p, src := open(t, c, plan.Options{ShardSize: 300 << 10})
		var first *disk
		least := engine.MinMemory(p)
		for _, mem := range []int64{least, least + least/3, 4 * least, 512 << 20}[:needtest.Rounds(4, 4)] {
			s := engine.NewSchedule(p, mem)
			assert.LessOrEqual(t, s.Memory(), mem)
			d := newDisk(p)
			result, err := runEngine(t, context.Background(), p, s, src, d, engine.Options{})
			require.NoError(t, err)
			var written int64
			for i, x := range p.Tensors {
				for k, n := range d.times[x.Shard][x.Offset : x.Offset+x.Size] {
					if n != 1 {
						t.Fatalf("%s: byte %d written %d times", p.Tensors[i].Name, k, n)
					}
				}
				if !bytes.Equal(want(weights, x.Name, block), d.shards[x.Shard][x.Offset:x.Offset+x.Size]) {
					t.Fatalf("%s in blocks of %v and %d bytes of memory differs from the oracle", x.Name, block, mem)
				}
				written += x.Size
			}
			assert.Equal(t, written, result.Written)
			if first == nil {
				first = d
			}
			assert.Equal(t, first.shards, d.shards, "the same bytes for any memory")
			require.NoError(t, compare(t, p, s, src, d))
		}
	}
}

// runEngine is engine.Run on a naive backend of its own.
func runEngine(t *testing.T, ctx context.Context, p *plan.Plan, s *engine.Schedule, src engine.Source, dst engine.Sink, o engine.Options) (engine.Result, error) { //nolint:revive // t first
	t.Helper()
	ring, err := engine.NewRing(s, &naive{})
	require.NoError(t, err)
	return engine.Run(ctx, p, s, ring, src, dst, o)
}

func compare(t *testing.T, p *plan.Plan, s *engine.Schedule, src engine.Source, d *disk) error {
	_, err := runEngine(t, context.Background(), p, s, src, &engine.Comparer{Plan: p, Disk: d}, engine.Options{})
	return err
}

func TestComparerFindsOneFlippedBit(t *testing.T) {
	needtest.Alone(t)
	c, _ := ragged([2]int{128, 128}, 3)
	p, src := open(t, c, plan.Options{})
	s := engine.NewSchedule(p, 64<<20)
	d := newDisk(p)
	_, err := runEngine(t, context.Background(), p, s, src, d, engine.Options{})
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 2))
	for range needtest.Rounds(25, 50) {
		x := p.Tensors[rng.IntN(len(p.Tensors))]
		if x.Size == 0 {
			continue
		}
		at := rng.Int64N(x.Size)
		right := d.shards[x.Shard][x.Offset+at]
		d.shards[x.Shard][x.Offset+at] ^= 1 << rng.IntN(8)
		err := compare(t, p, s, src, d)
		require.ErrorIs(t, err, fault.ErrMismatch)
		assert.Contains(t, err.Error(), fmt.Sprintf("%s: tensor %q, ", p.Shards[x.Shard].Name, x.Name))
		assert.Contains(t, err.Error(), fmt.Sprintf("(byte %d): is 0x", at))
		d.shards[x.Shard][x.Offset+at] = right
	}
	require.NoError(t, compare(t, p, s, src, d))
}

func TestNaNAndBadScalesAreRefusedWithTheirPlace(t *testing.T) {
	c, _ := ragged([2]int{128, 128}, 5)
	c.Find("w1.weight").Data[128*257+200] = 0xFF // [129, 257]
	p, src := open(t, c, plan.Options{})
	for _, mem := range []int64{engine.MinMemory(p), 512 << 20} {
		s := engine.NewSchedule(p, mem)
		_, err := runEngine(t, context.Background(), p, s, src, newDisk(p), engine.Options{})
		require.ErrorIs(t, err, fault.ErrCorrupt)
		assert.Contains(t, err.Error(), `tensor "w1.weight": holds NaN codes (0x7F or 0xFF), the first at row 128, column 200`)
		assert.Contains(t, fault.Hint(err), "--nan-policy keep")
		result, err := runEngine(t, context.Background(), p, s, src, newDisk(p), engine.Options{KeepNaN: true})
		require.NoError(t, err)
		require.Len(t, result.Findings, 1)
		assert.Equal(t, "w1.weight", result.Findings[0].Tensor)
		assert.Equal(t, kernel.Spot{N: 1, Row: 128, Col: 200}, result.Findings[0].Tally.NaN)
	}
	c, _ = ragged([2]int{128, 128}, 5)
	copy(c.Find("w1.weight_scale_inv").Data[4*5:], []byte{0, 0, 0x80, 0x7F}) // +inf at [1, 2] of [2, 3]
	p, src = open(t, c, plan.Options{})
	_, err := runEngine(t, context.Background(), p, engine.NewSchedule(p, 512<<20), src, newDisk(p), engine.Options{})
	require.ErrorIs(t, err, fault.ErrCorrupt)
	assert.Contains(t, err.Error(), `tensor "w1.weight_scale_inv": holds a scale that is NaN or infinite, at [1, 2]`)
}

// broken fails at its n-th operation.
type broken struct {
	engine.Source
	left int
}

func (b *broken) ReadAt(shard int, p []byte, off int64) error {
	if b.left--; b.left < 0 {
		return errors.New("the disk is on fire")
	}
	return b.Source.ReadAt(shard, p, off)
}

func TestErrorsEndTheRun(t *testing.T) {
	c, _ := ragged([2]int{128, 128}, 5)
	p, src := open(t, c, plan.Options{})
	s := engine.NewSchedule(p, engine.MinMemory(p))
	require.Greater(t, s.Count, 10)
	for _, n := range []int{0, 1, 5, s.Count - 1} {
		_, err := runEngine(t, context.Background(), p, s, &broken{src, n}, newDisk(p), engine.Options{})
		require.ErrorContains(t, err, "on fire")
	}
	d := newDisk(p)
	d.fail = errors.New("no space")
	_, err := runEngine(t, context.Background(), p, s, src, d, engine.Options{})
	require.ErrorContains(t, err, "no space")
}

// A bug in a stage is an error like others: the run ends, and its caller can clean up.
func TestPanicEndsTheRun(t *testing.T) {
	c, _ := ragged([2]int{128, 128}, 5)
	p, src := open(t, c, plan.Options{})
	s := engine.NewSchedule(p, engine.MinMemory(p))
	_, err := runEngine(t, context.Background(), p, s, src, newDisk(p), engine.Options{Progress: func(int64) { panic("oh") }})
	var bug *fault.Panic
	require.ErrorAs(t, err, &bug)
	assert.EqualError(t, err, "internal error: oh; please report this")
	assert.Contains(t, string(bug.Stack), "TestPanicEndsTheRun")
}

func TestCancelEndsTheRun(t *testing.T) {
	c, _ := ragged([2]int{128, 128}, 5)
	p, src := open(t, c, plan.Options{})
	s := engine.NewSchedule(p, engine.MinMemory(p))
	ctx, cancel := context.WithCancel(context.Background())
	var done int64
	_, err := runEngine(t, ctx, p, s, src, newDisk(p), engine.Options{Progress: func(n int64) {
		if done += n; done > 300_000 {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
}

func TestNeighboursLeaveInOneWrite(t *testing.T) {
	p, _ := open(t, Moe(4), plan.Options{})
	s := engine.NewSchedule(p, 64<<20)
	windows := slices.Collect(s.Windows())
	require.Len(t, windows, 1)
	assert.Len(t, windows[0].Reads, 1, "scales that lie among the weights are read with them")
	assert.Len(t, windows[0].Writes, 2, "the two stacked tensors are neighbours; the norm only moves")
}
