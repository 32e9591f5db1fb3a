// Package metalcast converts FP8 checkpoints into ones that Apple-silicon runtimes load.
//
// A checkpoint is a directory of safetensors shards, an index and a config. Labs publish them with E4M3 weights, a scale for each block of 128x128 elements, and one
// tensor for each expert; mlx-lm and its relatives want bfloat16 and, for some families, an expert axis. [Convert] does that in one
// streaming pass: memory stays below a bound whatever the model's size, DST appears complete or not at all, and the same source and options give the same bytes
// on every machine, device and memory size.
//
//	report, err := metalcast.Convert(ctx, "Qwen3.6-35B-A3B-FP8", "Qwen3.6-35B-A3B-bf16", metalcast.Options{})
//
// [PlanConversion] tells from headers alone what Convert would write; [Inspect] tells what a checkpoint is.
//
// # Sources
//
// A source is a directory, or the id of a model ("org/name") in the local hub cache, found by the rules of HF_HOME and HF_HUB_CACHE. Nothing is
// downloaded and nothing in a source is ever written to.
//
// # Arithmetic
//
// A weight is bf16(f32(code) * f32(scale)), both steps rounded to nearest even, as DeepSeek's reference script, compressed-tensors and MLX
// compute it. NaN codes and scales that are not finite are refused, with their place, unless Options.KeepNaN says otherwise. Tensors that are not FP8
// pass byte for byte unless Options.DType asks for a cast.
//
// # Errors
//
// Every error says where, what was found and what was expected; errors.Is finds its cause ([ErrCorrupt] and so on), [Hint] what to do about it.
// The package never logs, never exits, and leaves no DST behind on failure.
//
// Convert keeps its memory promise for a whole process: while it runs it sets the Go runtime's memory limit (debug.SetMemoryLimit), so let one conversion run
// at a time.
package metalcast

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/newdir"
	"github.com/metalcast/metalcast/internal/partial"
	"github.com/metalcast/metalcast/internal/plan"
)

// Version is the version of the tool, a semantic one; a candidate for a release ends with -rc.N. Model cards and metalcast.json name it, whatever the program was built from.
const Version = "0.1.0"

// Report is what a conversion did.
type Report struct {
	Preview
	Destination  string    `json:"destination"`
	Device       string    `json:"device"`                // metal or cpu
	GPUSeconds   float64   `json:"gpu_seconds,omitempty"` // that the GPU spent on windows
	BytesRead    int64     `json:"bytes_read"`
	BytesWritten int64     `json:"bytes_written"`
	Seconds      float64   `json:"seconds"`
	PeakMemory   int64     `json:"peak_memory_bytes"` // resident, of the whole process; 0 where the system does not tell
	Verified     bool      `json:"verified"`
	Resumed      bool      `json:"resumed,omitempty"` // an earlier run, which was cut short, had done a part
	Findings     []Finding `json:"findings,omitempty"`
	NVFP4Groups  int64     `json:"nvfp4_groups,omitempty"`
	NVFP4Zeroed  int64     `json:"nvfp4_zeroed_groups,omitempty"` // whose scale is zero, and so every weight
	NVFP4Coarse  int64     `json:"nvfp4_coarse_groups,omitempty"` // whose scale is subnormal and so has fewer than four significant bits
}

// Finding is a source tensor with values that a sound checkpoint does not hold.
type Finding struct {
	Tensor    string `json:"tensor"`
	NaNCodes  int64  `json:"nan_codes,omitempty"`
	BadScales int64  `json:"non_finite_scales,omitempty"`
	Overflows int64  `json:"overflows,omitempty"`
	// Large weights are beyond what any model holds, Largest is the greatest magnitude of one.
	Large   int64   `json:"large_weights,omitempty"`
	Largest float64 `json:"largest_weight,omitempty"`
}

// Convert writes the converted checkpoint of src into a new directory dst. On any error, and when ctx ends, there is no dst, unless the error says that it is complete; where the error is Interrupted, what
// was done so far is in DST.partial, and the same call again goes on with it.
func Convert(ctx context.Context, src, dst string, o Options) (*Report, error) {
	start := time.Now()
	defer limitMemory(o.memory())()
	defer prepareBackend(o)()
	p, err := newPlan(ctx, src, o)
	if err != nil {
		return nil, err
	}
	dst, err = resolveDestination(p.Source.Dir, dst)
	if err != nil {
		return nil, err
	}
	job, err := newJob(p, o)
	if err != nil {
		return nil, err
	}
	defer job.close()
	job.dst = dst
	if err := checkScales(ctx, p, job.source, o); err != nil {
		return nil, err
	}
	state, err := stateOf(p, o)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(p.Pieces, func(q plan.Piece) bool { return q.Params.Transposed }) { // tiles read their pages several times
		job.source.Once()
	}
	job.dir, err = partial.CreateDir(dst, p, partial.DirOptions{
		FS: partial.OS{Overcommit: len(rules.purgeable) > 0 && o.IgnoreSpace}, State: state, Restart: o.Restart, Every: o.CheckpointEvery, Warn: o.Warn,
		Room: func() error { return checkSpace(p, dst, o) }, Made: func() error { return checkReserve(dst, o) },
	})
	if err != nil {
		return nil, explainLeftover(err)
	}
	if job.dir.BeganAnew() && o.Warn != nil {
		o.Warn(newdir.Partial(dst) + ": what an interrupted run left there has no checkpoint that can be read; beginning anew")
	}
	resumed := len(job.dir.Resumed().Done) > 0
	result, err := job.run(ctx)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, job.end(err)
	}
	if err := job.dir.Commit(); err != nil {
		return nil, err
	}
	r := &Report{
		Preview: preview(p, job.schedule, o), Destination: dst, Device: job.device, BytesRead: result.Read, BytesWritten: result.Written,
		PeakMemory: peakMemory(), Verified: o.Verify, Resumed: resumed, Seconds: time.Since(start).Seconds(), GPUSeconds: job.gpuSeconds,
	}
	if gpu, ok := job.be.(interface{ GPUSeconds() float64 }); ok {
		r.GPUSeconds += gpu.GPUSeconds()
	}
	r.Findings = findings(result)
	r.NVFP4Groups, r.NVFP4Zeroed, r.NVFP4Coarse = result.NVFP4.All, result.NVFP4.Zeroed, result.NVFP4.Coarse
	return r, nil
}

// explainLeftover says what differs between this run and the one that left DST.partial.
func explainLeftover(err error) error {
	var d *partial.Differs
	if !errors.As(err, &d) {
		return err
	}
	return fault.New(nil, d.Partial, "was left by an interrupted run that this one cannot go on with: %s", whatDiffers(d.Had, d.Have)).WithHint(
		"give that run's source and options again, or --restart, which removes it and begins anew")
}

func findings(r engine.Result) (list []Finding) {
	for _, f := range r.Findings {
		list = append(list, Finding{f.Tensor, f.Tally.NaN.N, f.Tally.Scale.N, f.Tally.Overflow.N, f.Large.N, f.Large.Most})
	}
	return list
}

// newPlan finds the source and plans its conversion.
func newPlan(ctx context.Context, src string, o Options) (*plan.Plan, error) {
	if _, err := o.planOptions(); err != nil {
		return nil, err // before anything is read
	}
	v, err := openSource(ctx, src, o.Revision)
	if err != nil {
		return nil, err
	}
	return planOf(ctx, v, o)
}

// planOf plans the conversion of a source.
func planOf(ctx context.Context, v *checkpoint.Inventory, o Options) (*plan.Plan, error) {
	po, err := o.planOptions()
	if err != nil {
		return nil, err
	}
	p, err := plan.New(v, po)
	if err != nil {
		return nil, err
	}
	return p, ctx.Err()
}
