// Package bench measures what a machine gives: the kernels of each backend beside memcpy, a disk, and a whole conversion beside a plain copy of as many bytes. Whatever
// is compared is measured in turn, round by round, and the figure to read is the ratio.
package bench

import (
	"context"
	"errors"
	"os"

	"github.com/metalcast/metalcast/internal/kernel"
)

// Row is one measurement. Ratio is of times, the row's to its reference's for as many bytes: the median of the rounds' ratios. Below 1 is faster than the reference.
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

// Implementation is a backend as it is to be measured.
type Implementation struct {
	Name    string // "cpu, 1 worker, AVX2"
	Threads int    // of the memcpy beside it
	Open    func() (kernel.Backend, error)
	Skip    kernel.Op // what is not measured: another implementation does it in the same way
}

// Suite is what to measure, and where. It works in a new directory of Dir, which it removes.
type Suite struct {
	Dir             string
	Size            int64 // of the file that disk and copies are measured with; about the size of the conversion's result too
	Implementations []Implementation
	// Write makes a file of size bytes, data again and again, as a conversion writes, and syncs it.
	Write func(ctx context.Context, path string, data []byte, size int64) error
	// Checkpoint makes a checkpoint of about so many bytes.
	Checkpoint func(ctx context.Context, dst string, size int64) error
	// Convert converts it and tells how much it read and wrote.
	Convert func(ctx context.Context, src, dst string) (read, written int64, err error)
	Begin   func(what string) // is told what is measured next
	Each    func(Row)

	rows []Row
}

// Need is how much disk space Run takes at its fullest.
func (s *Suite) Need() int64 { return 2*s.Size + 64<<20 }

// Run measures everything. Its directory is gone when it returns, whatever happened.
func (s *Suite) Run(ctx context.Context) (rows []Row, err error) {
	dir, err := os.MkdirTemp(s.Dir, "metalcast-bench-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if ctx.Err() != nil {
			err = ctx.Err() // a conversion may say what it keeps, but nothing here is kept
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
