package bench

import (
	"context"
	"slices"
	"time"
)

// A task is done once and returns how many seconds count.
type task func(ctx context.Context) (seconds float64, err error)

// seconds times what needs no preparation.
func seconds(do func(context.Context) error) task {
	return func(ctx context.Context) (float64, error) {
		start := time.Now()
		err := do(ctx)
		return time.Since(start).Seconds(), err
	}
}

// rounds does all tasks in turn, in reverse order every other round, and returns the seconds of
// each. It does at least the smaller number of rounds, and up to the larger while the first task
// has not had enough seconds.
func rounds(ctx context.Context, least, most int, enough float64, tasks ...task) (times [][]float64, err error) {
	times = make([][]float64, len(tasks))
	for spent, n := 0.0, 0; n < least || n < most && spent < enough; n++ {
		for i := range tasks {
			if n%2 == 1 {
				i = len(tasks) - 1 - i
			}
			t, err := tasks[i](ctx)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return nil, err
			}
			times[i] = append(times[i], max(t, 1e-9)) // a clock may not advance
		}
		spent += times[0][n]
	}
	return times, nil
}

// ratios pairs the measurements of each round.
func ratios(of, to []float64) (r []float64) {
	for i := range of {
		r = append(r, of[i]/to[i])
	}
	return r
}

// median returns the middle value, or the mean of the middle two.
func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
