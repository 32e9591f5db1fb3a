package cpufallback

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/metalcast/metalcast/internal/kernel"
)

// mostWorkers bounds the default: four scalar workers expand more than any disk delivers, and the other stages need cores too.
const mostWorkers = 4

// Backend runs jobs on the CPU. Its methods may be called from several goroutines.
type Backend struct {
	workers int
	rows    rows
	scratch chan *scratch // one for each worker, so that concurrent Runs share the workers

	life  sync.RWMutex // held for reading by Run, for writing by Close
	mu    sync.Mutex   // guards what follows
	idle  []*run
	slots []*slot
	done  bool
}

var _ kernel.Backend = (*Backend)(nil)

var errClosed = errors.New("cpu: the backend is closed")

// New makes a backend of the given number of workers, which all its Runs share; 0 or less means one for each available core, at
// most 4. It keeps about 100 KiB for each.
func New(workers int) *Backend {
	if workers <= 0 {
		workers = min(runtime.GOMAXPROCS(0), mostWorkers)
	}
	b := &Backend{workers: workers, rows: everyRows()[0].rows, scratch: make(chan *scratch, workers)}
	for range workers {
		b.scratch <- new(scratch)
	}
	return b
}

// Implementations names the loops over elements that this machine can run, the one that New takes first. The last is "scalar", plain Go.
// Quantizing has loops of its own, in package mlxquant.
func Implementations() (names []string) {
	for _, r := range everyRows() {
		names = append(names, r.name)
	}
	return names
}

// NewWith is New with one of Implementations, to compare them; it panics at any other.
func NewWith(workers int, implementation string) *Backend {
	for _, r := range everyRows() {
		if r.name == implementation {
			b := New(workers)
			b.rows = r.rows
			return b
		}
	}
	panic(fmt.Sprintf("cpufallback: no implementation %q", implementation))
}

// InFlight is 1: one Run keeps all workers busy.
func (b *Backend) InFlight() int { return 1 }

// Name is "cpu".
func (b *Backend) Name() string { return "cpu" }

// NewSlot maps anonymous memory of in and out bytes, which costs nothing until it is touched. Close unmaps it.
func (b *Backend) NewSlot(in, out int) (kernel.Slot, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return nil, errClosed
	}
	s, err := newSlot(in, out)
	if err != nil {
		return nil, fmt.Errorf("cpu: memory of %d + %d bytes: %w", in, out, err)
	}
	b.slots = append(b.slots, s)
	return s, nil
}

// Run executes the jobs of a window; see kernel.Backend. Jobs that reach outside the slot are an error, before anything is written.
func (b *Backend) Run(ctx context.Context, s kernel.Slot, batches []kernel.Batch, tallies []kernel.Tally) error {
	b.life.RLock()
	defer b.life.RUnlock()
	r, err := b.take()
	if err != nil {
		return err
	}
	defer b.give(r)
	if err := kernel.Check(len(s.In()), len(s.Out()), batches, len(tallies)); err != nil {
		return fmt.Errorf("cpu: %w", err)
	}
	clear(tallies)
	r.start(b.rows, s.In(), s.Out(), batches, tallies)
	var wg sync.WaitGroup
	for range min(b.workers, r.tiles) - 1 {
		wg.Go(func() { r.work(ctx, b.scratch) })
	}
	r.work(ctx, b.scratch)
	wg.Wait()
	return ctx.Err()
}

// Close waits for Runs to end and unmaps the slots. Their memory must not be used afterwards.
func (b *Backend) Close() error {
	b.life.Lock()
	defer b.life.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	var err error
	for _, s := range b.slots {
		err = errors.Join(err, s.close())
	}
	b.slots, b.done = nil, true
	return err
}

// take hands out the bookkeeping of one Run: as many exist as Runs were ever in progress at once.
func (b *Backend) take() (*run, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return nil, errClosed
	}
	if n := len(b.idle); n > 0 {
		r := b.idle[n-1]
		b.idle = b.idle[:n-1]
		return r, nil
	}
	return new(run), nil
}

func (b *Backend) give(r *run) {
	r.in, r.out, r.tallies = nil, nil, nil // the slot's memory may be unmapped before the next Run
	b.mu.Lock()
	b.idle = append(b.idle, r)
	b.mu.Unlock()
}
