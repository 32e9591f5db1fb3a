package metalcast

import (
	"github.com/dustin/go-humanize"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/pass"
	"github.com/metalcast/metalcast/internal/plan"
	"github.com/metalcast/metalcast/internal/record"
)

// DefaultMaxMemory is the default bound on the process's resident memory, in bytes.
const DefaultMaxMemory = pass.DefaultMemory

// The values of Options.Scales.
const (
	TrustScales  = "trust"
	InvertScales = "invert"
)

// Options are the options of Convert. The zero value is what most callers want.
type Options struct {
	// Layout is auto (the default), stacked, per-expert or mlx.
	Layout string
	// DType is bfloat16, float16 or float32, for every floating tensor of the output. If empty, FP8
	// weights become bfloat16 and other tensors stay as they are.
	DType string
	// KeepMTP keeps the multi-token prediction head in the output.
	KeepMTP bool
	// Scales says how to read scales that are refused otherwise. TrustScales ("trust") takes them as
	// the file has them: weights that no model has, and scales with doubtful places as plain rows of
	// blocks (MiMo-V2's K and V, and grids with more rows than the weight has blocks). InvertScales
	// ("invert") takes all of them as reciprocals: a weight is its code times 1/scale, which is
	// rounded to float32. If empty, codes are multiplied by them, and what cannot be right is refused.
	Scales string
	// Quantize asks for quantized weights, in MLX-native layout; nil for none.
	Quantize *Quantize
	// MaxShardSize bounds the data of an output shard, in bytes; 0 means 5 GiB. A larger tensor gets a
	// shard of its own.
	MaxShardSize int64

	// Revision chooses a branch, tag or commit if the source is a model id.
	Revision string
	// Device is auto (the default: a working Metal device, otherwise the CPU), metal (or an error) or
	// cpu. It never changes a byte of the output.
	Device string
	// MaxMemory bounds the process's resident memory, in bytes; 0 means DefaultMaxMemory.
	MaxMemory int64
	// KeepNaN accepts NaN codes and non-finite scales, which are refused otherwise.
	KeepNaN bool
	// AllowOverflow accepts values too large for DType, which become infinite.
	AllowOverflow bool
	// IgnoreSpace starts even if the disk seems too small.
	IgnoreSpace bool
	// Restart discards DST.partial and starts over. The default is to resume it.
	Restart bool
	// CheckpointEvery is how many bytes of output a crash may cost, approximately; 0 means 2 GiB.
	CheckpointEvery int64
	// Hashes also records the SHA-256 of the shards in metalcast.json, which takes reading them back.
	Hashes bool
	// Verify reads the output back and compares every byte with a second computation before DST
	// appears.
	Verify bool
	// Warn receives what does not stop the run: that the GPU could not be used or failed, once, and
	// what was done instead; that disk space seems short; that the work of an interrupted run was of
	// no use. Any goroutine may call it. May be nil.
	Warn func(message string)
	// Progress is called now and then, by one goroutine, with the source bytes done and the bytes in
	// all; with Verify both start again. May be nil.
	Progress func(phase string, done, total int64)
}

func (o Options) planOptions() (plan.Options, error) {
	p := plan.Options{Layout: family.Layout(o.Layout), Roles: family.Options{KeepMTP: o.KeepMTP, TrustScales: o.Scales == TrustScales}, Invert: o.Scales == InvertScales, ShardSize: o.MaxShardSize, Tool: "metalcast " + Version}
	if o.Scales != "" && o.Scales != TrustScales && o.Scales != InvertScales {
		return p, fault.New(ErrUsage, "--scales", "%q is neither trust nor invert", o.Scales)
	}
	if o.DType != "" {
		var ok bool
		if p.DType, ok = dtype.ByConfigName(o.DType); !ok {
			return p, fault.New(ErrUsage, "--dtype", "%q is not one of bfloat16, float16, float32", o.DType)
		}
	}
	if o.Quantize != nil {
		var err error
		if p.Quantize, err = o.Quantize.planned(); err != nil {
			return p, err
		}
	}
	if o.MaxShardSize < 0 || o.MaxMemory < 0 || o.CheckpointEvery < 0 {
		return p, fault.New(ErrUsage, "", "a negative size")
	}
	if o.MaxShardSize > 0 && o.MaxShardSize < 1<<20 {
		return p, fault.New(ErrUsage, "--max-shard-size", "%s is below the least, 1 MiB", humanize.IBytes(uint64(o.MaxShardSize)))
	}
	return p, nil
}

// pass returns what a pass needs of the options.
func (o Options) pass() pass.Options {
	return pass.Options{
		Device: o.Device, Quantizes: o.Quantize != nil, MaxMemory: o.MaxMemory, KeepNaN: o.KeepNaN,
		AllowOverflow: o.AllowOverflow, AllowLarge: o.Scales == TrustScales, Warn: o.Warn, Progress: o.Progress,
	}
}

// recordOf returns the record of a plan by these options.
func recordOf(p *plan.Plan, o Options) record.Record {
	return record.New(p, Version, record.Options{
		DType: o.DType, KeepMTP: o.KeepMTP, Scales: o.Scales, MaxShardSize: o.MaxShardSize,
		Quantize: (*record.Quantize)(o.Quantize),
	})
}

// optionsOf returns the options that a record asks for again.
func optionsOf(r *record.Record) Options {
	o := r.Options
	return Options{
		Layout: o.Layout, DType: o.DType, KeepMTP: o.KeepMTP, Scales: o.Scales, MaxShardSize: o.MaxShardSize,
		Quantize: (*Quantize)(o.Quantize),
	}
}
