package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
)

func newPlan(u *ui) *cobra.Command {
	var o metalcast.Options
	var q quantFlags
	c := &cobra.Command{
		Use:   "plan SRC",
		Short: "show what convert would write, from headers and scales",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.Quantize, err = q.options(); err != nil {
				return err
			}
			return showPlan(cmd, u, args[0], o)
		},
	}
	conversionFlags(c, &o)
	q.register(c)
	c.Flags().BoolVar(&u.json, "json", false, "print one JSON document, with every tensor")
	return c
}

func showPlan(cmd *cobra.Command, u *ui, src string, o metalcast.Options) error {
	p, err := metalcast.PlanConversion(cmd.Context(), src, o)
	if err != nil {
		return err
	}
	if u.json {
		return u.printJSON(p)
	}
	w := u.table()
	w.fact("source", "%s", p.Source)
	w.fact("family", "%s (%s)", p.Family, p.Form)
	w.fact("layout", "%s, %s", p.Layout, p.DType)
	w.fact("read", "%s, %s", count(p.SourceTensors, "tensor"), bytesText(p.SourceBytes))
	w.fact("write", "%s, %s on disk", count(len(p.Tensors), "tensor"), bytesText(p.DiskBytes))
	for _, a := range actions(p) {
		w.fact("", "%s", a)
	}
	if x := p.Quantization; x != nil {
		w.fact("quantize", "%s, %d bits in groups of %d, as mlx_lm.convert writes it on %s: %s", x.Mode, x.Bits, x.GroupSize, profileText(x.Profile), count(x.Modules, "module"))
		for _, line := range exceptions(x.Other) {
			w.fact("", "%s", line)
		}
	}
	w.fact("weights", "%.2f bits each, scales included; %s", p.BitsPerWeight, macText(p.LeastMac))
	w.fact("memory", "%s for windows in flight, of --max-memory %s", bytesText(p.MemoryBytes), bytesText(o.MaxMemory))
	w.flush()

	u.linef("")
	w.row("shard", "tensors", "size")
	for _, s := range p.Shards {
		w.row(s.Name, fmt.Sprint(s.Tensors), bytesText(s.Bytes))
	}
	w.flush()
	if len(p.Dropped) > 0 {
		u.linef("")
		w.row("dropped", "size", "why")
		for _, d := range p.Dropped {
			w.row(count(len(d.Tensors), "tensor"), bytesText(d.Bytes), d.Reason)
		}
		w.flush()
	}
	for _, n := range p.Notes {
		u.warningf("%s", n)
	}
	return nil
}

func profileText(profile string) string {
	if profile == "cpu" {
		return "Linux"
	}
	return "a Mac"
}

// macText says which Macs the weights fit.
func macText(gb int) string {
	if gb == 0 {
		return "too large for a Mac of 128 GB"
	}
	return fmt.Sprintf("they fit a Mac of %d GB", gb)
}

// exceptions counts modules by their format.
func exceptions(list []metalcast.Module) (lines []string) {
	counts := map[string]int{}
	for _, m := range list {
		counts[m.Format]++
	}
	for _, format := range slices.Sorted(maps.Keys(counts)) {
		i := slices.IndexFunc(list, func(m metalcast.Module) bool { return m.Format == format })
		name := format
		if format == "none" {
			name = "not quantized"
		}
		lines = append(lines, fmt.Sprintf("%s: %s, the first %s", name, count(counts[format], "module"), list[i].Path))
	}
	return lines
}

// actions counts the output's tensors by what is done to them.
func actions(p *metalcast.Preview) (lines []string) {
	tensors, sources := map[string]int{}, map[string]int{}
	for _, t := range p.Tensors {
		tensors[t.Action]++
		sources[t.Action] += t.Sources
	}
	for _, a := range []string{"stacked", "quantized", "made", "dequantized", "transposed", "increased by 1", "cast", "copied"} {
		switch n := tensors[a]; {
		case a == "made" && n > 0:
			lines = append(lines, humanize.Comma(int64(n))+" scales and biases made")
		case n == 0:
		case sources[a] > n:
			lines = append(lines, fmt.Sprintf("%s %s, from %s", humanize.Comma(int64(n)), a, count(sources[a], "tensor")))
		default:
			lines = append(lines, fmt.Sprintf("%s %s", humanize.Comma(int64(n)), a))
		}
	}
	if p.ScalesUsed > 0 {
		lines = append(lines, fmt.Sprintf("%s applied, not written", count(p.ScalesUsed, "scale")))
	}
	return lines
}
