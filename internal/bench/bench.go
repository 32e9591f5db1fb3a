// Package bench measures a machine: the kernels of each backend beside memcpy, a disk, and a whole
// conversion beside a plain copy of as many bytes. What is compared is measured in turn, round by
// round, and the figure to read is the ratio.
package bench

import (
	"context"
	"errors"
	"os"

	"github.com/metalcast/metalcast/internal/kernel"
)

// Row is one measurement. Ratio is the median over the rounds of the row's time divided by its
// reference's, for as many bytes; below 1 is faster than the reference.
type Row struct {
	Group       string  `json:"group"`          // kernel, disk or conversion
	Name        string  `json:"name"`           // what was measured
	On          string  `json:"implementation"` // by what
	Bytes       int64   `json:"bytes"`          // read and written
	Seconds     float64 `json:"seconds"`        // the median round
	GBPerSecond float64 `json:"gb_per_second"`
	Ratio       float64 `json:"ratio"`
	Reference   string  `json:"reference"`
	Rounds      int     `json:"rounds"`
}

// Implementation is a backend to be measured.
type Implementation struct {
	Name    string // "cpu, 1 worker, AVX2"
	Threads int    // of the memcpy that it is compared with
	Open    func() (kernel.Backend, error)
	// Skip is not measured: another implementation does it in the same way.
	Skip kernel.Op
}

// Suite says what to measure, and where. It works in a new directory below Dir, which it removes.
type Suite struct {
	Dir string
	// Size is that of the file for disk and copies, in bytes, and about that of the conversion's
	// result.
	Size            int64
	Implementations []Implementation
	// Write makes a file of size bytes, from repetitions of data, as a conversion writes, and syncs
	// it.
	Write func(ctx context.Context, path string, data []byte, size int64) error
	// Checkpoint makes a checkpoint of about size bytes.
	Checkpoint func(ctx context.Context, dst string, size int64) error
	// Convert converts it and returns how many bytes it read and wrote.
	Convert func(ctx context.Context, src, dst string) (read, written int64, err error)
	Begin   func(what string) // receives what is measured next
	Each    func(Row)

	rows []Row
}

// Need returns how much disk space Run takes at most, in bytes.
func (s *Suite) Need() int64 { return 2*s.Size + 64<<20 }

// Run measures everything. It always removes its directory.
func (s *Suite) Run(ctx context.Context) (rows []Row, err error) {
	dir, err := os.MkdirTemp(s.Dir, "metalcast-bench-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if ctx.Err() != nil {
			err = ctx.Err() // a conversion may report what it keeps, but nothing is kept here
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	for _, of := range s.Implementations {
		s.Begin("kernels: " + of.Name)
		if err := s.kernels(ctx, of); err != nil {
			return nil, err
		}
	}
	s.Begin("disk")
	if err := s.disk(ctx, dir); err != nil {
		return nil, err
	}
	s.Begin("conversion")
	if err := s.conversion(ctx, dir); err != nil {
		return nil, err
	}
	return s.rows, nil
}

func (s *Suite) add(r Row, t []float64, reference []float64) {
	r.Seconds, r.Rounds = median(t), len(t)
	r.GBPerSecond = float64(r.Bytes) / r.Seconds / 1e9
	r.Ratio = median(ratios(t, reference))
	s.rows = append(s.rows, r)
	s.Each(r)
}
