package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"

	"github.com/dustin/go-humanize"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/cpufallback"
	"github.com/metalcast/metalcast/internal/bench"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/newdir"
	"github.com/metalcast/metalcast/internal/partial"
	"github.com/metalcast/metalcast/internal/space"
	"github.com/metalcast/metalcast/metal"
)

// benchOptions say what to measure.
type benchOptions struct {
	// Dir is where temporary files are made; "" is the working directory.
	Dir string
	// Size is that of the file for measuring the disk, in bytes, at least 1 MiB; twice as much and 64
	// MiB must be free.
	Size int64
	// Device is auto (the default: the CPU and, if there is one, the Metal device), metal or cpu.
	Device string
	// Checkpoint makes a checkpoint of about size bytes, to be converted.
	Checkpoint func(ctx context.Context, dst string, size int64) error
	// Begin receives what is measured next, Each every row once it is done. Both may be nil.
	Begin func(what string)
	Each  func(bench.Row)
	// Warn receives what is doubtful about the figures. May be nil.
	Warn func(message string)
}

// measure measures the kernels of each backend beside memcpy, the disk, and a whole conversion
// beside a plain copy of as many bytes. When it returns nothing that it wrote is left.
func measure(ctx context.Context, o benchOptions) ([]bench.Row, error) {
	if o.Dir == "" {
		o.Dir = "."
	}
	if o.Size < 1<<20 {
		return nil, fault.New(metalcast.ErrUsage, "--size", "%s are too few to measure with", humanize.IBytes(uint64(max(o.Size, 0)))).WithHint("--size 1GiB, or 1MiB at least")
	}
	s := bench.Suite{Dir: o.Dir, Size: o.Size, Write: benchWrite, Checkpoint: o.Checkpoint, Begin: o.Begin, Each: o.Each}
	if s.Begin == nil {
		s.Begin = func(string) {}
	}
	if s.Each == nil {
		s.Each = func(bench.Row) {}
	}
	convert := metalcast.Options{Device: o.Device, IgnoreSpace: true, Warn: o.Warn}
	s.Convert = func(ctx context.Context, src, dst string) (read, written int64, err error) {
		r, err := metalcast.Convert(ctx, src, dst, convert)
		if err != nil {
			return 0, 0, err
		}
		return r.BytesRead, r.BytesWritten, nil
	}
	var err error
	if s.Implementations, err = implementations(o.Device); err != nil {
		return nil, err
	}
	if err := space.Check(filepath.Join(o.Dir, "x"), s.Need(), o.Warn); err != nil {
		return nil, fault.WithHint(err, benchHint)
	}
	rows, err := s.Run(ctx)
	return rows, explainFull(o.Dir, err)
}

// benchHint is what to do if a disk is too small.
const benchHint = "a smaller --size, or --dir on another disk"

// explainFull sets the kind of an error of a disk that filled up while it was measured.
func explainFull(dir string, err error) error {
	if !newdir.Full(err) {
		return err
	}
	return &fault.Error{Kind: metalcast.ErrNoSpace, Where: dir, Err: err, Hint: benchHint}
}

// implementations lists what can compute on this machine, for bench: the CPU with as many workers
// as a conversion uses, with one worker and each kind of vector code or none, and the GPU.
func implementations(device string) (list []bench.Implementation, err error) {
	workers := min(runtime.GOMAXPROCS(0), 4) // as cpufallback.New(0) has it
	names := cpufallback.Implementations()
	if workers > 1 {
		list = append(list, bench.Implementation{
			Name: fmt.Sprintf("cpu, %d workers, %s", workers, names[0]), Threads: workers,
			Open: func() (kernel.Backend, error) { return cpufallback.New(workers), nil },
		})
	}
	for i, name := range names {
		one := bench.Implementation{
			Name: "cpu, 1 worker, " + name, Threads: 1,
			Open: func() (kernel.Backend, error) { return cpufallback.NewWith(1, name), nil },
		}
		if i > 0 {
			one.Skip = kernel.Quantize
		}
		list = append(list, one)
	}
	gpu := bench.Implementation{Name: "metal", Threads: workers, Open: func() (kernel.Backend, error) {
		return metal.Open(metal.Options{CPU: cpufallback.New(0), Strict: true})
	}}
	_, err = metal.Describe()
	switch {
	case device == "cpu":
		return list, nil
	case device == "metal" && err != nil:
		return nil, fault.New(metalcast.ErrNoDevice, "--device metal", "no Metal device").WithHint("--device cpu")
	case device == "metal":
		return []bench.Implementation{gpu}, nil
	case device != "" && device != "auto":
		return nil, fault.New(metalcast.ErrUsage, "--device", "%q is not one of auto, metal, cpu", device)
	case err != nil:
		return list, nil //nolint:nilerr // there is none
	}
	return append(list, gpu), nil
}

// benchWrite writes a file as conversions write shards.
func benchWrite(ctx context.Context, path string, data []byte, size int64) (err error) {
	f, err := partial.OS{}.Create(path, size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for at := int64(0); at < size; at += int64(len(data)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.WriteExtents([]engine.Extent{{Off: at, Data: data[:min(int64(len(data)), size-at)]}}); err != nil {
			return err
		}
	}
	return f.Sync()
}
