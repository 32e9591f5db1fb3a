package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/synth"
)

func newSynth(u *ui) *cobra.Command {
	var o synth.Options
	var scales string
	c := &cobra.Command{
		Use:   "synth DST",
		Short: "make a small checkpoint of a family's true structure",
		Long: `synth writes a checkpoint of random weights into the new directory DST. By default it has the names, types,
shards and every key of the FP8 release of Qwen3.6-35B-A3B, all 61,690 that mlx-lm rejects, in small dimensions.

Other families come as their labs publish them (names, config, how weights are scaled, prediction head, vision tower),
with a few layers and experts:

` + lines(synth.Families()),
		Example: `  metalcast synth qwen-fp8
  metalcast synth deepseek-fp8 --family deepseek_v3
  metalcast synth big --size 8GB`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if t, ok := dtype.ByConfigName(scales); ok && t != dtype.F16 {
				o.ScaleType = t
			} else if cmd.Flags().Changed("scale-type") {
				return usageError{fmt.Errorf("--scale-type: %q is neither bfloat16 nor float32", scales)}
			}
			for _, name := range []string{"layers", "experts", "hidden", "intermediate", "shards", "block-size", "vocab"} {
				if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "0" {
					return usageError{fmt.Errorf("--%s: 0, at least 1 was expected", name)}
				}
			}
			o.Progress = func(done, total int64) { u.progress("writing", done, total) }
			s, err := synth.Write(cmd.Context(), args[0], o)
			u.endProgress()
			if err != nil {
				return err
			}
			verdict := "mlx-lm knows every tensor"
			if s.MLXRejects > 0 {
				verdict = "mlx-lm would reject " + count(s.MLXRejects, "tensor")
			}
			u.messagef("%s: %s in %s, %s; %s", args[0], count(s.Tensors, "tensor"), count(s.Shards, "shard"), bytesText(s.Bytes), verdict)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Family, "family", synth.MoE, "one of those above")
	f.IntVar(&o.Layers, "layers", 0, "layers (default 40; a few in other families)")
	f.IntVar(&o.Experts, "experts", 0, "experts in a layer (default 256; 4 in other families)")
	f.IntVar(&o.Hidden, "hidden", 0, "hidden size (default 64; 256 in other families)")
	f.IntVar(&o.Intermediate, "intermediate", 0, "intermediate size of an expert, or of the dense MLP (default 16; 128 in other families)")
	f.Var(sizeFlag{&o.Size}, "size", "make it about this large, with the release's dimensions")
	f.IntVar(&o.Shards, "shards", 0, "shards (default 4)")
	f.Var(sizeFlag{&o.ShardSize}, "shard-size", "data in a shard, instead of --shards")
	f.IntVar(&o.BlockSize, "block-size", 0, "rows and columns of a scale block (default 128)")
	f.IntVar(&o.Vocab, "vocab", 0, "size of the vocabulary (default 512)")
	f.StringVar(&scales, "scale-type", "", "bfloat16 or float32 (default: as in the family's release)")
	f.BoolVar(&o.MTP, "mtp", false, "with a multi-token prediction head")
	f.BoolVar(&o.Vision, "vision", false, "with a vision tower")
	f.BoolVar(&o.Flat, "flat", false, "with a flat config, like text-only derivatives")
	f.BoolVar(&o.PerExpertBF16, "per-expert-bf16", false, "one bf16 tensor per expert")
	f.BoolVar(&o.Stacked, "stacked", false, "bf16 with stacked experts: nothing to convert")
	f.BoolVar(&o.ActivationScales, "activation-scales", false, "with activation scales, as static quantization leaves them")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of the random weights")
	return c
}

// lines lists words for a help text.
func lines(words []string) string {
	var b strings.Builder
	width := 0
	for i, w := range words {
		switch {
		case i == 0:
			b.WriteString("    ")
		case width+len(w) > 90:
			b.WriteString(",\n    ")
			width = 0
		default:
			b.WriteString(", ")
		}
		b.WriteString(w)
		width += len(w) + 2
	}
	return b.String()
}
