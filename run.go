package metalcast

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"runtime/debug"
	"slices"

	"github.com/dustin/go-humanize"

	"github.com/metalcast/metalcast/cpufallback"
	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/newdir"
	"github.com/metalcast/metalcast/internal/partial"
	"github.com/metalcast/metalcast/internal/plan"
	"github.com/metalcast/metalcast/internal/safetensors"
	"github.com/metalcast/metalcast/metal"
)

// job is one conversion at work.
type job struct {
	plan     *plan.Plan
	memory   int64 // for the ring of slots, in bytes
	schedule *engine.Schedule
	be       kernel.Backend
	ring     *engine.Ring
	source   *checkpoint.Source
	dir      *partial.Dir
	opts     Options
	dst      string

	device     string  // the backend that converted
	sample     float64 // part of the windows that is run, where above 0
	gpuSeconds float64 // of backends that are closed
}

// newJob opens what passes over a plan need: their share of the memory, the source and a backend. close gives them back.
func newJob(p *plan.Plan, o Options) (*job, error) {
	memory, err := budget(p, o.memory())
	if err != nil {
		return nil, err
	}
	source, err := p.Source.OpenSource()
	if err != nil {
		return nil, err
	}
	be, err := openBackend(o)
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	return &job{plan: p, memory: memory, be: be, source: source, opts: o, device: be.Name()}, nil
}

func (j *job) close() {
	j.source.Close()
	j.be.Close()
}

// rechecking is options for computing again, by its plan, what a conversion has written: it has decided about NaN and scales, and perhaps used the GPU.
func rechecking(o Options) Options {
	o.KeepNaN, o.AllowOverflow, o.Scales = true, true, TrustScales
	if o.Device == "" || o.Device == "auto" {
		o.Device = "cpu"
	}
	return o
}

// run fills DST.partial: shards first, then the files beside them, config.json last, for a directory with a config counts as a model.
func (j *job) run(ctx context.Context) (engine.Result, error) {
	result, err := j.pass(ctx, "converting", j.dir, j.dir.Resumed())
	if err != nil {
		return result, err
	}
	if err := j.source.Unchanged(); err != nil {
		return result, stale{err}
	}
	if err := j.dir.Seal(ctx); err != nil {
		return result, err
	}
	record := provenanceOf(j.plan, j.opts)
	record.Files, record.Findings = map[string]string{}, findings(result)
	for _, f := range j.plan.Files {
		if record.Files[f.Name], err = j.copyFile(ctx, f.Name); err != nil {
			return result, err
		}
	}
	for _, t := range j.plan.Texts {
		record.Files[t.Name] = sum(t.Data)
	}
	if j.opts.Hashes {
		for i, s := range j.plan.Shards {
			if record.Files[s.Name], err = shardSum(j.dir, i, s.Size); err != nil {
				return result, err
			}
		}
	}
	text, err := record.text()
	if err != nil {
		return result, err
	}
	last := len(j.plan.Texts) - 1
	texts := slices.Concat(j.plan.Texts[:last], []plan.Text{{Name: plan.ProvenanceName, Data: text}}, j.plan.Texts[last:])
	for _, t := range texts {
		if err := j.dir.AddFile(ctx, t.Name, bytes.NewReader(t.Data)); err != nil {
			return result, err
		}
	}
	if !j.opts.Verify {
		return result, nil
	}
	return result, j.verify(ctx, texts)
}

// sum is the SHA-256 of b, in hexadecimal digits as all sums are.
func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// stale is an error after which what was written is worth nothing: the source changed, or the disk does not hold what it was given.
type stale struct{ error }

func (s stale) Unwrap() error { return s.error }

// Interrupted is the error of a conversion that ended early and left its work in Partial: the same conversion again goes on with it.
type Interrupted struct {
	Partial string // the directory
	Err     error
}

func (i *Interrupted) Error() string { return i.Err.Error() }

func (i *Interrupted) Unwrap() error { return i.Err }

// end leaves DST.partial as it should be after err: kept for a run that goes on, or removed.
func (j *job) end(err error) error {
	var worthless stale
	var bug *fault.Panic
	if errors.As(err, &worthless) || errors.As(err, &bug) {
		return errors.Join(err, j.dir.Abort())
	}
	kept, keepErr := j.dir.Keep()
	err = errors.Join(err, keepErr)
	if !kept {
		return err
	}
	return &Interrupted{Partial: newdir.Partial(j.dst), Err: err}
}

// verify compares everything in DST.partial with what the plan, a second computation, and the source say. The computation is another backend's where there
// is one.
func (j *job) verify(ctx context.Context, texts []plan.Text) error {
	if err := j.otherBackend(); err != nil {
		return err
	}
	j.dir.Forget()
	for i := range j.plan.Shards {
		if err := verifyHeader(j.plan, j.dir, i); err != nil {
			return stale{fault.In(j.plan.Shards[i].Name, err)}
		}
	}
	if _, err := j.pass(ctx, "verifying", &engine.Comparer{Plan: j.plan, Disk: j.dir}, engine.Progress{}); err != nil {
		if errors.Is(err, ErrMismatch) {
			return stale{err}
		}
		return err
	}
	for _, t := range texts {
		if got, err := sumOf(j.dir.OpenFile(t.Name)); err != nil || got != sum(t.Data) {
			return stale{fileDiffers(t.Name, err)}
		}
	}
	for _, f := range j.plan.Files {
		got, err := sumOf(j.dir.OpenFile(f.Name))
		if err != nil {
			return stale{fileDiffers(f.Name, err)}
		}
		want, err := sumOf(j.plan.Source.OpenFile(f.Name))
		if err != nil {
			return err
		}
		if got != want {
			return stale{fileDiffers(f.Name, nil)}
		}
	}
	return nil
}

// otherBackend exchanges the backend for the CPU, where it is another; the slots of the first are given back before.
func (j *job) otherBackend() error {
	if j.be.Name() == "cpu" {
		return nil
	}
	if err := j.closeBackend(); err != nil {
		return err
	}
	j.be = cpufallback.New(0)
	return nil
}

// allocate makes the ring of slots for the schedule, if the one that there is does not hold it. Slots go with their backend.
func (j *job) allocate() (err error) {
	if j.ring != nil && j.ring.Holds(j.schedule) {
		return nil
	}
	if j.ring != nil {
		if err := j.closeBackend(); err != nil {
			return err
		}
		if j.be, err = openBackend(j.opts); err != nil {
			return err
		}
	}
	leaveRoom(j.schedule, j.opts.memory())
	j.ring, err = engine.NewRing(j.schedule, j.be)
	return err
}

func (j *job) closeBackend() error {
	if gpu, ok := j.be.(interface{ GPUSeconds() float64 }); ok {
		j.gpuSeconds += gpu.GPUSeconds()
	}
	j.ring = nil
	return j.be.Close()
}

func fileDiffers(name string, err error) error {
	if err != nil {
		return fault.New(ErrMismatch, name, "cannot be read back: %v", err)
	}
	return fault.New(ErrMismatch, name, "the file on disk is not what was written")
}

// reader gives the bytes of a directory's shards.
type reader interface {
	ReadAt(shard int, p []byte, off int64) error
}

// verifyHeader reads a shard's header back, as a reader would and byte for byte.
func verifyHeader(p *plan.Plan, d reader, i int) error {
	s := &p.Shards[i]
	got := make([]byte, len(s.Header))
	if err := d.ReadAt(i, got, 0); err != nil {
		return err
	}
	if !bytes.Equal(got, s.Header) {
		return fault.New(ErrMismatch, "", "the header on disk is not the one that was written")
	}
	_, err := safetensors.Read(shardReader{d, i}, s.Size)
	return err
}

// shardReader is a shard as an io.ReaderAt.
type shardReader struct {
	dir   reader
	shard int
}

func (r shardReader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.dir.ReadAt(r.shard, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// pass runs the plan into a sink, without what an earlier run has done.
func (j *job) pass(ctx context.Context, phase string, sink engine.Sink, earlier engine.Progress) (engine.Result, error) {
	j.schedule = engine.NewScheduleAfter(j.plan, j.memory, earlier)
	if j.sample > 0 && j.sample < 1 {
		j.schedule.Sample(j.sample)
	}
	if err := j.allocate(); err != nil {
		return engine.Result{}, err
	}
	done := j.schedule.Before
	total := j.schedule.Bytes + j.schedule.Before
	o := engine.Options{KeepNaN: j.opts.KeepNaN, AllowOverflow: j.opts.AllowOverflow, AllowLarge: j.opts.Scales == TrustScales, Resumed: earlier.Counts}
	if j.opts.Progress != nil {
		j.opts.Progress(phase, done, total)
		o.Progress = func(n int64) {
			done += n
			j.opts.Progress(phase, done, total)
		}
	}
	return engine.Run(ctx, j.plan, j.schedule, j.ring, j.source, sink, o)
}

// copyFile copies a file of the source and gives its SHA-256.
func (j *job) copyFile(ctx context.Context, name string) (string, error) {
	f, err := j.plan.Source.OpenFile(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if err := j.dir.AddFile(ctx, name, io.TeeReader(f, h)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// openSource finds and lists a checkpoint.
func openSource(ctx context.Context, src, revision string) (*checkpoint.Inventory, error) {
	return checkpoint.Find(ctx, src, revision, family.Needless)
}

// prepareBackend begins, while headers are read, what openBackend takes longest for.
func prepareBackend(o Options) (settle func()) {
	if o.Device == "cpu" {
		return func() {}
	}
	return metal.Prepare(o.Quantize != nil)
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
	gpu, err := metal.Open(metal.Options{CPU: cpu, Strict: strict, Quantize: o.Quantize != nil, Warn: o.Warn})
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
// tensor, or each piece where a few tensors make many, its share of inventory and plan, garbage included.
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

// budget splits the memory limit: what a plan of this size holds, and the ring of slots, whose share it gives. It is the same on every run.
func budget(p *plan.Plan, limit int64) (int64, error) {
	used := baseMemory + tensorMemory*int64(max(len(p.Source.Tensors), len(p.Pieces)))
	if least := used + engine.MinMemory(p); limit < least {
		return 0, fault.New(ErrNoSpace, "", "%s of memory are too little for this checkpoint, at least %s are needed", ibytes(limit), ibytes(mebibytes(least)<<20)).WithHint(
			"--max-memory %dMiB", mebibytes(least))
	}
	return limit - used, nil
}

// leaveRoom makes Go's heap leave the ring's share of the limit alone.
func leaveRoom(s *engine.Schedule, limit int64) {
	debug.FreeOSMemory() // what planning left behind
	debug.SetMemoryLimit(min(debug.SetMemoryLimit(-1), limit-s.Memory()))
}

func ibytes(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// mebibytes rounds up, so that the figure can be given back as an option.
func mebibytes(n int64) int64 { return (n + 1<<20 - 1) >> 20 }
