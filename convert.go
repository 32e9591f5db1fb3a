package metalcast

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/newdir"
	"github.com/metalcast/metalcast/internal/partial"
	"github.com/metalcast/metalcast/internal/pass"
	"github.com/metalcast/metalcast/internal/plan"
	"github.com/metalcast/metalcast/internal/record"
	"github.com/metalcast/metalcast/internal/space"
)

// Convert writes the converted checkpoint of src into a new directory dst. If it fails, or ctx
// ends, dst does not exist, unless the error says that dst is complete. After an *Interrupted the
// work done so far is in DST.partial, and the same call resumes it.
func Convert(ctx context.Context, src, dst string, o Options) (*Report, error) {
	start := time.Now()
	defer pass.LimitMemory(o.MaxMemory)()
	defer pass.Prepare(o.pass())()

	p, err := newPlan(ctx, src, o)
	if err != nil {
		return nil, err
	}
	dst, err = resolveDestination(p.Source.Dir, dst)
	if err != nil {
		return nil, err
	}
	runner, err := pass.New(p, o.pass())
	if err != nil {
		return nil, err
	}
	defer runner.Close()
	if o.Scales != TrustScales {
		if err := pass.CheckScales(ctx, p, runner.Source); err != nil {
			return nil, err
		}
	}
	c := &conversion{plan: p, opts: o, dst: dst, runner: runner}
	if err := c.begin(); err != nil {
		return nil, err
	}
	resumed := len(c.dir.Resumed().Done) > 0
	result, err := c.fill(ctx)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, c.end(err)
	}
	if err := c.dir.Commit(); err != nil {
		return nil, err
	}
	return &Report{
		Preview: preview(p, runner.Schedule, o), Destination: dst, Device: runner.Device,
		BytesRead: result.Read, BytesWritten: result.Written, PeakMemory: pass.PeakMemory(),
		Verified: o.Verify, Resumed: resumed, Findings: findings(result),
		NVFP4Groups: result.NVFP4.All, NVFP4Zeroed: result.NVFP4.Zeroed, NVFP4Coarse: result.NVFP4.Coarse,
		GPUSeconds: runner.GPUSeconds(), Seconds: time.Since(start).Seconds(),
	}, nil
}

// found returns what a pass has found in the source's tensors.
func found(r engine.Result) (list []record.Finding) {
	for _, f := range r.Findings {
		list = append(list, record.Finding{
			Tensor: f.Tensor, NaNCodes: f.Tally.NaN.N, BadScales: f.Tally.Scale.N, Overflows: f.Tally.Overflow.N,
			Large: f.Large.N, Largest: f.Large.Most,
		})
	}
	return list
}

func findings(r engine.Result) (list []Finding) {
	for _, f := range found(r) {
		list = append(list, Finding(f))
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

// openSource finds and lists a checkpoint.
func openSource(ctx context.Context, src, revision string) (*checkpoint.Inventory, error) {
	return checkpoint.Find(ctx, src, revision, family.Needless)
}

// conversion is one call of Convert.
type conversion struct {
	plan   *plan.Plan
	opts   Options
	dst    string
	runner *pass.Runner
	dir    *partial.Dir
}

// begin creates DST.partial, or takes over what an interrupted conversion left there.
func (c *conversion) begin() error {
	state, err := recordOf(c.plan, c.opts).State(c.plan)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(c.plan.Pieces, func(q plan.Piece) bool { return q.Params.Transposed }) {
		c.runner.Source.Once() // tiles of transposed pieces read their pages several times
	}
	o := c.opts
	c.dir, err = partial.CreateDir(c.dst, c.plan, partial.DirOptions{
		FS: partial.OS{Overcommit: space.System.Overcommits() && o.IgnoreSpace}, State: state,
		Restart: o.Restart, Every: o.CheckpointEvery, Warn: o.Warn, Room: c.checkSpace, Made: c.checkReserve,
	})
	if err != nil {
		return explainLeftover(err)
	}
	if c.dir.StartedOver() && o.Warn != nil {
		o.Warn(newdir.Partial(c.dst) + ": what an interrupted run left there has no save point that can be read; starting over")
	}
	return nil
}

// checkSpace refuses what cannot fit before anything is written.
func (c *conversion) checkSpace() error {
	if c.opts.IgnoreSpace {
		return nil
	}
	return fault.WithHint(space.Check(c.dst, c.plan.DiskBytes(), c.opts.Warn),
		"free some space, choose another disk, or --ignore-space if more can be freed on demand")
}

// checkReserve refuses an output that fits and leaves too little free.
func (c *conversion) checkReserve() error {
	if c.opts.IgnoreSpace {
		return nil
	}
	return fault.WithHint(space.CheckReserve(c.dst), "free some space, choose another disk, or --ignore-space")
}

// explainLeftover says what differs between this run and the one that left DST.partial.
func explainLeftover(err error) error {
	var d *partial.Differs
	if !errors.As(err, &d) {
		return err
	}
	return fault.New(nil, d.Partial, "was left by an interrupted run that this one cannot resume: %s", record.WhatDiffers(d.Had, d.Have)).WithHint(
		"give that run's source and options again, or --restart, which removes it and starts over")
}

// fill writes DST.partial: shards first, then the files beside them, and config.json last, because
// a directory with a config counts as a model.
func (c *conversion) fill(ctx context.Context) (engine.Result, error) {
	result, err := c.runner.Run(ctx, "converting", c.dir, c.dir.Resumed())
	if err != nil {
		return result, err
	}
	if err := c.runner.Source.Unchanged(); err != nil {
		return result, stale{err}
	}
	if err := c.dir.Seal(ctx); err != nil {
		return result, err
	}
	made := recordOf(c.plan, c.opts)
	made.Files, made.Findings = map[string]string{}, found(result)
	for _, f := range c.plan.Files {
		if made.Files[f.Name], err = c.copyFile(ctx, f.Name); err != nil {
			return result, err
		}
	}
	for _, t := range c.plan.Texts {
		made.Files[t.Name] = sum(t.Data)
	}
	if c.opts.Hashes {
		for i, s := range c.plan.Shards {
			if made.Files[s.Name], err = shardSum(c.dir, i, s.Size); err != nil {
				return result, err
			}
		}
	}
	text, err := made.Text()
	if err != nil {
		return result, err
	}
	last := len(c.plan.Texts) - 1
	texts := slices.Concat(c.plan.Texts[:last], []plan.Text{{Name: plan.ProvenanceName, Data: text}}, c.plan.Texts[last:])
	for _, t := range texts {
		if err := c.dir.AddFile(ctx, t.Name, bytes.NewReader(t.Data)); err != nil {
			return result, err
		}
	}
	if !c.opts.Verify {
		return result, nil
	}
	return result, c.verify(ctx, texts)
}

// copyFile copies a file of the source and returns its SHA-256.
func (c *conversion) copyFile(ctx context.Context, name string) (string, error) {
	f, err := c.plan.Source.OpenFile(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if err := c.dir.AddFile(ctx, name, io.TeeReader(f, h)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// end keeps DST.partial to be resumed after err, or removes it.
func (c *conversion) end(err error) error {
	var worthless stale
	var bug *fault.Panic
	if errors.As(err, &worthless) || errors.As(err, &bug) {
		return errors.Join(err, c.dir.Abort())
	}
	kept, keepErr := c.dir.Keep()
	err = errors.Join(err, keepErr)
	if !kept {
		return err
	}
	return &Interrupted{Partial: newdir.Partial(c.dst), Err: err}
}

// verify compares everything in DST.partial with the plan, a second computation, and the source. If
// a GPU made the first computation the CPU makes the second.
func (c *conversion) verify(ctx context.Context, texts []plan.Text) error {
	if err := c.runner.UseCPU(); err != nil {
		return err
	}
	c.dir.Forget()
	for i := range c.plan.Shards {
		if err := verifyHeader(c.plan, c.dir, i); err != nil {
			return stale{fault.In(c.plan.Shards[i].Name, err)}
		}
	}
	if _, err := c.runner.Run(ctx, "verifying", &engine.Comparer{Plan: c.plan, Disk: c.dir}, engine.Progress{}); err != nil {
		if errors.Is(err, ErrMismatch) {
			return stale{err}
		}
		return err
	}
	for _, t := range texts {
		if got, err := sumOf(c.dir.OpenFile(t.Name)); err != nil || got != sum(t.Data) {
			return stale{fileDiffers(t.Name, err)}
		}
	}
	for _, f := range c.plan.Files {
		got, err := sumOf(c.dir.OpenFile(f.Name))
		if err != nil {
			return stale{fileDiffers(f.Name, err)}
		}
		want, err := sumOf(c.plan.Source.OpenFile(f.Name))
		if err != nil {
			return err
		}
		if got != want {
			return stale{fileDiffers(f.Name, nil)}
		}
	}
	return nil
}

func fileDiffers(name string, err error) error {
	if err != nil {
		return fault.New(ErrMismatch, name, "cannot be read back: %v", err)
	}
	return fault.New(ErrMismatch, name, "the file on disk is not what was written")
}

// sum returns the SHA-256 of b in hexadecimal digits, like all sums here.
func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// stale is an error that makes all that was written worthless: the source changed, or the disk does
// not hold what was written to it.
type stale struct{ error }

func (s stale) Unwrap() error { return s.error }

// Interrupted is the error of a conversion that ended early and left its work in Partial: the same
// conversion, run again, resumes it.
type Interrupted struct {
	Partial string // the directory
	Err     error
}

func (i *Interrupted) Error() string { return i.Err.Error() }

func (i *Interrupted) Unwrap() error { return i.Err }
