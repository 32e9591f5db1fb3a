package main

import (
	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
)

func newInspect(u *ui) *cobra.Command {
	var revision string
	c := &cobra.Command{
		Use:   "inspect SRC",
		Short: "tell what a checkpoint is, from headers alone",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := metalcast.Inspect(cmd.Context(), args[0], revision)
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
	w := u.table()
	w.fact("source", "%s", r.Source)
	if r.Repo != "" {
		w.fact("hub", "%s at %s", r.Repo, r.Revision)
	}
	w.fact("family", "%s (model_type %s)", r.Family, r.ModelType)
	if r.Form != "" {
		w.fact("form", "%s", r.Form)
	}
	w.fact("size", "%s in %s, %s", count(r.Tensors, "tensor"), count(r.Shards, "shard"), bytesText(r.Bytes))
	for i, d := range r.DTypes {
		w.fact(first(i, "types"), "%s: %s, %s", d.DType, count(d.Tensors, "tensor"), bytesText(d.Bytes))
	}
	for i, s := range r.Scales {
		w.fact(first(i, "scales"), "%s: %s", s.Dialect, count(s.Weights, "weight"))
	}
	for i, e := range r.Experts {
		w.fact(first(i, "experts"), "%d in each of %s", e.Experts, count(e.Layers, "layer"))
	}
	if r.MTP > 0 {
		w.fact("mtp", "%s", count(r.MTP, "tensor"))
	}
	if r.Vision > 0 {
		w.fact("vision", "%s", count(r.Vision, "tensor"))
	}
	switch {
	case r.MLXRejects > 0:
		w.fact("mlx-lm", "would reject %s as they are", count(r.MLXRejects, "tensor"))
	case r.MLXRejects == 0:
		w.fact("mlx-lm", "knows every tensor")
	}
	switch {
	case r.Problem != "":
		w.fact("convert", "%s", r.Problem)
	case r.Usable:
		w.fact("convert", "not needed, usable as it is")
	default:
		w.fact("convert", "ready")
	}
	w.flush()
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
