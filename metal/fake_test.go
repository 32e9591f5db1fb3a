//go:build fakemetal

package metal_test

import (
	"bytes"
	"context"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/cpufallback"
	"github.com/metalcast/metalcast/emulator/probe"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/metal"
)

// What only a fake device can do: fail, refuse, lie, and count.

// rig is a backend with the CPU's result beside it.
type rig struct {
	t        *testing.T
	b, cpu   kernel.Backend
	warnings []string
}

func newRig(t *testing.T, strict bool) *rig {
	t.Helper()
	r := &rig{t: t, cpu: cpufallback.New(2)}
	var err error
	r.b, err = metal.Open(metal.Options{CPU: r.cpu, Strict: strict, Warn: func(m string) { r.warnings = append(r.warnings, m) }})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.b.Close()); r.cpu.Close() })
	return r
}

var plain = kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16, BlockRows: 128, BlockCols: 128}

// window is jobs matrices of rows x cols, with seed deciding the codes.
func window(rows, cols, jobs int, seed byte) (batch []kernel.Batch, in []byte, out int) {
	b := kernel.Batch{Params: plain}
	down, across := (rows+127)/128, (cols+127)/128
	for range jobs {
		j := kernel.Job{Rows: rows, Cols: cols, Src: len(in), SrcStride: cols, Dst: out, DstStride: cols}
		for i := range rows * cols {
			c := byte(i*7) + seed
			if c&0x7F == 0x7F {
				c = 0
			}
			in = append(in, c)
		}
		j.Scale, j.ScaleStride = len(in), across
		for i := range down * across {
			in = append(in, byte(i*16), 0x3C)
		}
		out += rows * cols * 2
		b.Jobs = append(b.Jobs, j)
	}
	return []kernel.Batch{b}, in, out
}

// run computes a window and demands the CPU's bytes.
func (r *rig) run(s kernel.Slot, batch []kernel.Batch, in []byte, out int) error {
	r.t.Helper()
	copy(s.In(), in)
	clear(s.Out())
	n := 0
	for _, b := range batch {
		n += len(b.Jobs)
	}
	if err := r.b.Run(context.Background(), s, batch, make([]kernel.Tally, n)); err != nil {
		return err
	}
	want, err := r.cpu.NewSlot(len(in), out)
	require.NoError(r.t, err)
	copy(want.In(), in)
	require.NoError(r.t, r.cpu.Run(context.Background(), want, batch, make([]kernel.Tally, n)))
	require.True(r.t, bytes.Equal(want.Out(), s.Out()[:out]), "the window differs from the CPU's")
	return nil
}

func (r *rig) slot(in, out int) kernel.Slot {
	r.t.Helper()
	s, err := r.b.NewSlot(in, out)
	require.NoError(r.t, err)
	return s
}

func TestOpenFails(t *testing.T) {
	for name, c := range map[string]struct {
		faults probe.Faults
		want   string
	}{
		"library":     {probe.Faults{NoLibrary: probe.Always(), Text: "program_source:1:1: error: no such thing"}, "the kernels do not compile: program_source:1:1: error: no such thing"},
		"queue":       {probe.Faults{NoQueue: probe.Always()}, "no command queue"},
		"pipeline":    {probe.Faults{NoPipeline: probe.Always(), Text: "out of registers"}, "kernel table_bf16_scale_bf16: out of registers"},
		"few threads": {probe.Faults{MaxThreads: 16}, "kernel table_bf16_scale_bf16: a threadgroup cannot have 32 threads"},
		"memory":      {probe.Faults{NoNoCopy: probe.Always(), NoBuffer: probe.Always()}, "the device has no memory for it"},
		"lies":        {probe.Faults{Skip: probe.Always()}, "self-test of dequant F8_E4M3 128x128 BF16 -> BF16: Metal device"},
		"wrong bits":  {probe.Faults{Corrupt: probe.Always()}, "self-test of dequant F8_E4M3 128x128 BF16 -> BF16: byte"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := metal.Describe() // the device stays
			require.NoError(t, err)
			live := probe.Live()
			restore := probe.Inject(c.faults)
			cpu := cpufallback.New(1)
			_, err = metal.Open(metal.Options{CPU: cpu})
			restore()
			cpu.Close()
			require.ErrorContains(t, err, c.want)
			assert.Equal(t, live, probe.Live(), "objects are left")
		})
	}
}

func TestWorksWithLess(t *testing.T) {
	for name, f := range map[string]probe.Faults{
		"no buffers without copy":    {NoNoCopy: probe.Always()},
		"empty buffers without copy": {NoNoCopy: probe.Always(), EmptyNoCopy: true},
		"an old system":              {OldOS: true},
		"32 threads":                 {MaxThreads: 32},
		"96 threads":                 {MaxThreads: 100},
	} {
		t.Run(name, func(t *testing.T) {
			defer probe.Inject(f)()
			r := newRig(t, true)
			batch, in, out := window(130, 260, 3, 1)
			require.NoError(t, r.run(r.slot(len(in), out), batch, in, out))
			for _, p := range operations {
				batch, in, out := operation(p)
				require.NoError(t, r.run(r.slot(len(in), out), batch, in, out), p)
			}
			assert.Empty(t, r.warnings)
		})
	}
}

// faults that one window suffers from.
var windowFaults = map[string]struct {
	once  probe.Faults
	ever  probe.Faults
	names string
}{
	"timeout":           {probe.Faults{Fail: probe.Nth(1), Text: "Caused GPU Timeout Error"}, probe.Faults{Fail: probe.Always(), Text: "Caused GPU Timeout Error"}, "Caused GPU Timeout Error"},
	"fails late":        {probe.Faults{Fail: probe.Nth(1), Late: true}, probe.Faults{Fail: probe.Always(), Late: true}, "kernel table_bf16_scale_bf16"},
	"sticky":            {probe.Faults{Fail: probe.Nth(1), Sticky: true}, probe.Faults{Fail: probe.Always(), Sticky: true}, "kernel table_bf16_scale_bf16"},
	"no NSError":        {probe.Faults{Fail: probe.Nth(1), NoError: true}, probe.Faults{Fail: probe.Always(), NoError: true}, "failed without an NSError"},
	"odd status":        {probe.Faults{Fail: probe.Nth(1), Status: 3}, probe.Faults{Fail: probe.Always(), Status: 3}, `ended as "scheduled"`},
	"no command buffer": {probe.Faults{NoCommandBuffer: probe.Nth(1)}, probe.Faults{NoCommandBuffer: probe.Always()}, "no command buffer"},
	"no encoder":        {probe.Faults{NoEncoder: probe.Nth(1)}, probe.Faults{NoEncoder: probe.Always()}, "no command encoder"},
	"did not run":       {probe.Faults{Skip: probe.Nth(1)}, probe.Faults{Skip: probe.Always()}, "2 of 2 threadgroups did not run"},
	"one wrong block":   {probe.Faults{Corrupt: probe.Nth(1)}, probe.Faults{Corrupt: probe.Always()}, "a block of 100x100 differs from the CPU's result|1 of 2 threadgroups did not run"},
}

func TestAFailedWindowRunsAgainOnANewQueue(t *testing.T) {
	for name, f := range windowFaults {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true)
			batch, in, out := window(100, 100, 2, 1)
			s := r.slot(len(in), out)
			require.NoError(t, r.run(s, batch, in, out))
			restore := probe.Inject(f.once)
			err := r.run(s, batch, in, out)
			queues := probe.Count("queue")
			restore()
			require.NoError(t, err)
			assert.Equal(t, 1, queues)
			require.Len(t, r.warnings, 1)
			assert.Regexp(t, f.names, r.warnings[0])
			assert.Contains(t, r.warnings[0], "computed again on a new queue")
		})
	}
}

func TestTheCPUComputesWhatTheGPUCannot(t *testing.T) {
	for name, f := range windowFaults {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			batch, in, out := window(100, 100, 2, 1)
			s := r.slot(len(in), out)
			defer probe.Inject(f.ever)()
			for range 3 {
				require.NoError(t, r.run(s, batch, in, out))
			}
			tried := probe.Count("command-buffer")
			for range 5 { // the GPU is left alone from now on
				require.NoError(t, r.run(s, batch, in, out))
			}
			assert.Equal(t, tried, probe.Count("command-buffer"))
			require.Len(t, r.warnings, 1, "one warning for all")
			assert.Regexp(t, f.names, r.warnings[0])
			assert.Contains(t, r.warnings[0], "the CPU computed the window")
		})
	}
}

func TestStrictFails(t *testing.T) {
	for name, f := range windowFaults {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true)
			batch, in, out := window(100, 100, 2, 1)
			s := r.slot(len(in), out)
			defer probe.Inject(f.ever)()
			err := r.run(s, batch, in, out)
			require.Error(t, err)
			assert.Regexp(t, f.names, err.Error())
			require.ErrorContains(t, err, "and again on a new queue")
			device, _ := metal.Describe()
			assert.ErrorContains(t, err, device.Name)
		})
	}
}

func TestAWrongBlockAmongManyIsFoundSoon(t *testing.T) {
	r := newRig(t, true)
	_, first, size := window(512, 512, 1, 0) // 16 blocks, of which one is checked in each window
	s := r.slot(len(first), size)
	defer probe.Inject(probe.Faults{Corrupt: probe.Always(), Victim: [3]int{5, 0, 0}})()
	found := 0
	for seed := range 100 {
		batch, in, _ := window(512, 512, 1, byte(seed))
		copy(s.In(), in)
		if err := r.b.Run(context.Background(), s, batch, make([]kernel.Tally, 1)); err != nil || len(r.warnings) > 0 {
			found++
			break
		}
	}
	assert.Positive(t, found, "100 windows with one wrong block each went by")
}

func TestNothingLeaks(t *testing.T) {
	windows := needtest.Rounds(200, 2000)
	if os.Getenv("METALCAST_NIGHTLY") != "" {
		windows = 100_000
	}
	_, err := metal.Describe()
	require.NoError(t, err)
	live := probe.Live()
	cpu := cpufallback.New(1)
	b, err := metal.Open(metal.Options{CPU: cpu})
	require.NoError(t, err)
	batch, in, out := window(4, 8, 1, 1)
	s, err := b.NewSlot(len(in), out)
	require.NoError(t, err)
	copy(s.In(), in)
	var warm int
	for i := range windows {
		require.NoError(t, b.Run(context.Background(), s, batch, make([]kernel.Tally, 1)))
		if i == 10 {
			warm = probe.Live()
		}
	}
	assert.Equal(t, warm, probe.Live(), "objects grow with windows")
	assert.Zero(t, probe.Poolless(), "objects were autoreleased without a pool")
	require.NoError(t, b.Close())
	cpu.Close()
	assert.Equal(t, live, probe.Live(), "objects are left")
}

// TestStress runs windows of many shapes from several goroutines while the collector runs, for METALCAST_STRESS or two seconds.
func TestStress(t *testing.T) {
	length := 2 * time.Second
	if d, err := time.ParseDuration(os.Getenv("METALCAST_STRESS")); err == nil {
		length = d
	}
	r := newRig(t, true)
	stop := time.Now().Add(length)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			default:
				runtime.GC()
			}
		}
	}()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			s := r.slot(1<<20, 2<<20)
			for seed := g; time.Now().Before(stop); seed += 4 {
				batch, in, out := window(1+seed%257, 1+seed*31%300, 1+seed%3, byte(seed))
				assert.NoError(t, r.run(s, batch, in, out))
			}
		})
	}
	wg.Wait()
	close(done)
	assert.Empty(t, r.warnings)
}

func TestCopy(t *testing.T) {
	r := newRig(t, true)
	for _, n := range []int{16, 100, 4096, 70_001} {
		s := r.slot(n, n)
		for i := range s.In() {
			s.In()[i] = byte(i * 7)
		}
		_, err := r.b.(*metal.Backend).Copy(s)
		require.NoError(t, err)
		whole := n / 16 * 16
		assert.Equal(t, s.In()[:whole], s.Out()[:whole])
		assert.Equal(t, make([]byte, n-whole), s.Out()[whole:], "what is no multiple of 16 stays")
	}
}
