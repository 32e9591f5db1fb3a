package metalcast

import (
	"bytes"
	"context"
	"errors"
	"runtime/debug"
	"runtime/metrics"

	"github.com/dustin/go-humanize"

	"github.com/metalcast/metalcast/cpufallback"
	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/plan"
	"github.com/metalcast/metalcast/metal"
)

// job is one conversion at work.
type job struct {
	plan     *plan.Plan
	schedule *engine.Schedule
	source   *checkpoint.Source
	dir      *engine.Dir
	be       kernel.Backend
	opts     Options
}

// run fills DST.partial: shards first, then the files beside them, config.json last.
func (j *job) run(ctx context.Context) (engine.Result, error) {
	result, err := j.pass(ctx, "converting", j.dir)
	if err != nil {
		return result, err
	}
	if err := j.dir.Seal(); err != nil {
		return result, err
	}
	if j.opts.Verify {
		if _, err := j.pass(ctx, "verifying", &engine.Comparer{Plan: j.plan, Disk: j.dir}); err != nil {
			return result, err
		}
	}
	for _, f := range j.plan.Files {
		if err := j.copyFile(f.Name); err != nil {
			return result, err
		}
	}
	for _, t := range j.plan.Texts {
		if err := j.dir.AddFile(t.Name, bytes.NewReader(t.Data)); err != nil {
			return result, err
		}
	}
	return result, nil
}

func (j *job) pass(ctx context.Context, phase string, sink engine.Sink) (engine.Result, error) {
	var done, total int64
	for i := range j.schedule.Windows {
		total += j.schedule.Windows[i].Bytes
	}
	o := engine.Options{KeepNaN: j.opts.KeepNaN, AllowOverflow: j.opts.AllowOverflow}
	if j.opts.Progress != nil {
		j.opts.Progress(phase, 0, total)
		o.Progress = func(n int64) {
			done += n
			j.opts.Progress(phase, done, total)
		}
	}
	return engine.Run(ctx, j.plan, j.schedule, j.source, sink, j.be, o)
}

func (j *job) copyFile(name string) error {
	f, err := j.plan.Source.OpenFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return j.dir.AddFile(name, f)
}

// openSource finds and lists a checkpoint.
func openSource(src, revision string) (*checkpoint.Inventory, error) {
	dir, err := checkpoint.Locate(src, revision)
	if err != nil {
		return nil, err
	}
	return checkpoint.Open(dir)
}

// openBackend opens what o.Device asks for. With auto, a GPU that cannot be used is a warning; that there is none is nothing to speak of.
func openBackend(o Options) (kernel.Backend, error) {
	cpu := cpufallback.New(0)
	if o.Device == "cpu" {
		return cpu, nil
	}
	strict := o.Device == "metal"
	if !strict && o.Device != "" && o.Device != "auto" {
		return nil, fault.New(ErrUsage, "--device", "%q is none of auto, metal, cpu", o.Device)
	}
	gpu, err := metal.Open(metal.Options{CPU: cpu, Strict: strict, Warn: o.Warn})
	switch {
	case err == nil:
		return gpu, nil // cpu goes with the process: it holds no slot
	case strict:
		return nil, fault.In("--device metal", err)
	case !errors.Is(err, ErrNoDevice) && o.Warn != nil:
		o.Warn(err.Error() + "; the CPU computes")
	}
	return cpu, nil
}

// reserve is what the process needs beside the plan and the slots: stacks, tables, the program itself.
const reserve = 32 << 20

// budget splits the memory limit: what the plan holds already, a reserve, and the ring of slots. It also bounds Go's heap, until restore.
func budget(p *plan.Plan, limit int64) (s *engine.Schedule, restore func(), err error) {
	if limit == 0 {
		limit = DefaultMaxMemory
	}
	debug.FreeOSMemory() // what planning left behind
	used := goMemory() + reserve
	if least := used + engine.MinMemory(p); limit < least {
		return nil, nil, fault.New(ErrNoSpace, "", "%s of memory are too little for this checkpoint, at least %s are needed", ibytes(limit), ibytes(mebibytes(least)<<20)).WithHint(
			"--max-memory %dMiB", mebibytes(least))
	}
	s = engine.NewSchedule(p, limit-used)
	old := debug.SetMemoryLimit(limit - s.Memory())
	return s, func() { debug.SetMemoryLimit(old) }, nil
}

// goMemory is what the Go runtime holds of the system's memory, in bytes.
func goMemory() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64() - sample[1].Value.Uint64())
}

func ibytes(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// mebibytes rounds up, so that the figure can be given back as an option.
func mebibytes(n int64) int64 { return (n + 1<<20 - 1) >> 20 }
