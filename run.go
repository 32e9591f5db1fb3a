package metalcast

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"runtime/debug"

	"github.com/dustin/go-humanize"

	"github.com/metalcast/metalcast/cpufallback"
	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/plan"
	"github.com/metalcast/metalcast/internal/safetensors"
	"github.com/metalcast/metalcast/metal"
)

// job is one conversion at work.
type job struct {
	plan     *plan.Plan
	schedule *engine.Schedule
	ring     *engine.Ring
	source   *checkpoint.Source
	dir      *engine.Dir
	opts     Options
}

// run fills DST.partial: shards first, then the files beside them, config.json last.
func (j *job) run(ctx context.Context) (engine.Result, error) {
	result, err := j.pass(ctx, "converting", j.dir)
	if err != nil {
		return result, err
	}
	if err := j.source.Unchanged(); err != nil {
		return result, err
	}
	if err := j.dir.Seal(ctx); err != nil {
		return result, err
	}
	for _, f := range j.plan.Files {
		if err := j.copyFile(ctx, f.Name); err != nil {
			return result, err
		}
	}
	for _, t := range j.plan.Texts {
		if err := j.dir.AddFile(ctx, t.Name, bytes.NewReader(t.Data)); err != nil {
			return result, err
		}
	}
	if !j.opts.Verify {
		return result, nil
	}
	return result, j.verify(ctx)
}

// verify compares everything in DST.partial with what the plan, a second computation, and the source say.
func (j *job) verify(ctx context.Context) error {
	j.dir.Forget()
	for i := range j.plan.Shards {
		if err := j.verifyHeader(i); err != nil {
			return fault.In(j.plan.Shards[i].Name, err)
		}
	}
	if _, err := j.pass(ctx, "verifying", &engine.Comparer{Plan: j.plan, Disk: j.dir}); err != nil {
		return err
	}
	for _, t := range j.plan.Texts {
		if err := j.verifyFile(t.Name, bytes.NewReader(t.Data)); err != nil {
			return err
		}
	}
	for _, f := range j.plan.Files {
		source, err := j.plan.Source.OpenFile(f.Name)
		if err != nil {
			return err
		}
		err = j.verifyFile(f.Name, source)
		source.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// verifyHeader reads a shard's header back, as a reader would and byte for byte.
func (j *job) verifyHeader(i int) error {
	s := &j.plan.Shards[i]
	got := make([]byte, len(s.Header))
	if err := j.dir.ReadAt(i, got, 0); err != nil {
		return err
	}
	if !bytes.Equal(got, s.Header) {
		return fault.New(ErrMismatch, "", "the header on disk is not the one that was written")
	}
	_, err := safetensors.Read(shardReader{j.dir, i}, s.Size)
	return err
}

// shardReader is a shard of DST.partial as an io.ReaderAt.
type shardReader struct {
	dir   *engine.Dir
	shard int
}

func (r shardReader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.dir.ReadAt(r.shard, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (j *job) verifyFile(name string, want io.Reader) error {
	f, err := j.dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	a, b := sha256.New(), sha256.New()
	if _, err := io.Copy(a, f); err != nil {
		return err
	}
	if _, err := io.Copy(b, want); err != nil {
		return err
	}
	if !bytes.Equal(a.Sum(nil), b.Sum(nil)) {
		return fault.New(ErrMismatch, name, "the file on disk is not what was written")
	}
	return nil
}

func (j *job) pass(ctx context.Context, phase string, sink engine.Sink) (engine.Result, error) {
	var done int64
	total := j.schedule.Bytes
	o := engine.Options{KeepNaN: j.opts.KeepNaN, AllowOverflow: j.opts.AllowOverflow}
	if j.opts.Progress != nil {
		j.opts.Progress(phase, 0, total)
		o.Progress = func(n int64) {
			done += n
			j.opts.Progress(phase, done, total)
		}
	}
	return engine.Run(ctx, j.plan, j.schedule, j.ring, j.source, sink, o)
}

func (j *job) copyFile(ctx context.Context, name string) error {
	f, err := j.plan.Source.OpenFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return j.dir.AddFile(ctx, name, f)
}

// openSource finds and lists a checkpoint.
func openSource(ctx context.Context, src, revision string) (*checkpoint.Inventory, error) {
	dir, err := checkpoint.Locate(src, revision)
	if err != nil {
		return nil, err
	}
	return checkpoint.Open(ctx, dir)
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
		if errors.Is(err, ErrNoDevice) {
			return nil, fault.New(ErrNoDevice, "--device metal", "no Metal device").WithHint("--device cpu gives the same bytes")
		}
		return nil, fault.In("--device metal", err)
	case !errors.Is(err, ErrNoDevice) && o.Warn != nil:
		o.Warn(err.Error() + "; the CPU computes")
	}
	return cpu, nil
}

// What the process holds beside the ring of slots, in bytes: the program, stacks, tables and shared buffers; and for each source
// tensor its share of inventory and plan, garbage included.
const (
	baseMemory   = 28 << 20
	tensorMemory = 1 << 10
)

func (o Options) memory() int64 {
	if o.MaxMemory == 0 {
		return DefaultMaxMemory
	}
	return o.MaxMemory
}

// limitMemory makes Go collect garbage before the process outgrows the limit, until restore.
func limitMemory(limit int64) (restore func()) {
	old := debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(min(old, limit))
	return func() { debug.SetMemoryLimit(old) }
}

// budget splits the memory limit: what a plan of this size holds, and the ring of slots. It is the same on every run.
func budget(p *plan.Plan, limit int64) (*engine.Schedule, error) {
	used := baseMemory + tensorMemory*int64(len(p.Source.Tensors))
	if least := used + engine.MinMemory(p); limit < least {
		return nil, fault.New(ErrNoSpace, "", "%s of memory are too little for this checkpoint, at least %s are needed", ibytes(limit), ibytes(mebibytes(least)<<20)).WithHint(
			"--max-memory %dMiB", mebibytes(least))
	}
	s := engine.NewSchedule(p, limit-used)
	debug.FreeOSMemory() // what planning left behind
	debug.SetMemoryLimit(min(debug.SetMemoryLimit(-1), limit-s.Memory()))
	return s, nil
}

func ibytes(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// mebibytes rounds up, so that the figure can be given back as an option.
func mebibytes(n int64) int64 { return (n + 1<<20 - 1) >> 20 }
