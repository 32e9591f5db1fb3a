package pass

import (
	"cmp"
	"runtime/debug"

	"github.com/dustin/go-humanize"

	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/plan"
)

// DefaultMemory is the bound on resident memory where there is no other, in bytes.
const DefaultMemory = 512 << 20

// What the process holds in addition to the ring of slots, in bytes: the program, stacks, tables
// and shared buffers; and for each source tensor, or each piece where a few tensors make many, its
// share of inventory and plan, garbage included.
const (
	baseMemory   = 28 << 20
	TensorMemory = 1 << 10
)

// LimitMemory makes Go collect garbage before the process outgrows the limit, until restore is
// called. 0 is DefaultMemory.
func LimitMemory(limit int64) (restore func()) {
	limit = cmp.Or(limit, DefaultMemory)
	old := debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(min(old, limit))
	return func() { debug.SetMemoryLimit(old) }
}

// Budget returns the share of a memory limit that is the ring's, in bytes: the rest is for what a
// plan of this size holds. It is the same on every run. 0 is
// DefaultMemory.
func Budget(p *plan.Plan, limit int64) (int64, error) {
	limit = cmp.Or(limit, DefaultMemory)
	used := baseMemory + TensorMemory*int64(max(len(p.Source.Tensors), len(p.Pieces)))
	if least := used + engine.MinMemory(p); limit < least {
		least = mebibytes(least)
		return 0, fault.New(fault.ErrNoSpace, "", "%s of memory are too little for this checkpoint, at least %s are needed",
			humanize.IBytes(uint64(max(limit, 0))), humanize.IBytes(uint64(least)<<20)).WithHint("--max-memory %dMiB", least)
	}
	return limit - used, nil
}

// leaveRoom makes Go's heap leave the ring's share of the limit alone.
func leaveRoom(s *engine.Schedule, limit int64) {
	debug.FreeOSMemory() // what planning left behind
	debug.SetMemoryLimit(min(debug.SetMemoryLimit(-1), limit-s.Memory()))
}

// mebibytes rounds up, so that the figure can be given back as an option.
func mebibytes(n int64) int64 { return (n + 1<<20 - 1) >> 20 }
