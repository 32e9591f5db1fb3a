package partial_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/engine/enginetest"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/partial"
	"github.com/metalcast/metalcast/internal/plan"
)

// making is a conversion as the root package strings it together, on any file system.
type making struct {
	plan *plan.Plan
	src  engine.Source
	be   kernel.Backend
	mem  int64
}

func (m *making) run(ctx context.Context, f partial.FS) (err error) {
	d, err := partial.CreateDir("/out/dst", m.plan, partial.DirOptions{FS: f, State: []byte(`{"a":1}`), Every: 40 << 10})
	if err != nil {
		return err
	}
	if err := m.fill(ctx, d); err != nil {
		_, keepErr := d.Keep()
		return errors.Join(err, keepErr)
	}
	return d.Commit()
}

func (m *making) fill(ctx context.Context, d *partial.Dir) error {
	s := engine.NewScheduleAfter(m.plan, m.mem, d.Resumed())
	ring, err := engine.NewRing(s, m.be)
	if err != nil {
		return err
	}
	if _, err := engine.Run(ctx, m.plan, s, ring, m.src, d, engine.Options{Resumed: d.Resumed().Counts}); err != nil {
		return err
	}
	if err := d.Seal(ctx); err != nil {
		return err
	}
	if err := d.AddFile(ctx, "more/tokenizer.json", strings.NewReader("{}")); err != nil {
		return err
	}
	return d.AddFile(ctx, "config.json", strings.NewReader(`{"model_type":"x"}`))
}

func smallMaking(t *testing.T) *making {
	c, _ := enginetest.Ragged([2]int{128, 128}, 7)
	c.Remove("w2") // rows of 70,001 and 40,000
	c.Remove("w3")
	c.Index(nil)
	p, src := enginetest.Open(t, c, plan.Options{ShardSize: 300 << 10})
	return &making{p, src, &enginetest.Naive{}, engine.MinMemory(p)}
}

// check demands that dst is whole if it exists, and that nothing in dst.partial looks like a model
// that is not.
func (m *memFS) check(t *testing.T, want *memFS) (there bool) {
	t.Helper()
	for path, n := range m.names {
		rest, partial := strings.CutPrefix(path, "/out/dst.partial/")
		if partial && strings.HasSuffix(path, ".safetensors") && len(n.data) >= 8 && len(bytes.Trim(n.data[:8], "\x00")) > 0 {
			require.True(t, bytes.Equal(want.names["/out/dst/"+rest].data, n.data), "%s has a length and is not whole", path)
		}
	}
	if m.names["/out/dst"] == nil {
		return false
	}
	for path, n := range want.names {
		if !strings.HasPrefix(path, "/out/dst/") || n.dir {
			continue
		}
		require.NotNil(t, m.names[path], path)
		require.True(t, bytes.Equal(n.data, m.names[path].data), path)
	}
	return true
}

// A power cut at any operation, with any part of the unsynced data lost, is survived: the same
// conversion, run again, ends with the same bytes.
func TestPowerCuts(t *testing.T) {
	m := smallMaking(t)
	want := newMemFS()
	require.NoError(t, m.run(t.Context(), want))
	require.True(t, want.check(t, want))
	seeds := needtest.Rounds(40, 200)
	if os.Getenv("METALCAST_NIGHTLY") != "" {
		seeds = 2000
	}
	resumed := 0
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		f := newMemFS()
		f.grows = seed%2 == 1 // as on exFAT
		if seed%3 == 0 {
			f.noLock = syscall.ENOTSUP // as on SMB
		}
		for cuts := 0; ; cuts++ {
			require.Less(t, cuts, 100)
			f.ops, f.failAt, f.fail = 0, 1+rng.IntN(want.ops), errPower
			if cuts == 4 {
				f.failAt = 0
			}
			err := m.run(t.Context(), f)
			if err == nil {
				break
			}
			require.ErrorIs(t, err, errPower)
			f = f.lose(rng)
			if f.check(t, want) { // the rename was durable
				break
			}
			if text := f.names["/out/dst.partial/metalcast.journal"]; text != nil && bytes.Contains(text.data, []byte(`"done":[[`)) {
				resumed++
			}
		}
		require.True(t, f.check(t, want), "seed %d", seed)
	}
	assert.Greater(t, resumed, seeds/2, "cuts after a checkpoint")
}

// Every operation fails once, in turn: the error says what happened and where, and the same
// conversion, run again, ends with the same bytes.
func TestEveryFailingOperation(t *testing.T) {
	m := smallMaking(t)
	want := newMemFS()
	require.NoError(t, m.run(t.Context(), want))
	for _, fail := range []error{syscall.EIO, syscall.ENOSPC} {
		for n := 1; n <= want.ops; n++ {
			if !needtest.Long() && n != want.ops && (n%2 == 0) == errors.Is(fail, syscall.EIO) {
				continue // each by one of the errors
			}
			if n != want.ops && n/2%needtest.Every(4) > 0 {
				continue
			}
			f := newMemFS()
			f.failAt, f.fail = n, fail
			err := m.run(t.Context(), f)
			if n == want.ops { // that the lock and the journal are gone need not outlast a power cut
				require.NoError(t, err)
				require.True(t, f.check(t, want))
				break
			}
			require.ErrorIs(t, err, fail, "operation %d", n)
			assert.Contains(t, err.Error(), "/out", "operation %d names no file", n)
			complete := strings.Contains(err.Error(), "is complete, but")
			assert.Equal(t, errors.Is(fail, syscall.ENOSPC) && !complete, errors.Is(err, fault.ErrNoSpace), "operation %d: %v", n, err)
			assert.Equal(t, complete, f.names["/out/dst"] != nil, "operation %d: %v", n, err)
			f.failAt = 0
			if f.check(t, want) {
				continue
			}
			require.NoError(t, m.run(t.Context(), f), "operation %d", n)
			require.True(t, f.check(t, want))
			left := slices.DeleteFunc(slices.Collect(keys(f.names)), func(s string) bool { return !strings.HasPrefix(s, "/out/dst.partial") })
			require.Empty(t, left)
		}
	}
}

func keys(m map[string]*node) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// faulty is a source and a backend whose n-th operation fails.
type faulty struct {
	engine.Source
	kernel.Backend
	left int
	fail error
}

func (f *faulty) step() error {
	if f.left--; f.left == 0 {
		return f.fail
	}
	return nil
}

func (f *faulty) ReadAt(shard int, p []byte, off int64) error {
	if err := f.step(); err != nil {
		return fmt.Errorf("shard %d: %w", shard, err)
	}
	return f.Source.ReadAt(shard, p, off)
}

type faultyBackend struct {
	kernel.Backend
	f *faulty
}

func (b faultyBackend) InFlight() int { return 1 }

func (b faultyBackend) Run(ctx context.Context, s kernel.Slot, batches []kernel.Batch, tallies []kernel.Tally) error {
	if err := b.f.step(); err != nil {
		return fmt.Errorf("backend: %w", err)
	}
	return b.Backend.Run(ctx, s, batches, tallies)
}

// Reads and kernels that fail, and a cancel, at every operation.
func TestEveryFailingReadAndKernel(t *testing.T) {
	m := smallMaking(t)
	want := newMemFS()
	require.NoError(t, m.run(t.Context(), want))
	errFire := errors.New("on fire")
	for _, kind := range []string{"read", "kernel", "cancel"} {
		for n := 1; ; n += needtest.Every(4) {
			ctx, cancel := context.WithCancel(t.Context())
			x := &faulty{Source: m.src, left: n, fail: errFire}
			again := *m
			switch kind {
			case "read":
				again.src = x
			case "kernel":
				again.be = faultyBackend{m.be, x}
			default:
				again.src = cancelling{x, cancel}
			}
			f := newMemFS()
			err := again.run(ctx, f)
			cancel()
			if err == nil {
				require.Greater(t, n, 5)
				break
			}
			if kind == "cancel" {
				require.ErrorIs(t, err, context.Canceled)
			} else {
				require.ErrorIs(t, err, errFire)
			}
			require.False(t, f.check(t, want))
			require.NoError(t, m.run(t.Context(), f), "%s %d", kind, n)
			require.True(t, f.check(t, want))
		}
	}
}

// cancelling cancels instead of failing.
type cancelling struct {
	*faulty
	cancel context.CancelFunc
}

func (c cancelling) ReadAt(shard int, p []byte, off int64) error {
	if c.step() != nil {
		c.cancel()
	}
	return c.Source.ReadAt(shard, p, off)
}

// A resumed run may have another memory limit than the first.
func TestGoingOnWithOtherMemory(t *testing.T) {
	m := smallMaking(t)
	want := newMemFS()
	require.NoError(t, m.run(t.Context(), want))
	for n := want.ops / 4; n < want.ops; n += want.ops / 7 {
		f := newMemFS()
		f.failAt, f.fail = n, syscall.EIO
		require.Error(t, m.run(t.Context(), f))
		f.failAt = 0
		other := *m
		other.mem = 3 * m.mem
		require.NoError(t, other.run(t.Context(), f))
		require.True(t, f.check(t, want))
	}
}
