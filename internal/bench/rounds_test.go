package bench

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	assert.InDelta(t, 2, median([]float64{9, 1, 2}), 0)
	assert.InDelta(t, 2.5, median([]float64{9, 1, 3, 2}), 0)
	assert.InDelta(t, 7, median([]float64{7}), 0)
	in := []float64{3, 1, 2}
	median(in)
	assert.Equal(t, []float64{3, 1, 2}, in, "rounds stay paired")
}

// The median of paired ratios is not the ratio of medians.
func TestRatiosArePaired(t *testing.T) {
	r := ratios([]float64{2, 8, 3}, []float64{1, 2, 9})
	assert.InDeltaSlice(t, []float64{2, 4, 1. / 3}, r, 1e-12)
	assert.InDelta(t, 2, median(r), 1e-12)
	var row Row
	s := Suite{Each: func(r Row) { row = r }}
	s.add(Row{Bytes: 6e9}, []float64{2, 8, 3}, []float64{1, 2, 9})
	assert.InDelta(t, 3, row.Seconds, 0)
	assert.InDelta(t, 2, row.GBPerSecond, 1e-12)
	assert.InDelta(t, 2, row.Ratio, 1e-12)
	assert.Equal(t, 3, row.Rounds)
}

func TestRounds(t *testing.T) {
	order := ""
	tasks := func(seconds float64) []task {
		order = ""
		return []task{
			func(context.Context) (float64, error) { order += "a"; return seconds, nil },
			func(context.Context) (float64, error) { order += "b"; return 2 * seconds, nil },
		}
	}
	times, err := rounds(t.Context(), 3, 9, 10, tasks(100)...)
	require.NoError(t, err)
	assert.Equal(t, "abbaab", order, "in turn, no more than the least")
	assert.Equal(t, [][]float64{{100, 100, 100}, {200, 200, 200}}, times)
	times, err = rounds(t.Context(), 1, 9, 10, tasks(3)...)
	require.NoError(t, err)
	assert.Len(t, times[0], 4, "until the first has had enough")
	times, err = rounds(t.Context(), 1, 5, 10, tasks(0)...)
	require.NoError(t, err)
	assert.Len(t, times[1], 5, "at most")
	assert.Positive(t, times[1][0])

	failure := errors.New("broken")
	_, err = rounds(t.Context(), 3, 3, 0, func(context.Context) (float64, error) { return 0, failure })
	require.ErrorIs(t, err, failure)
	ctx, cancel := context.WithCancel(t.Context())
	_, err = rounds(ctx, 3, 3, 0, func(context.Context) (float64, error) { cancel(); return 1, nil })
	require.ErrorIs(t, err, context.Canceled)
}
