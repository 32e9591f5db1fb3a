package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
)

// sizeFlag reads sizes as people write them: 512MiB, 8GB, 1073741824.
type sizeFlag struct{ n *int64 }

func (f sizeFlag) String() string {
	if f.n == nil || *f.n == 0 {
		return ""
	}
	return strings.ReplaceAll(humanize.IBytes(uint64(*f.n)), " ", "")
}

func (f sizeFlag) Set(s string) error {
	n, err := humanize.ParseBytes(s)
	if err != nil || n == 0 || n > 1<<62 {
		return fmt.Errorf("%q is no size; write 512MiB or 8GB", s)
	}
	*f.n = int64(n)
	return nil
}

func (sizeFlag) Type() string { return "size" }

// scalesFlag reads trust or invert, which exclude each other.
type scalesFlag struct{ how *string }

func (f scalesFlag) String() string {
	if f.how == nil {
		return ""
	}
	return *f.how
}

func (f scalesFlag) Set(s string) error {
	switch {
	case s != metalcast.TrustScales && s != metalcast.InvertScales:
		return fmt.Errorf("%q is neither trust nor invert", s)
	case *f.how != "" && *f.how != s:
		return fmt.Errorf("scales are trusted or inverted, not both")
	}
	*f.how = s
	return nil
}

func (scalesFlag) Type() string { return "how" }

// quantFlags are those for quantizing, named as in mlx_lm.convert if it has them.
type quantFlags struct {
	on bool
	q  metalcast.Quantize
}

func (x *quantFlags) register(c *cobra.Command) {
	f := c.Flags()
	f.BoolVarP(&x.on, "quantize", "q", false, "quantize, as mlx_lm.convert -q does, into MLX-native layout")
	f.StringVar(&x.q.Mode, "q-mode", "", "affine (default), mxfp4, mxfp8 or nvfp4")
	f.IntVar(&x.q.Bits, "q-bits", 0, "bits of a weight: 2, 3, 4, 5, 6 or 8 (default: the mode's, 4, or 8 for mxfp8)")
	f.IntVar(&x.q.GroupSize, "q-group-size", 0, "weights that share a scale: 32, 64 or 128 (default: the mode's, 64, or 32 for mxfp4 and mxfp8, 16 for nvfp4)")
	f.StringVar(&x.q.Predicate, "quant-predicate", "", "a mixed recipe: mixed_2_6, mixed_3_4, mixed_3_6 or mixed_4_6")
	f.StringArrayVar(&x.q.Overrides, "q-override", nil, "PATTERN=bits[:group[:mode]] or PATTERN=none for modules that match; * matches anything; repeatable; @FILE has one per line")
	f.StringVar(&x.q.Profile, "q-profile", "", "whose bits: metal (default), what mlx_lm writes on a Mac, or cpu, on Linux")
}

// options returns what was asked for; nil without -q.
func (x *quantFlags) options() (*metalcast.Quantize, error) {
	q := x.q
	if !x.on {
		if q.Mode != "" || q.Bits != 0 || q.GroupSize != 0 || q.Predicate != "" || q.Profile != "" || len(q.Overrides) > 0 {
			return nil, usageError{errors.New("the --q-... flags and --quant-predicate go with -q")}
		}
		return nil, nil
	}
	q.Overrides = nil
	for _, text := range x.q.Overrides {
		name, isFile := strings.CutPrefix(text, "@")
		if !isFile {
			q.Overrides = append(q.Overrides, text)
			continue
		}
		lines, err := os.ReadFile(name)
		if err != nil {
			return nil, usageError{fmt.Errorf("--q-override: %w", err)}
		}
		for line := range strings.Lines(string(lines)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				q.Overrides = append(q.Overrides, line)
			}
		}
	}
	return &q, nil
}

// mlxQuantFlags are mlx_lm.convert's flags for the same quantization; it has none for single
// modules.
func mlxQuantFlags(q *metalcast.Quantize) (flags []string) {
	for _, x := range []struct {
		flag  string
		value any
		set   bool
	}{
		{"--q-bits", q.Bits, q.Bits != 0}, {"--q-group-size", q.GroupSize, q.GroupSize != 0},
		{"--q-mode", q.Mode, q.Mode != ""}, {"--quant-predicate", q.Predicate, q.Predicate != ""},
	} {
		if x.set {
			flags = append(flags, fmt.Sprintf("%s=%v", x.flag, x.value))
		}
	}
	return flags
}

// conversionFlags are those that convert and plan share.
func conversionFlags(c *cobra.Command, o *metalcast.Options) {
	f := c.Flags()
	f.StringVar(&o.Layout, "layout", "", "auto, stacked, per-expert or mlx (default auto: what the family's runtimes load)")
	f.StringVar(&o.DType, "dtype", "", "bfloat16, float16 or float32, for all floating tensors (default: FP8 becomes bfloat16, the rest stays)")
	f.BoolVar(&o.KeepMTP, "keep-mtp", false, "keep the multi-token prediction head")
	f.Var(scalesFlag{&o.Scales}, "scales", "trust: take scales as the file has them, even if they seem wrong; invert: divide by them, because they are reciprocals")
	f.BoolFunc("trust-scales", "the older name of --scales trust", func(on string) error {
		if on == "false" {
			return nil
		}
		return scalesFlag{&o.Scales}.Set(metalcast.TrustScales)
	})
	f.StringVar(&o.Revision, "revision", "", "branch, tag or commit, if the source is a model id")
	o.MaxShardSize, o.MaxMemory = 5<<30, metalcast.DefaultMaxMemory
	f.Var(sizeFlag{&o.MaxShardSize}, "max-shard-size", "most data in an output shard")
	f.Var(sizeFlag{&o.MaxMemory}, "max-memory", "most resident memory")
}
