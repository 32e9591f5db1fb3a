package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
)

func newInspect(u *ui) *cobra.Command {
	var revision string
	c := &cobra.Command{
		Use:   "inspect SRC",
		Short: "tell what a checkpoint is, from headers alone",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := metalcast.Inspect(args[0], revision)
			if err != nil {
				return err
			}
			if u.json {
				return u.printJSON(r)
			}
			showInspection(u, r)
			return nil
		},
	}
	c.Flags().StringVar(&revision, "revision", "", "branch, tag or commit, where SRC is a model id")
	c.Flags().BoolVar(&u.json, "json", false, "print one JSON document")
	return c
}

func showInspection(u *ui, r *metalcast.Inspection) {
	w := tabwriter.NewWriter(u.out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	row("source", "%s", r.Source)
	if r.Repo != "" {
		row("hub", "%s at %s", r.Repo, r.Revision)
	}
	row("family", "%s (model_type %s)", r.Family, r.ModelType)
	if r.Form != "" {
		row("form", "%s", r.Form)
	}
	row("size", "%s in %s, %s", count(r.Tensors, "tensor"), count(r.Shards, "shard"), bytesText(r.Bytes))
	for i, d := range r.DTypes {
		row(first(i, "types"), "%s: %s, %s", d.DType, count(d.Tensors, "tensor"), bytesText(d.Bytes))
	}
	for i, s := range r.Scales {
		row(first(i, "scales"), "%s: %s", s.Dialect, count(s.Weights, "weight"))
	}
	for i, e := range r.Experts {
		row(first(i, "experts"), "%d in each of %s", e.Experts, count(e.Layers, "layer"))
	}
	if r.MTP > 0 {
		row("mtp", "%s", count(r.MTP, "tensor"))
	}
	if r.Vision > 0 {
		row("vision", "%s", count(r.Vision, "tensor"))
	}
	switch {
	case r.MLXRejects > 0:
		row("mlx-lm", "would reject %s as they are", count(r.MLXRejects, "tensor"))
	case r.MLXRejects == 0:
		row("mlx-lm", "knows every tensor")
	}
	switch {
	case r.Problem != "":
		row("convert", "%s", r.Problem)
	case r.Usable:
		row("convert", "not needed, usable as it is")
	default:
		row("convert", "ready")
	}
	w.Flush()
	if r.Hint != "" {
		u.messagef("hint: %s", r.Hint)
	}
	for _, n := range r.Notes {
		u.warningf("%s", n)
	}
}

func first(i int, name string) string {
	if i == 0 {
		return name
	}
	return ""
}
