package main

import (
	"fmt"
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

// conversionFlags are the ones that convert and plan share.
func conversionFlags(c *cobra.Command, o *metalcast.Options) {
	f := c.Flags()
	f.StringVar(&o.Layout, "layout", "", "auto, stacked, per-expert or mlx (default auto: what the family's consumers load)")
	f.StringVar(&o.DType, "dtype", "", "bfloat16, float16 or float32, for all floating tensors (default: FP8 becomes bfloat16, the rest stays)")
	f.BoolVar(&o.KeepMTP, "keep-mtp", false, "keep the multi-token prediction head")
	f.StringVar(&o.Revision, "revision", "", "branch, tag or commit, where the source is a model id")
	o.MaxShardSize, o.MaxMemory = 5<<30, metalcast.DefaultMaxMemory
	f.Var(sizeFlag{&o.MaxShardSize}, "max-shard-size", "data in an output shard, at most")
	f.Var(sizeFlag{&o.MaxMemory}, "max-memory", "resident memory, at most")
}
