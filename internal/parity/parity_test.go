package parity_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/cpufallback"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/parity"
)

// wrong is a backend whose last result of every window is off by the least bit.
type wrong struct{ kernel.Backend }

func (w wrong) Run(ctx context.Context, s kernel.Slot, batches []kernel.Batch, tallies []kernel.Tally) error {
	err := w.Backend.Run(ctx, s, batches, tallies)
	b := &batches[len(batches)-1]
	j := &b.Jobs[len(b.Jobs)-1]
	at := j.Dst + b.Params.OutAt(j, j.Rows-1, j.Cols-1)*int(b.Params.To.Size())
	if b.Params.Op == kernel.Quantize {
		_, _, codes, _, _ := b.Params.Packed(j)
		at = j.Dst + int(codes) - 1
	}
	s.Out()[at] ^= 1
	return err
}

// A backend agrees with itself in every case, and in every case a wrong bit is found.
func TestSuite(t *testing.T) {
	needtest.Alone(t)
	for name, of := range map[string]func(kernel.Backend) kernel.Backend{
		"itself": func(b kernel.Backend) kernel.Backend { return b }, "a wrong one": func(b kernel.Backend) kernel.Backend { return wrong{b} },
	} {
		t.Run(name, func(t *testing.T) {
			cpu := cpufallback.New(2)
			t.Cleanup(func() { require.NoError(t, cpu.Close()) })
			told := 0
			s := parity.Suite{Test: of(cpu), Reference: cpu, Quick: true, Each: func(parity.Row) { told++ }}
			rows, err := s.Run(t.Context())
			require.NoError(t, err)
			assert.Len(t, rows, told)
			seen := map[string]bool{}
			for _, r := range rows {
				seen[r.Kernel] = true
				if strings.HasPrefix(r.Kernel, "quantize") || strings.HasPrefix(r.Kernel, "expert") {
					assert.LessOrEqual(t, len(r.Kernel), 50, r.Kernel)
					assert.LessOrEqual(t, len(r.Input), 38, r.Input)
				}
				assert.Positive(t, r.Elements, r)
				if name == "itself" {
					assert.Zero(t, r.Differences, r)
				} else {
					assert.Positive(t, r.Differences, r)
					assert.Regexp(t, "^(element|byte) ", r.First, r)
				}
			}
			for _, k := range []string{
				"dequant F8_E4M3 128x128 F8_E8M0 -> F32, transposed", "dequant F8_E4M3 1x7168 F16 -> F16", "cast F32 -> BF16, transposed", "copy F16", "copy BF16, transposed", "add one BF16 -> F16",
				"expert stacking", "expert stacking, transposed", "expert stacking, gate beside up", "expert stacking, gate beside up, transposed",
				"quantize F8_E4M3 -> BF16, affine 3/128 as metal", "quantize F32 -> F32, nvfp4 4/16 as cpu",
			} {
				assert.True(t, seen[k], k)
			}
		})
	}
}

// misplacing is a backend that swaps the results of the first two jobs of a window.
type misplacing struct{ kernel.Backend }

func (m misplacing) Run(ctx context.Context, s kernel.Slot, batches []kernel.Batch, tallies []kernel.Tally) error {
	jobs := slices.Clone(batches[0].Jobs)
	if len(jobs) > 1 {
		a, b := &jobs[0], &jobs[1]
		a.Dst, b.Dst, a.DstScale, b.DstScale, a.DstBias, b.DstBias = b.Dst, a.Dst, b.DstScale, a.DstScale, b.DstBias, a.DstBias
	}
	return m.Backend.Run(ctx, s, []kernel.Batch{{Params: batches[0].Params, Jobs: jobs}}, tallies)
}

// Swapped matrices are found in every row about experts, although both backends agree on them:
// where they belong is computed separately.
func TestMisplacedExpertsAreFound(t *testing.T) {
	needtest.Alone(t)
	cpu := cpufallback.New(2)
	t.Cleanup(func() { require.NoError(t, cpu.Close()) })
	s := parity.Suite{Test: misplacing{cpu}, Reference: misplacing{cpu}, Quick: true}
	rows, err := s.Run(t.Context())
	require.NoError(t, err)
	stacks := 0
	for _, r := range rows {
		if !strings.HasPrefix(r.Kernel, "expert stacking") {
			assert.Zero(t, r.Differences, r)
			continue
		}
		stacks++
		assert.Positive(t, r.Differences, r)
	}
	assert.Equal(t, 34, stacks)
}
