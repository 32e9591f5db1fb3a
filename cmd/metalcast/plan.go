package main

import (
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
)

func newPlan(u *ui) *cobra.Command {
	var o metalcast.Options
	c := &cobra.Command{
		Use:   "plan SRC",
		Short: "show what convert would write, from headers alone",
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return showPlan(cmd, u, args[0], o) },
	}
	conversionFlags(c, &o)
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

// actions counts the output's tensors by what happens to them.
func actions(p *metalcast.Preview) (lines []string) {
	tensors, sources := map[string]int{}, map[string]int{}
	for _, t := range p.Tensors {
		tensors[t.Action]++
		sources[t.Action] += t.Sources
	}
	for _, a := range []string{"stacked", "dequantized", "cast", "copied"} {
		switch n := tensors[a]; {
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
