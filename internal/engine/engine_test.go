package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/engine/enginetest"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/plan"
)

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

func TestEveryByteLandsOnceForAnyMemory(t *testing.T) {
	for _, block := range [][2]int{{128, 128}, {32, 32}, {1, 16}, {1000, 1 << 20}, {3, 5}, {1, 1}} {
		c, weights := enginetest.Ragged(block, 7)
		p, src := enginetest.Open(t, c, plan.Options{ShardSize: 300 << 10})
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
				if !bytes.Equal(enginetest.Want(weights, x.Name, block), d.shards[x.Shard][x.Offset:x.Offset+x.Size]) {
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
	ring, err := engine.NewRing(s, &enginetest.Naive{})
	require.NoError(t, err)
	return engine.Run(ctx, p, s, ring, src, dst, o)
}

func compare(t *testing.T, p *plan.Plan, s *engine.Schedule, src engine.Source, d *disk) error {
	_, err := runEngine(t, context.Background(), p, s, src, &engine.Comparer{Plan: p, Disk: d}, engine.Options{})
	return err
}

func TestComparerFindsOneFlippedBit(t *testing.T) {
	needtest.Alone(t)
	c, _ := enginetest.Ragged([2]int{128, 128}, 3)
	p, src := enginetest.Open(t, c, plan.Options{})
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
	c, _ := enginetest.Ragged([2]int{128, 128}, 5)
	c.Find("w1.weight").Data[128*257+200] = 0xFF // [129, 257]
	p, src := enginetest.Open(t, c, plan.Options{})
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
	c, _ = enginetest.Ragged([2]int{128, 128}, 5)
	// +inf at [1, 2] of [2, 3].
	copy(c.Find("w1.weight_scale_inv").Data[4*5:], []byte{0, 0, 0x80, 0x7F})
	p, src = enginetest.Open(t, c, plan.Options{})
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
	c, _ := enginetest.Ragged([2]int{128, 128}, 5)
	p, src := enginetest.Open(t, c, plan.Options{})
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
	c, _ := enginetest.Ragged([2]int{128, 128}, 5)
	p, src := enginetest.Open(t, c, plan.Options{})
	s := engine.NewSchedule(p, engine.MinMemory(p))
	_, err := runEngine(t, context.Background(), p, s, src, newDisk(p), engine.Options{Progress: func(int64) { panic("oh") }})
	var bug *fault.Panic
	require.ErrorAs(t, err, &bug)
	assert.EqualError(t, err, "internal error: oh; please report this")
	assert.Contains(t, string(bug.Stack), "TestPanicEndsTheRun")
}

func TestCancelEndsTheRun(t *testing.T) {
	c, _ := enginetest.Ragged([2]int{128, 128}, 5)
	p, src := enginetest.Open(t, c, plan.Options{})
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
	p, _ := enginetest.Open(t, Moe(4), plan.Options{})
	s := engine.NewSchedule(p, 64<<20)
	windows := slices.Collect(s.Windows())
	require.Len(t, windows, 1)
	assert.Len(t, windows[0].Reads, 1, "scales that lie among the weights are read with them")
	assert.Len(t, windows[0].Writes, 2, "the two stacked tensors are neighbours; the norm only moves")
}
