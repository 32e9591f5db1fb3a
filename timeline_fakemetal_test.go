//go:build fakemetal

package metalcast

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/emulator/probe"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/pass"
	"github.com/metalcast/metalcast/internal/plan"
	"github.com/metalcast/metalcast/internal/synth"
)

// The stages of a window. Running is the backend's whole Run: commands encoded, the GPU's work, and
// its results examined.
const (
	reading = iota
	running
	writing
	stages
)

// timeline is a conversion on the fake device whose stages are watched, and can be made slow or
// held up.
type timeline struct {
	plan     *plan.Plan
	schedule *engine.Schedule
	windows  []*engine.Window
	first    int // window from which on every one has work for the GPU
	be       kernel.Backend
	source   engine.Source
	pace     [stages]time.Duration

	mu    sync.Mutex
	moved sync.Cond
	limit [stages]int // windows that may begin a stage
	began [stages]int // windows that have
	ended [stages]int
	at    [stages][2][]time.Time // when each window began and ended
	slots []*watchedSlot
	read  int // reads that are done
	wrote int // windows
}

type watchedSlot struct {
	kernel.Slot
	window int
}

// newTimeline plans a small checkpoint in windows of a few experts.
func newTimeline(t *testing.T) *timeline {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "src")
	_, err := synth.Write(t.Context(), dir, synth.Options{Layers: 1, Experts: 40, Hidden: 512, Intermediate: 256, Vocab: 512, Shards: 1})
	require.NoError(t, err)
	x := &timeline{}
	x.moved.L = &x.mu
	x.plan, err = newPlan(t.Context(), dir, Options{})
	require.NoError(t, err)
	x.schedule = engine.NewSchedule(x.plan, engine.MinMemory(x.plan)*2)
	for w := range x.schedule.Windows() {
		if len(w.Batches) == 0 {
			x.first = len(x.windows) + 1
		}
		x.windows = append(x.windows, w)
	}
	require.Greater(t, len(x.windows)-x.first, 20)
	for s := range stages {
		x.limit[s] = len(x.windows)
		x.at[s] = [2][]time.Time{make([]time.Time, len(x.windows)), make([]time.Time, len(x.windows))}
	}
	source, err := x.plan.Source.OpenSource()
	require.NoError(t, err)
	t.Cleanup(func() { source.Close() })
	x.source = source
	x.be, err = pass.OpenBackend(pass.Options{Device: "metal"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, x.be.Close()) })
	return x
}

// start begins the conversion, whose error done gives when it ends.
func (x *timeline) start(t *testing.T) (done chan error) {
	ring, err := engine.NewRing(x.schedule, watchedBackend{x.be, x})
	require.NoError(t, err)
	done = make(chan error, 1)
	go func() {
		defer close(done)
		_, err := engine.Run(context.Background(), x.plan, x.schedule, ring, watchedSource{x}, watchedSink{x}, engine.Options{})
		done <- err
	}()
	t.Cleanup(func() { // a test that failed leaves it held
		for s := range stages {
			x.allow(s, len(x.windows))
		}
		for range done {
		}
	})
	return done
}

func (x *timeline) begin(stage, window int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for window >= x.limit[stage] {
		x.moved.Wait()
	}
	x.began[stage]++
	x.at[stage][0][window] = time.Now()
}

func (x *timeline) end(stage, window int) {
	time.Sleep(x.pace[stage])
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended[stage]++
	x.at[stage][1][window] = time.Now()
}

// allow lets windows up to this one pass a stage.
func (x *timeline) allow(stage, windows int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.limit[stage] = windows
	x.moved.Broadcast()
}

// settles waits until so many windows have begun and ended each stage. That no further one does is
// seen from the order of the times in the end.
func (x *timeline) settles(t *testing.T, what string, began, ended [stages]int) {
	t.Helper()
	same := func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.began == began && x.ended == ended
	}
	if !assert.Eventually(t, same, 30*time.Second, time.Millisecond) {
		x.mu.Lock()
		defer x.mu.Unlock()
		t.Fatalf("%s: %d have begun to read, run and write and %d have ended; want %d and %d", what, x.began, x.ended, began, ended)
	}
}

// place returns which window the n-th of all reads belongs to, and whether it is that window's
// first or last.
func (x *timeline) place(n int) (window int, first, last bool) {
	for n >= len(x.windows[window].Reads) {
		n -= len(x.windows[window].Reads)
		window++
	}
	return window, n == 0, n == len(x.windows[window].Reads)-1
}

type watchedSource struct{ *timeline }

// ReadAt knows the window, for one goroutine reads them in order, and the slot by the memory it is
// given.
func (x watchedSource) ReadAt(shard int, p []byte, off int64) error {
	window, first, last := x.place(x.read)
	x.read++
	if first {
		x.begin(reading, window)
		x.mu.Lock()
		at := reflect.ValueOf(p).Pointer()
		for _, s := range x.slots {
			if in := reflect.ValueOf(s.In()).Pointer(); in <= at && at < in+uintptr(len(s.In())) {
				s.window = window
			}
		}
		x.mu.Unlock()
	}
	err := x.source.ReadAt(shard, p, off)
	if last {
		x.end(reading, window)
	}
	return err
}

type watchedSink struct{ *timeline }

func (x watchedSink) Write([]engine.Extent) error {
	x.begin(writing, x.wrote)
	x.end(writing, x.wrote)
	x.wrote++
	return nil
}

type watchedBackend struct {
	kernel.Backend
	x *timeline
}

func (b watchedBackend) NewSlot(in, out int) (kernel.Slot, error) {
	s, err := b.Backend.NewSlot(in, out)
	w := &watchedSlot{Slot: s}
	b.x.slots = append(b.x.slots, w)
	return w, err
}

func (b watchedBackend) Run(ctx context.Context, s kernel.Slot, batches []kernel.Batch, tallies []kernel.Tally) error {
	w := s.(*watchedSlot) //nolint:forcetypeassert // NewSlot made it
	b.x.begin(running, w.window)
	err := b.Backend.Run(ctx, w.Slot, batches, tallies)
	b.x.end(running, w.window)
	return err
}

// TestFakeMetalWhoWaits holds the GPU, the writer and the reader up in turn. Whoever is not held
// goes on until the ring of four slots is used up: nobody waits for anything else.
func TestFakeMetalWhoWaits(t *testing.T) {
	x := newTimeline(t)
	k := x.first
	restore := probe.Inject(probe.Faults{Hold: true})
	defer restore()
	done := x.start(t)
	flight := x.be.InFlight()
	require.Equal(t, 2, flight)
	// The windows before the first that computes only move bytes.
	x.settles(t, "the GPU is held", [stages]int{k + 4, flight, k}, [stages]int{k + 4, 0, k})
	require.Eventually(t, func() bool { return probe.Count("commit") == flight }, 30*time.Second, time.Millisecond, "both command buffers are with the GPU")
	x.allow(writing, k)
	restore()
	x.settles(t, "the writer is held", [stages]int{k + 4, 4, k}, [stages]int{k + 4, 4, k})
	x.allow(reading, k+7)
	x.allow(writing, len(x.windows))
	x.settles(t, "the reader is held", [stages]int{k + 7, 7, k + 7}, [stages]int{k + 7, 7, k + 7})
	x.allow(reading, len(x.windows))
	require.NoError(t, <-done)
	x.checkOrder(t)
}

// checkOrder holds the times of a whole run against the rules: a window waits for its own stage
// before, the window before it in the same stage, and a free slot; and the GPU has at most two.
func (x *timeline) checkOrder(t *testing.T) {
	t.Helper()
	after := func(stage, window, stageBefore, windowBefore int) {
		t.Helper()
		if windowBefore < 0 || x.at[stage][0][window].IsZero() || x.at[stageBefore][1][windowBefore].IsZero() {
			return // a window that only moves bytes does not run
		}
		assert.False(t, x.at[stage][0][window].Before(x.at[stageBefore][1][windowBefore]), "stage %d of window %d began before stage %d of window %d ended", stage, window, stageBefore, windowBefore)
	}
	for i := range x.windows {
		after(running, i, reading, i)
		after(writing, i, running, i)
		after(reading, i, reading, i-1)
		after(writing, i, writing, i-1)
		after(reading, i, writing, i-x.schedule.Slots)
		beside := 0
		for k := range x.windows {
			if now := x.at[running][0][i]; !x.at[running][0][k].After(now) && x.at[running][1][k].After(now) {
				beside++
			}
		}
		assert.LessOrEqual(t, beside, x.be.InFlight(), "windows with the GPU when window %d began", i)
	}
}

// TestFakeMetalTimeline prints, with -v, who works when, at several paces; docs/performance.md
// shows it. A column is a millisecond, a digit the window's last.
func TestFakeMetalTimeline(t *testing.T) {
	const read, write = 3400 * time.Microsecond, 6700 * time.Microsecond // 16 and 32 MiB at 5 GB/s
	cases := []struct {
		name string
		pace [stages]time.Duration
		gpu  int // milliseconds
	}{
		{"a disk of 5 GB/s each way, a GPU that takes 1 ms: the writer never waits", [stages]time.Duration{reading: read, writing: write}, 1},
		{"a source on a slow disk: the reader never waits", [stages]time.Duration{reading: 3 * write, writing: write}, 1},
		{"a GPU that takes 20 ms: it always holds two command buffers", [stages]time.Duration{reading: read, writing: write}, 20},
	}
	if !needtest.Long() {
		cases = cases[:1]
	}
	for _, c := range cases {
		x := newTimeline(t)
		x.pace = c.pace
		restore := probe.Inject(probe.Faults{Delay: c.gpu})
		err := <-x.start(t)
		restore()
		require.NoError(t, err)
		x.checkOrder(t)
		t.Logf("%s\n%s", c.name, x.picture(x.first+8, 80))
	}
}

// picture draws the columns from a window's reading on.
func (x *timeline) picture(window, columns int) string {
	start := x.at[reading][0][window]
	lines := [][]byte{}
	for stage, name := range []string{"read ", "run  ", "write"} {
		rows := 1
		if stage == running {
			rows = x.be.InFlight()
		}
		drawn := make([][]byte, rows)
		for i := range drawn {
			drawn[i] = []byte(name + " " + strings.Repeat(".", columns))
		}
		for i := range x.windows {
			from, to := int(x.at[stage][0][i].Sub(start)/time.Millisecond), int(x.at[stage][1][i].Sub(start)/time.Millisecond)
			for c := max(from, 0); c < min(max(to, from+1), columns); c++ {
				drawn[i%rows][len(name)+1+c] = fmt.Append(nil, i%10)[0]
			}
		}
		lines = append(lines, drawn...)
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "    %s\n", l)
	}
	return b.String()
}
