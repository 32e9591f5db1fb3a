package main

import (
	"fmt"
	"text/tabwriter"

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
		RunE:  func(_ *cobra.Command, args []string) error { return showPlan(u, args[0], o) },
	}
	conversionFlags(c, &o)
	c.Flags().BoolVar(&u.json, "json", false, "print one JSON document, with every tensor")
	return c
}

func showPlan(u *ui, src string, o metalcast.Options) error {
	p, err := metalcast.PlanConversion(src, o)
	if err != nil {
		return err
	}
	if u.json {
		return u.printJSON(p)
	}
	w := tabwriter.NewWriter(u.out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	row("source", "%s", p.Source)
	row("family", "%s (%s)", p.Family, p.Form)
	row("layout", "%s, %s", p.Layout, p.DType)
	row("read", "%s, %s", count(p.SourceTensors, "tensor"), bytesText(p.SourceBytes))
	row("write", "%s, %s on disk", count(len(p.Tensors), "tensor"), bytesText(p.DiskBytes))
	for _, a := range actions(p) {
		row("", "%s", a)
	}
	row("memory", "%s for windows in flight, of --max-memory %s", bytesText(p.MemoryBytes), bytesText(o.MaxMemory))
	w.Flush()

	u.printf("\n")
	fmt.Fprintf(w, "shard\ttensors\tsize\n")
	for _, s := range p.Shards {
		fmt.Fprintf(w, "%s\t%d\t%s\n", s.Name, s.Tensors, bytesText(s.Bytes))
	}
	w.Flush()
	if len(p.Dropped) > 0 {
		u.printf("\n")
		fmt.Fprintf(w, "dropped\tsize\twhy\n")
		for _, d := range p.Dropped {
			fmt.Fprintf(w, "%s\t%s\t%s\n", count(len(d.Tensors), "tensor"), bytesText(d.Bytes), d.Reason)
		}
		w.Flush()
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
		lines = append(lines, fmt.Sprintf("%s used up", count(p.ScalesUsed, "scale")))
	}
	return lines
}
